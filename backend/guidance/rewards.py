"""Reward models behind one function: how good pictures are for a prompt. Used without gradient, on candidates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ModelError
from . import questions
from .preference import load_aesthetic, load_image_reward
from .vlm import AT_ONCE, VisionLanguageModel

# (N, V, H, W, 3) sRGB in [0, 1], N candidates of V views each, and the prompt -> scores (N,), higher is better
Reward = Callable[[Tensor, str], Tensor]


def vlm_reward(vlm: VisionLanguageModel, at_once: int = AT_ONCE) -> Reward:
    """The VLM's own log-odds of Yes, the mean over its questions about an object; all its views go into one message.

    This is what joins RewardSDS to VLM3D: the critic that steers by gradient also picks the noise. at_once: pictures in
    one pass of the network, those of one candidate at least.
    """

    @torch.no_grad()
    def score(images: Tensor, prompt: str) -> Tensor:
        asked = [question.text for question in questions.about_object(prompt, vlm.wording)]
        return vlm.log_odds_of_each(images, asked, at_once).mean(1)

    return score


def mean_over_views(score_pictures: Callable[[Tensor, str], Tensor]) -> Reward:
    """A reward from a model that knows single pictures: (B, H, W, 3), prompt -> (B,)."""

    @torch.no_grad()
    def score(images: Tensor, prompt: str) -> Tensor:
        count, views = images.shape[:2]
        return score_pictures(images.flatten(0, 1), prompt).view(count, views).mean(1)

    return score


class RewardModel(NamedTuple):
    """A reward and what the user should know of how it reads a prompt."""

    score: Reward
    words_cut: Callable[[str], str]  # the end of a prompt that does not count


def load_reward(kind: str, folder: str, device: torch.device) -> RewardModel:
    """The reward "aesthetic" or "image-reward" from a folder with its weights, which are small and float32.

    Raises ModelError when they are missing or damaged.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise ModelError("there is no such folder", where=str(path), remedy="Give the folder of the reward's weights")
    if kind == "aesthetic":
        return RewardModel(mean_over_views(load_aesthetic(path, device)), lambda prompt: "")
    assert kind == "image-reward", kind
    model = load_image_reward(path, device)
    return RewardModel(mean_over_views(model), model.words_cut)
