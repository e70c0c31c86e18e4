"""The prior's noise for the views of one object, told what they show and where they are seen from."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .diffusion import DiffusionPrior
from .distillation import guide

AT_ONCE = 32  # samples in one network call, conditional and unconditional counted; one candidate at least


class Condition(NamedTuple):
    """What the denoiser is told of V views."""

    text: Tensor  # (V, L, C), embeddings of the prompt
    against: Tensor  # (V, L, C), of the negative prompt
    poses: Tensor  # (V, 16), camera-to-world as pose_vectors gives them


class Prediction(NamedTuple):
    """Noise (N V, c, h, w)."""

    guided: Tensor  # with the condition's guidance
    conditional: Tensor  # for the prompt alone


class ViewDenoiser:
    """Guided noise for candidates of V views each, a few candidates a call."""

    def __init__(self, prior: DiffusionPrior, condition: Condition, at_once: int = AT_ONCE) -> None:
        self.prior, self.condition = prior, condition
        self.at_once = at_once

    def predict(self, noisy: Tensor, t: int, scale: float) -> Prediction:
        """The noise in N candidates of V views (N V, c, h, w), all at timestep t. scale: of the guidance."""
        views = len(self.condition.poses)
        parts = noisy.split(max(1, self.at_once // (2 * views)) * views)
        guided, conditional = zip(*(self._predict(part, t, scale) for part in parts), strict=True)
        return Prediction(torch.cat(guided), torch.cat(conditional))

    def _predict(self, noisy: Tensor, t: int, scale: float) -> Prediction:
        text, against, poses = self.condition
        copies = len(noisy) // len(poses)
        words = torch.cat([side.repeat(copies, 1, 1) for side in (text, against)])
        times = torch.full((2 * len(noisy),), t, device=noisy.device)
        both = self.prior.predict_noise(noisy.repeat(2, 1, 1, 1), times, words, poses.repeat(2 * copies, 1))
        conditional, unconditional = both.chunk(2)
        return Prediction(guide(conditional, unconditional, scale), conditional)
