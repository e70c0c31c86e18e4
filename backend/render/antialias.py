"""Silhouette antialiasing: blends pixel pairs that straddle an outline, which carries gradient to shape and placement.

The idea is nvdiffrast's (arXiv 2011.03277, section 3.6), written from the paper. How much a pair is blended also
depends on how the outline lies: with its unit normal (x, y) a horizontal pair counts x^2 and a vertical pair y^2. An
oblique outline lies between pairs of both kinds, and so counts once in all, in the picture's values and its gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .barycentric import cross2, pixel_centres, seen_from
from .outlines import Outlines, find_outlines

TINY = 1e-37
TRACE = 1e-6


def antialias(picture: Tensor, triangle: Tensor, clip: Tensor, faces: Tensor) -> Tensor:
    """`picture` with outlines blended by where they cut the segment between two pixel centres: (B, H, W, C).

    picture: (B, H, W, C). triangle: (B, H, W) from `rasterize`. clip: (B, V, 4). faces: (F, 3).
    """
    batch, height, width, channels = picture.shape
    with torch.no_grad():
        outlines = find_outlines(triangle, clip, faces)
    if len(outlines.view) == 0:
        return picture
    share = _share(outlines, clip, height, width)
    near = (outlines.view * height + outlines.row) * width + outlines.column
    beyond = near + outlines.step_row * width + outlines.step_column
    reaches_over = share > 0  # the near surface covers part of the other pixel; else that shows in the near one
    target, source = torch.where(reaches_over, beyond, near), torch.where(reaches_over, near, beyond)
    amount = share.abs()
    total = torch.zeros(batch * height * width, dtype=amount.dtype, device=amount.device).index_add(0, target, amount)
    # A speck's four sides together may claim more than the pixel; it keeps a trace, or rounding would go below zero.
    amount = amount / ((1.0 + TRACE) * total[target]).clamp_min(1.0)
    pixels = picture.reshape(-1, channels)
    change = amount[:, None] * (pixels.index_select(0, source) - pixels.index_select(0, target))
    return pixels.index_add(0, target, change).view(picture.shape)


def _share(outlines: Outlines, clip: Tensor, height: int, width: int) -> Tensor:
    """How far the near surface reaches beyond the middle of each pair, weighted by the outline's direction: (N,).

    In [-1/2, 1/2] times the weight; differentiable in the ends of the outline's edge.
    """
    corners = clip.reshape(-1, 4)[:, [0, 1, 3]].index_select(
        0, (outlines.view[:, None] * clip.shape[1] + outlines.ends).flatten()
    )
    a, b = corners.view(-1, 2, 3).unbind(1)
    pixel = pixel_centres(outlines.row.to(clip.dtype), outlines.column.to(clip.dtype), height, width)
    from_a, from_b = seen_from(a, pixel), seen_from(b, pixel)
    at_start = cross2(from_a, from_b)  # twice the area that the edge spans with the pixel's centre
    per_column = (from_a[:, 1] * b[:, 2] - a[:, 2] * from_b[:, 1]) * (2.0 / width)
    per_row = (from_a[:, 0] * b[:, 2] - a[:, 2] * from_b[:, 0]) * (2.0 / height)
    along = per_column * outlines.step_column + per_row * outlines.step_row
    cut = -at_start / torch.where(along == 0.0, 1.0, along)
    # The weights of the two kinds of pairs add up to one, so their own gradients cancel but for noise: left out.
    with torch.no_grad():
        weight = along.square() / (per_column.square() + per_row.square()).clamp_min(TINY)
    return weight * (cut.clamp(0.0, 1.0) - 0.5)
