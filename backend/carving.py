"""Holes: where a picture should show the background, the surface that is in the way gives way.

A picture's gradient moves outlines and recolours what is inside them, so a skin over a torus's hole is painted like the
background and stays. Here the signed distance rises at the points of such a skin, step by step, until it is through.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .render.cameras import Cameras, unproject
from .render.shade import Frames

MOST = 0.6  # how much nearer to the background than what is shown a colour must be to mean it: 0 as far, 1 all the way
TELLING = 0.15  # least distance of colour and background, sRGB: where they are alike nothing can be said


def carving_loss(
    frames: Frames, wanted: Tensor, background: Tensor, cameras: Cameras, distance: Callable[[Tensor], Tensor]
) -> Tensor:
    """Minus the signed distance at the pixels' points, by how much each is wanted to be background, over V: a scalar.

    wanted: (V, H, W, 3), sRGB, what the prior would see. background: (V, 3), what was behind the object.
    distance: of points (P, 3) in the cameras' world, (P,), negative inside; the gradient goes through it alone.
    """
    with torch.no_grad():
        behind = background[:, None, None]
        shown_off, wanted_off = (frames.rgb - behind).norm(dim=-1), (wanted - behind).norm(dim=-1)
        inside = (frames.alpha[..., 0] > 0.9) & (shown_off > TELLING)
        nearer = 1 - wanted_off / shown_off.clamp_min(TELLING)
        weight = ((nearer - MOST) / (1 - MOST)).clamp(0.0, 1.0) * inside
        seen = weight > 0
        points = unproject(cameras, frames.depth)[seen]
    return -(weight[seen] * distance(points)).sum() / len(wanted)
