"""The prior's noise for the views of one object, told what they show and where they are seen from."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .diffusion import DiffusionPrior
from .distillation import guide, perp_neg
from .variational import VariationalScore

AT_ONCE = 32  # samples in one network call, conditional and unconditional counted; one candidate at least


class Condition(NamedTuple):
    """What the denoiser is told of V views."""

    text: Tensor  # (V, L, C), embeddings of the prompt
    against: Tensor  # (V, L, C), of the negative prompt
    poses: Tensor  # (V, 16), camera-to-world as pose_vectors gives them
    negatives: Tensor | None = None  # (K, V, L, C), for Perp-Neg
    negative_weights: Tensor | None = None  # (K, V), how much each view is turned away from each


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
        parts = self._parts(noisy, sides=len(self._words(1)))
        guided, conditional = zip(*(self._predict(part, t, scale) for part in parts), strict=True)
        return Prediction(torch.cat(guided), torch.cat(conditional))

    def predict_variational(self, own: VariationalScore, noisy: Tensor, t: int) -> Tensor:
        """The noise that a variational score sees in N candidates of V views (N V, c, h, w), for the prompt alone."""
        return torch.cat([self._predict_variational(own, part, t) for part in self._parts(noisy, sides=1)])

    def _parts(self, noisy: Tensor, sides: int) -> tuple[Tensor, ...]:
        """Whole candidates, as many in each part as go into one call in which every sample is there `sides` times."""
        views = len(self.condition.poses)
        return noisy.split(max(1, self.at_once // (sides * views)) * views)

    def _predict_variational(self, own: VariationalScore, noisy: Tensor, t: int) -> Tensor:
        copies, c = len(noisy) // len(self.condition.poses), self.condition
        times = torch.full((len(noisy),), t, device=noisy.device)
        return own.predict_noise(noisy, times, c.text.repeat(copies, 1, 1), c.poses.repeat(copies, 1))

    def _predict(self, noisy: Tensor, t: int, scale: float) -> Prediction:
        copies = len(noisy) // len(self.condition.poses)
        words = self._words(copies)
        sides = len(words)
        times = torch.full((sides * len(noisy),), t, device=noisy.device)
        poses = self.condition.poses.repeat(sides * copies, 1)
        predicted = self.prior.predict_noise(noisy.repeat(sides, 1, 1, 1), times, torch.cat(words), poses)
        conditional, unconditional, *negatives = predicted.chunk(sides)
        weights = self.condition.negative_weights
        if weights is None:
            return Prediction(guide(conditional, unconditional, scale), conditional)
        away = torch.stack(negatives)
        return Prediction(perp_neg(conditional, unconditional, away, weights.repeat(1, copies), scale), conditional)

    def _words(self, copies: int) -> list[Tensor]:
        """The embeddings of prompt, negative prompt and Perp-Neg's negatives, each for so many candidates."""
        c = self.condition
        sides = [c.text, c.against, *(() if c.negatives is None else c.negatives)]
        return [side.repeat(copies, 1, 1) for side in sides]
