"""Reward models behind one function: how good pictures are for a prompt. Used without gradient, on candidates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import questions
from .vlm import VisionLanguageModel

# (N, V, H, W, 3) sRGB in [0, 1], N candidates of V views each, and the prompt -> scores (N,), higher is better
Reward = Callable[[Tensor, str], Tensor]


def vlm_reward(vlm: VisionLanguageModel) -> Reward:
    """The VLM's own log-odds of Yes, the mean over its questions about an object; all views go into one message.

    This is what joins RewardSDS to VLM3D: the critic that steers by gradient also picks the noise.
    """

    @torch.no_grad()
    def score(images: Tensor, prompt: str) -> Tensor:
        asked = questions.about_object(prompt)
        return torch.stack([vlm.log_odds(views, asked).mean() for views in images])

    return score


def mean_over_views(score_pictures: Callable[[Tensor, str], Tensor]) -> Reward:
    """A reward from a model that knows single pictures: (B, H, W, 3), prompt -> (B,)."""

    @torch.no_grad()
    def score(images: Tensor, prompt: str) -> Tensor:
        count, views = images.shape[:2]
        return score_pictures(images.flatten(0, 1), prompt).view(count, views).mean(1)

    return score
