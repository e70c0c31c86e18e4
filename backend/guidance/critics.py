"""What the frozen networks say of pictures, as a pull on the pixels: the gradient that would improve them.

Each network is run backward once, down to the pictures; the loop adds the pulls up and goes on through the renderer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..schema import RewardForm
from .vlm import Answers, VisionLanguageModel


class Pull(NamedTuple):
    """One term's value and its gradient in the pictures."""

    value: Tensor  # loss: scalar; reward: (Q,) log-odds
    gradient: Tensor  # (B, H, W, 3), of what is to be made smaller


def reward_pull(
    vlm: VisionLanguageModel, pictures: Tensor, questions: Sequence[str], form: RewardForm = "logistic"
) -> Pull:
    """The VLM's log-odds of Yes for each question about the pictures, and the gradient that raises the reward.

    form: "log-odds" and "probability" are VLM3D's rewards (arXiv 2509.15772), r = z_yes - z_no and p_yes - p_no, summed
    over the questions. "logistic" is log sigmoid(r): a question that is answered Yes with confidence no longer pulls,
    and the others pull the more.
    """
    leaf = pictures.detach().requires_grad_()
    answers = vlm.ask(vlm.look(leaf), questions)
    return Pull(answers.log_odds.detach(), torch.autograd.grad(-_reward(answers, form).sum(), leaf)[0])


def _reward(answers: Answers, form: RewardForm) -> Tensor:
    if form == "logistic":
        return torch.nn.functional.logsigmoid(answers.log_odds)
    return answers.log_odds if form == "log-odds" else answers.margin


def balanced(pull: Tensor, reference_norm: Tensor, weight: float | Tensor) -> Tensor:
    """`pull` scaled so that its norm is `weight` times the reference norm; nothing where there is no pull."""
    return pull * (weight * reference_norm / pull.norm().clamp_min(1e-12))
