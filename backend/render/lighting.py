"""Random light and background per view, the same for training pictures and for the optimisation."""

from __future__ import annotations

import torch
from torch import Tensor

from .cameras import Cameras
from .shade import Lighting

BACKGROUND = (0.45, 0.85)  # grey level, sRGB
TINT = 0.03  # largest deviation of one background channel from its grey level
AMBIENT = (0.35, 0.45)  # share of the light that comes from everywhere
KEY = (-0.4, 0.6)  # where the light stands off the camera, to the right and up, in lengths of the view vector
SPREAD = 0.15  # how far it wanders from there; little, so that shading tells the shape


def sample_lighting(cameras: Cameras, target: Tensor, generator: torch.Generator) -> Lighting:
    """A light from behind the camera's shoulder and a plain greyish background for each view, one draw for all views.

    target: (3,) metres, what the cameras look at. Views of one object share light offset and background, so that
    they could be photographs of one sitting.
    """
    device = cameras.position.device
    draw = torch.rand(8, generator=generator, device=generator.device).to(device)
    direction = key_light(cameras, target, (draw[:3] * 2 - 1) * SPREAD)
    views = len(direction)
    ambient = (AMBIENT[0] + (AMBIENT[1] - AMBIENT[0]) * draw[3]).expand(views)
    grey = BACKGROUND[0] + (BACKGROUND[1] - BACKGROUND[0]) * draw[4]
    background = (grey + (draw[5:8] * 2 - 1) * TINT).clamp(0.0, 1.0).expand(views, 3)
    return Lighting(direction, ambient, background)


def studio_lighting(cameras: Cameras, target: Tensor) -> Lighting:
    """The one light of previews and of pictures that are compared: over the camera's left shoulder, light backdrop."""
    direction = key_light(cameras, target, torch.zeros(3, device=target.device))
    views = len(direction)
    ones = torch.ones(views, device=target.device)
    return Lighting(direction, 0.45 * ones, 0.86 * ones[:, None].expand(-1, 3))


def key_light(cameras: Cameras, target: Tensor, offset: Tensor) -> Tensor:
    """Unit vectors towards a light over each camera's left shoulder: (B, 3). offset: (3,) moves it, world axes."""
    towards_camera = torch.nn.functional.normalize(cameras.position - target, dim=-1)
    right = cameras.world_to_camera[:, 0, :3]
    up = torch.tensor([0.0, 0.0, 1.0], device=target.device)
    return torch.nn.functional.normalize(towards_camera + KEY[0] * right + KEY[1] * up + offset, dim=-1)
