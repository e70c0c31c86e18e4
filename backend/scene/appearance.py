"""The colour of an object as a function of the position in its box, so that it survives every new mesh."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .volume import cells_per_axis, resize, sample

LEVELS = (4, 8, 16, 32)  # cells along the box's longest edge
FEATURES = 4  # per level
HIDDEN = 32
ROUGHNESS = (0.08, 0.9)  # range
METALLIC = (0.0, 0.9)  # range
START_FEATURE = 0.05  # largest initial feature per level; not 0, so that the first steps can tell places apart
START_ROUGHNESS = 0.5
START_METALLIC = 1e-3  # 0 in an 8-bit texture; 0 itself is out of a sigmoid's reach


class Material(NamedTuple):
    """Principled surface at N points."""

    albedo: Tensor  # (N, 3), sRGB in [0, 1]
    roughness: Tensor  # (N,), in ROUGHNESS
    metallic: Tensor  # (N,), in METALLIC


class Appearance(nn.Module):
    """Feature grids of several resolutions, added up, and a small network that reads them.

    The levels are summed instead of concatenated: the sum is one dense grid, made once a call by cheap matrix
    products, and looked up once per point. Coarse levels still move large areas at once.

    Roughness and metallic start constant. The Lambert renderer gives them no gradient, so with the starter preset
    they stay 0.5 and 0; they are here for renderers that show highlights.
    """

    def __init__(self, size: tuple[float, float, float], device: torch.device, generator: torch.Generator) -> None:
        super().__init__()
        cells = [cells_per_axis(size, level, least=1) for level in LEVELS]
        self.levels = nn.ParameterList(
            nn.Parameter(_uniform((FEATURES, nx + 1, ny + 1, nz + 1), START_FEATURE, device, generator))
            for nx, ny, nz in cells
        )
        self.hidden = _linear(FEATURES, HIDDEN, math.sqrt(6.0 / FEATURES), device, generator)
        self.albedo = _linear(HIDDEN, 3, math.sqrt(1.0 / HIDDEN), device, generator)
        self.surface = _linear(HIDDEN, 2, 0.0, device, generator)
        self.detail = 1.0  # share of the variation over the box that is shown; 0: one colour everywhere
        with torch.no_grad():
            self.hidden.bias.copy_(_uniform((HIDDEN,), START_FEATURE, device, generator))
            start = [_to_raw(START_ROUGHNESS, ROUGHNESS), _to_raw(START_METALLIC, METALLIC)]
            self.surface.bias.copy_(torch.tensor(start))

    def colour(self, local: Tensor) -> Tensor:
        """Albedo at the points: (N, 3), sRGB in [0, 1]. local: (N, 3) in [-1/2, 1/2]. About mid grey at first."""
        return torch.sigmoid(self.albedo(self._features(local)))

    def material(self, local: Tensor) -> Material:
        """Albedo, roughness and metallic at the points. local: (N, 3) in [-1/2, 1/2]."""
        features = self._features(local)
        share = torch.sigmoid(self.surface(features))
        return Material(
            torch.sigmoid(self.albedo(features)), _within(share[:, 0], ROUGHNESS), _within(share[:, 1], METALLIC)
        )

    def _features(self, local: Tensor) -> Tensor:
        """(N, HIDDEN)."""
        total = self._grid()
        mean = total.flatten(1).mean(1)[:, None, None, None]
        return torch.relu(self.hidden(sample(mean + self.detail * (total - mean), local)))

    def _grid(self) -> Tensor:
        """All levels added up: (FEATURES, nx + 1, ny + 1, nz + 1)."""
        total = self.levels[0]
        for level in list(self.levels)[1:]:
            nx, ny, nz = (corners - 1 for corners in level.shape[1:])
            total = resize(total, (nx, ny, nz)) + level
        return total


def _linear(inputs: int, outputs: int, bound: float, device: torch.device, generator: torch.Generator) -> nn.Linear:
    """A layer with uniform weights and a zero bias, drawn from `generator` instead of torch's global one."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs, device=device)
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(_uniform((outputs, inputs), bound, device, generator))
        layer.bias.zero_()
    return layer


def _uniform(shape: tuple[int, ...], bound: float, device: torch.device, generator: torch.Generator) -> Tensor:
    return bound * (2.0 * torch.rand(shape, generator=generator, device=generator.device).to(device) - 1.0)


def _within(share: Tensor, interval: tuple[float, float]) -> Tensor:
    return interval[0] + (interval[1] - interval[0]) * share


def _to_raw(value: float, interval: tuple[float, float]) -> float:
    """What the sigmoid has to be given for `value`."""
    share = (value - interval[0]) / (interval[1] - interval[0])
    return math.log(share / (1.0 - share))
