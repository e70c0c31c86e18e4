"""Where views are taken from. World: Z up, the front view looks along +Y. Camera: +X right, +Y up, looks along -Z."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .barycentric import pixel_centres

NEAR = 0.05  # near plane, in units of the orbit's distance
OVERHEAD_DEG = 60.0  # elevation beyond which a view is called "overhead"
FAR = 20.0  # far plane, in units of the orbit's distance


class Cameras(NamedTuple):
    """A batch of perspective cameras with square pictures."""

    world_to_camera: Tensor  # (B, 4, 4)
    camera_to_clip: Tensor  # (B, 4, 4), OpenGL clip space: -w <= x, y, z <= w
    position: Tensor  # (B, 3), world, metres
    azimuth_deg: Tensor  # (B,), 0 front (at -Y), 90 right (at +X), 180 back
    elevation_deg: Tensor  # (B,), 0 level, 90 straight above

    @property
    def world_to_clip(self) -> Tensor:
        """(B, 4, 4), applied to column vectors."""
        return self.camera_to_clip @ self.world_to_camera


def orbit(azimuth_deg: Tensor, elevation_deg: Tensor, distance: Tensor, fov_deg: Tensor, target: Tensor) -> Cameras:
    """Cameras on a sphere around `target`, looking at it, upright.

    azimuth_deg, elevation_deg, distance (metres), fov_deg: (B,). target: (3,) or (B, 3), metres.
    """
    azimuth, elevation = torch.deg2rad(azimuth_deg), torch.deg2rad(elevation_deg)
    away = torch.stack(
        [elevation.cos() * azimuth.sin(), -elevation.cos() * azimuth.cos(), elevation.sin()], dim=-1
    )  # (B, 3), from the target to the camera
    right = torch.stack([azimuth.cos(), azimuth.sin(), torch.zeros_like(azimuth)], dim=-1)
    up = torch.linalg.cross(away, right)
    position = target + distance[:, None] * away
    rotation = torch.stack([right, up, away], dim=1)  # rows: the camera's axes in the world
    world_to_camera = torch.eye(4, device=position.device).repeat(len(position), 1, 1)
    world_to_camera[:, :3, :3] = rotation
    world_to_camera[:, :3, 3] = -(rotation @ position[:, :, None])[:, :, 0]
    return Cameras(world_to_camera, _perspective(fov_deg, distance), position, azimuth_deg, elevation_deg)


def _perspective(fov_deg: Tensor, distance: Tensor) -> Tensor:
    focal = 1.0 / torch.tan(torch.deg2rad(fov_deg) / 2)
    near, far = NEAR * distance, FAR * distance
    clip = torch.zeros(len(focal), 4, 4, device=focal.device)
    clip[:, 0, 0] = focal
    clip[:, 1, 1] = focal
    clip[:, 2, 2] = (far + near) / (near - far)
    clip[:, 2, 3] = 2 * far * near / (near - far)
    clip[:, 3, 2] = -1.0
    return clip


def unproject(cameras: Cameras, depth: Tensor) -> Tensor:
    """What the middles of the pixels show: (B, H, W, 3) metres, world. depth: (B, H, W), along the viewing axis."""
    height, width = depth.shape[1:]
    sides = torch.arange(height).to(depth), torch.arange(width).to(depth)
    row, column = torch.meshgrid(*sides, indexing="ij")
    pixel = pixel_centres(row, column, height, width)
    focal = cameras.camera_to_clip[:, 0, 0, None, None]
    in_camera = torch.cat([pixel * (depth / focal)[..., None], -depth[..., None]], dim=-1)
    rotation = cameras.world_to_camera[:, None, None, :3, :3]
    return (in_camera[..., None, :] @ rotation)[..., 0, :] + cameras.position[:, None, None]


def fit_distance(fov_deg: Tensor, radius: float | Tensor) -> Tensor:
    """Distance at which a sphere of `radius` metres just fills the picture."""
    return radius / torch.sin(torch.deg2rad(fov_deg) / 2)


class ViewRange(NamedTuple):
    """What random views are drawn from, each interval uniformly."""

    elevation_deg: tuple[float, float] = (-10.0, 60.0)
    fov_deg: tuple[float, float] = (35.0, 45.0)
    zoom: tuple[float, float] = (0.95, 1.15)  # factor on the distance that just fits the target's bounding sphere


def sample_ring(
    count: int, views: ViewRange, target: Tensor, radius: float | Tensor, generator: torch.Generator
) -> Cameras:
    """`count` cameras evenly spaced in azimuth at one random start, elevation, field of view and distance (MVDream)."""
    device = target.device
    start, elevation, fov, zoom = torch.rand(4, generator=generator, device=generator.device).to(device)
    azimuth_deg = start * 360.0 + torch.arange(count, device=device) * (360.0 / count)
    elevation_deg = _within(elevation, views.elevation_deg).expand(count)
    fov_deg = _within(fov, views.fov_deg).expand(count)
    distance = fit_distance(fov_deg, radius) * _within(zoom, views.zoom)
    return orbit(azimuth_deg % 360.0, elevation_deg, distance, fov_deg, target)


def _within(uniform: Tensor, interval: tuple[float, float]) -> Tensor:
    return interval[0] + (interval[1] - interval[0]) * uniform


def pose_vectors(cameras: Cameras, target: Tensor) -> Tensor:
    """Flattened camera-to-world matrices as a multi-view prior wants them: (B, 16).

    The position is taken from `target` and scaled to length 1, as MVDream does (arXiv 2308.16512, section 3.2).
    """
    pose = torch.eye(4, device=target.device).repeat(len(cameras.position), 1, 1)
    pose[:, :3, :3] = cameras.world_to_camera[:, :3, :3].transpose(1, 2)
    pose[:, :3, 3] = torch.nn.functional.normalize(cameras.position - target, dim=-1)
    return pose.flatten(1)


def view_name(azimuth_deg: float, elevation_deg: float) -> str:
    """ "front", "side", "back" or "overhead": the words of view-dependent prompts (DreamFusion, arXiv 2209.14988)."""
    if elevation_deg > OVERHEAD_DEG:
        return "overhead"
    turn = math.fabs((azimuth_deg + 180.0) % 360.0 - 180.0)
    return "front" if turn < 45.0 else "side" if turn < 135.0 else "back"
