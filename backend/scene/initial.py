"""Signed distances an object starts from: negative inside, exact, and well clear of the box's faces."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Body = Literal["ellipsoid", "box"]
Start = Literal["ellipsoid", "box", "given"]  # given: the user's mesh, by distances at the grid's corners
FILL = 0.82  # share of each edge of the slot's box that the starting body spans
BISECTIONS = 45  # leave an error of 1e-13 of the bracket
FLOOR = 1e-6  # least coordinate, in radii: on a symmetry plane the foot's own coordinate would be 0 / 0


def starting_distance(start: Body, points: Tensor, edges: Tensor) -> Tensor:
    """Signed distance to the starting body in a box around the origin: (N,), float32, in the unit of `points`.

    points: (N, 3). edges: (3,), lengths of the box's edges. Never noise: that fractures the first surfaces.
    """
    half = 0.5 * FILL * edges
    return (ellipsoid if start == "ellipsoid" else box)(points, half)


def ellipsoid(points: Tensor, radii: Tensor) -> Tensor:
    """Signed distance to the axis-aligned ellipsoid around the origin: (N,), in the unit of `points` (N, 3).

    The foot of the perpendicular from p is q = r^2 p / (t + r^2) for the one t > -min(r^2) that puts q on the surface
    (Eberly, "Distance from a point to an ellipsoid", 2013); q's level falls with t, so t is found by bisection.
    The usual closed-form bound is not used: its gradient is far from unit length in a flat or long box.
    """
    p = points.T.cpu().double().abs().contiguous()  # (3, N); not every device has float64
    r = radii.cpu().double()[:, None]
    p = torch.maximum(p, FLOOR * r)
    squared, pull = r * r, r * p
    low = 0.5 * pull[squared.argmin()] - squared.min()  # here q lies outside the ellipsoid
    high = pull.norm(dim=0)  # and here inside
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        outside = (pull / (middle + squared)).square().sum(0) > 1.0
        low = torch.where(outside, middle, low)
        high = torch.where(outside, high, middle)
    foot = squared * p / (0.5 * (low + high) + squared)
    distance = (p - foot).norm(dim=0)
    inside = (p / r).square().sum(0) < 1.0
    return torch.where(inside, -distance, distance).to(points)


def box(points: Tensor, half: Tensor) -> Tensor:
    """Signed distance to the axis-aligned box of half edges `half` (3,) around the origin: (N,)."""
    beyond = points.abs() - half
    outside = torch.linalg.vector_norm(beyond.clamp_min(0.0), dim=-1)
    return outside + beyond.amax(-1).clamp_max(0.0)
