"""Where a pixel lies in its triangle, differentiable in the triangle's corners.

Everything is in homogeneous picture coordinates (x, y, w) with the pixel's centre moved to the origin: x - w x_pixel.
That needs no division, so corners behind the camera do no harm, and keeps the digits that small triangles need.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Hits(NamedTuple):
    """Where pixels meet their triangles."""

    weights: Tensor  # (P, 3), perspective-correct, of the corners; they add up to 1
    distance: Tensor  # (P,), metres along the viewing axis
    front: Tensor  # (P,) bool, the triangle's corners run counter-clockwise in the picture


def pixel_centres(row: Tensor, column: Tensor, height: int, width: int) -> Tensor:
    """Normalised device coordinates (x, y) of pixel centres: (..., 2). row, column: (...) floating point."""
    return torch.stack([(column + 0.5) * (2.0 / width) - 1.0, 1.0 - (row + 0.5) * (2.0 / height)], dim=-1)


def seen_from(point: Tensor, pixel: Tensor) -> Tensor:
    """Homogeneous picture positions with `pixel` as origin: (..., 2). point: (..., 3) x, y, w. pixel: (..., 2)."""
    return point[..., :2] - pixel * point[..., 2:]


def cross2(a: Tensor, b: Tensor) -> Tensor:
    """The cross product of vectors in the plane: (...). a, b: (..., 2)."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def hit(corners: Tensor, pixel: Tensor) -> Hits:
    """Where the rays through the pixels' centres meet the triangles' planes (Olano and Greer 1997, section 3).

    corners: (P, 3, 3) clip-space x, y, w of each triangle's corners. pixel: (P, 2) normalised device coordinates.
    """
    q = seen_from(corners, pixel[:, None])
    q0, q1, q2 = q.unbind(1)
    areas = torch.stack([cross2(q1, q2), cross2(q2, q0), cross2(q0, q1)], dim=1)
    total = areas.sum(1, keepdim=True)
    weights = areas / total
    return Hits(weights, (weights * corners[..., 2]).sum(1), total[:, 0] > 0.0)
