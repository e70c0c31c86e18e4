"""Where a pixel lies in its triangle, differentiable in the triangle's corners."""

from __future__ import annotations

import torch
from torch import Tensor


def pixel_centres(row: Tensor, column: Tensor, height: int, width: int) -> Tensor:
    """Homogeneous normalised device coordinates (x, y, 1) of pixel centres: (P, 3)."""
    x = (column + 0.5) * (2.0 / width) - 1.0
    y = 1.0 - (row + 0.5) * (2.0 / height)
    return torch.stack([x, y, torch.ones_like(x)], dim=-1)


def edge_functions(corners: Tensor) -> Tensor:
    """Rows e_i with e_i . (x, y, 1) = b_i / w, the barycentric weights over w: (P, 3, 3).

    corners: (P, 3, 4) clip coordinates of each triangle. Olano and Greer 1997, equations 3 to 6.
    """
    p0, p1, p2 = corners[..., [0, 1, 3]].unbind(1)
    rows = torch.stack([torch.linalg.cross(p1, p2), torch.linalg.cross(p2, p0), torch.linalg.cross(p0, p1)], dim=1)
    volume = (p0 * rows[:, 0]).sum(-1)
    return rows / volume[:, None, None]


def barycentrics(corners: Tensor, row: Tensor, column: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Perspective-correct weights (P, 3) of the corners at the pixel centres, and w (P,), the distance along the axis."""
    pixel = pixel_centres(row.float(), column.float(), height, width)
    over_w = (edge_functions(corners) @ pixel[:, :, None])[:, :, 0]
    inverse_w = over_w.sum(-1, keepdim=True)
    return over_w / inverse_w, 1.0 / inverse_w[:, 0]


def is_front(corners: Tensor) -> Tensor:
    """Whether triangles look at the camera (counter-clockwise in the picture): corners (..., 3, 4) clip to (...) bool."""
    return torch.linalg.det(corners[..., [0, 1, 3]]) > 0.0
