"""Pictures of exported scenes, for contact sheets."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..render.lighting import studio_lighting
from ..render.shade import render
from ..render.views import framed
from ..scene.mesh import merge
from .things import Thing, coloured_mesh, own_colour

SUPERSAMPLING = 2


def photograph(things: dict[str, Thing], px: int) -> NDArray[np.float32]:
    """The scene from the front, a little from the left and above: (px, px, 3) sRGB in [0, 1]."""
    mesh = merge([coloured_mesh(thing, thing.world) for thing in things.values()])
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    cameras = framed(low, high, torch.tensor([325.0]), torch.tensor([22.0]), zoom=0.95)
    large = px * SUPERSAMPLING
    rgb = render(mesh, own_colour, cameras, studio_lighting(cameras, (low + high) / 2), large, large).rgb
    return torch.nn.functional.avg_pool2d(rgb.permute(0, 3, 1, 2), SUPERSAMPLING)[0].permute(1, 2, 0).numpy()
