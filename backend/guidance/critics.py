"""What the frozen networks say of pictures, as a pull on the pixels: the gradient that would improve them.

Each network is run backward once, down to the pictures; the loop adds the pulls up and goes on through the renderer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .vlm import VisionLanguageModel


class Pull(NamedTuple):
    """One term's value and its gradient in the pictures."""

    value: Tensor  # loss: scalar; reward: (Q,) log-odds
    gradient: Tensor  # (B, H, W, 3), of what is to be made smaller


def reward_pull(vlm: VisionLanguageModel, pictures: Tensor, questions: Sequence[str]) -> Pull:
    """The VLM's log-odds of Yes for each question about the pictures, and the gradient that raises what is low.

    The gradient is that of sum softplus(-r), VLM3D's reward through the logistic loss: a question that is answered
    Yes with confidence no longer pulls.
    """
    leaf = pictures.detach().requires_grad_()
    log_odds = vlm.log_odds(leaf, questions)
    loss = torch.nn.functional.softplus(-log_odds).sum()
    return Pull(log_odds.detach(), torch.autograd.grad(loss, leaf)[0])


def balanced(pull: Tensor, reference_norm: Tensor, weight: float | Tensor) -> Tensor:
    """`pull` scaled so that its norm is `weight` times the reference norm; nothing where there is no pull."""
    return pull * (weight * reference_norm / pull.norm().clamp_min(1e-12))
