"""The views the frozen networks look at, drawn in one place for training pictures and for the optimisation alike."""

from __future__ import annotations

import torch
from torch import Tensor

from .cameras import Cameras, ViewRange, fit_distance, orbit, sample_ring

OBJECT_RADIUS = 0.72  # sphere an object's own views are fitted to, in lengths of its box's longest edge
OBJECT_VIEWS = ViewRange(elevation_deg=(-15.0, 80.0), fov_deg=(35.0, 45.0), zoom=(0.95, 1.15))
SCENE_AZIMUTHS_DEG = (0.0, 90.0)  # of a scene's two views: from the front and from the right
SCENE_ELEVATION_DEG = (12.0, 28.0)
SCENE_TURN_DEG = 8.0  # largest deviation from the two azimuths
SCENE_FOV_DEG = 40.0


def object_views(
    count: int,
    generator: torch.Generator,
    device: torch.device,
    elevation_deg: tuple[float, float] = OBJECT_VIEWS.elevation_deg,
) -> Cameras:
    """A ring of `count` views of one object in its canonical frame (box centred on the origin, longest edge 1).

    elevation_deg: the interval the ring's elevation is drawn from.
    """
    views = OBJECT_VIEWS._replace(elevation_deg=elevation_deg)
    return sample_ring(count, views, torch.zeros(3, device=device), OBJECT_RADIUS, generator)


def scene_views(low: Tensor, high: Tensor, generator: torch.Generator) -> Cameras:
    """The scene from the front and from the right, a little from above, slightly varied: two cameras.

    low, high: (3,) metres, the scene's bounds.
    """
    draw = torch.rand(3, generator=generator, device=generator.device).to(low.device)
    azimuth_deg = torch.tensor(SCENE_AZIMUTHS_DEG, device=low.device) + (draw[0] * 2 - 1) * SCENE_TURN_DEG
    span = SCENE_ELEVATION_DEG[1] - SCENE_ELEVATION_DEG[0]
    elevation_deg = (SCENE_ELEVATION_DEG[0] + span * draw[1]).expand(2)
    return framed(low, high, azimuth_deg % 360.0, elevation_deg, zoom=0.8 + 0.15 * draw[2])


def framed(low: Tensor, high: Tensor, azimuth_deg: Tensor, elevation_deg: Tensor, zoom: float | Tensor) -> Cameras:
    """Cameras at the given angles that frame the bounds; zoom 1 just fits their bounding sphere."""
    fov_deg = torch.full_like(azimuth_deg, SCENE_FOV_DEG)
    radius = (high - low).norm().clamp_min(1e-6) / 2
    return orbit(azimuth_deg, elevation_deg, fit_distance(fov_deg, radius) * zoom, fov_deg, (low + high) / 2)
