"""Bicubic resizing of pictures as two matrix products, to the very bytes that Pillow gives, with a gradient.

The official image processors resize bytes with Pillow: along one axis, rounded, then along the other, rounded, with
weights in fixed point. A matrix product in float64 repeats that exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHARPNESS = -0.5  # the cubic kernel's free parameter (Keys 1981, "a")
SUPPORT = 2.0  # samples on each side that the kernel reaches, where nothing is scaled down
FIXED_POINT = 2.0**22  # steps between 0 and 1 of a weight in Pillow


def resize(planes: Tensor, rows: int, columns: int, rounded: bool = True) -> Tensor:
    """The planes (..., H, W) in [0, 1] resized to (..., rows, columns), in [0, 1]; themselves where that is their size.

    rounded: values go through bytes as in Pillow, equal to it for pictures of bytes; the gradient passes the rounding
    as if it were not there. Otherwise nothing is rounded, and the result is smooth in the input.
    """
    height, width = planes.shape[-2:]
    if (height, width) == (rows, columns):
        return planes
    exact = torch.float32 if planes.device.type == "mps" else torch.float64  # MPS has no float64: a byte may be off
    values = planes.to(exact) * 255
    if rounded:
        values = _to_byte(values)
    for axis, size, wanted in _passes(height, width, rows, columns):
        weights = _weights(size, wanted, rounded).to(values)
        values = weights @ values if axis == "vertical" else values @ weights.T
        values = _to_byte(values) if rounded else values
    return (values.clamp(0, 255) / 255).to(planes.dtype)


def _passes(height: int, width: int, rows: int, columns: int) -> list[tuple[str, int, int]]:
    """The passes in Pillow's order: (axis, size, wanted size). Two rounded passes do not commute.

    The order was found by comparing outputs with Pillow 13.0, which saves work; older releases always take the
    horizontal pass first. They agree on every picture whose aspect does not change, square ones for instance.
    """
    passes = [("horizontal", width, columns), ("vertical", height, rows)]
    if rows < height and height - rows > 2 * (width - columns):
        passes.reverse()
    return [one for one in passes if one[1] != one[2]]


def _to_byte(values: Tensor) -> Tensor:
    """The nearest whole number in [0, 255], halves upwards; its gradient is that of the clamped value."""
    clamped = values.clamp(0, 255)
    return clamped + ((values + 0.5).floor().clamp(0, 255) - clamped).detach()


def _weights(size: int, wanted: int, fixed_point: bool) -> Tensor:
    """How much each of `size` samples adds to each of `wanted`: (wanted, size) float64, rows add up to 1."""
    scale = size / wanted
    widen = max(scale, 1.0)  # the kernel covers what falls into one sample when scaling down: antialiasing
    centre = (torch.arange(wanted, dtype=torch.float64)[:, None] + 0.5) * scale
    first = (centre - SUPPORT * widen + 0.5).trunc().clamp_min(0)
    last = (centre + SUPPORT * widen + 0.5).trunc().clamp_max(size)
    index = torch.arange(size, dtype=torch.float64)[None]
    inside = (index >= first) & (index < last)
    weights = _cubic((index - centre + 0.5) / widen) * inside
    weights = weights / weights.sum(1, keepdim=True)
    return (weights * FIXED_POINT).round() / FIXED_POINT if fixed_point else weights


def _cubic(x: Tensor) -> Tensor:
    """The bicubic kernel at x."""
    x, a = x.abs(), SHARPNESS
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
