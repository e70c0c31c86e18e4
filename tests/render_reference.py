"""A slow renderer in float64 that casts a ray per pixel at every triangle, and small meshes to render.

It shares no formula with backend/render: rays and triangles meet in world space, not in the picture.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from torch import Tensor

from backend.render.cameras import FAR, NEAR, Cameras, fit_distance, orbit
from backend.render.shade import Lighting
from backend.scene.mesh import Mesh

PALETTE = torch.rand(16, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 0.8 + 0.1
Batch = TypeVar("Batch", Mesh, Cameras, Lighting)


class Picture(NamedTuple):
    """What one camera sees, without antialiasing. Where `clear` is false rounding decides, so nothing can be asked."""

    triangle: NDArray[np.int64]  # (H, W), -1 on the background
    depth: NDArray[np.float64]  # (H, W), metres along the viewing axis, 0 on the background
    weights: NDArray[np.float64]  # (H, W, 3), barycentric
    clear: NDArray[np.bool_]  # (H, W), no triangle's edge, and no second surface, within a hair of the ray's hit


def cast_rays(mesh: Mesh, camera: Cameras, height: int, width: int, margin: float = 1e-4) -> Picture:
    """The nearest triangle along the ray of each pixel's centre (Moeller and Trumbore 1997). One camera."""
    corners = mesh.vertices.detach().double().numpy()[mesh.faces.numpy()]  # (F, 3, 3)
    rotation = camera.world_to_camera[0, :3, :3].double().numpy()
    origin = -rotation.T @ camera.world_to_camera[0, :3, 3].double().numpy()
    focal = float(camera.camera_to_clip[0, 0, 0])
    x = (np.arange(width) + 0.5) / width * 2 - 1
    y = 1 - (np.arange(height) + 0.5) / height * 2
    in_camera = np.stack([*np.meshgrid(x / focal, y / focal), -np.ones((height, width))], -1)
    rays = (in_camera @ rotation).reshape(-1, 1, 3)  # of length 1 along the viewing axis: t is the depth
    side1, side2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.cross(rays, side2)
        scale = 1 / (p * side1).sum(-1)
        s = origin - corners[:, 0]
        b1 = (p * s).sum(-1) * scale
        q = np.cross(s, side1)
        b2 = (rays * q).sum(-1) * scale
        t = (q * side2).sum(-1) * scale
    weights = np.stack([1 - b1 - b2, b1, b2], -1)  # (P, F, 3)
    near, far = _planes(camera)
    inside = weights.min(-1)
    seen = (inside >= 0) & (t >= near) & (t <= far)
    depth = np.where(seen, t, np.inf)
    nearest = depth.argmin(1)
    pixels = np.arange(len(nearest))
    found = np.isfinite(depth[pixels, nearest])
    # Everything that may be seen if all is moved by a hair: it must be one triangle, well inside, or none.
    maybe = (inside >= -margin) & (t >= near * (1 - margin)) & (t <= far * (1 + margin))
    in_front = maybe & (t <= depth[pixels, nearest][:, None] * (1 + margin))
    well_inside = (inside[pixels, nearest] > margin) & (np.abs(t[pixels, nearest] / near - 1) > margin)
    clear = np.where(found, (in_front.sum(1) == 1) & well_inside, ~maybe.any(1))
    shape = (height, width)
    return Picture(
        np.where(found, nearest, -1).reshape(shape),
        np.where(found, depth[pixels, nearest], 0.0).reshape(shape),
        weights[pixels, nearest].reshape(*shape, 3),
        clear.reshape(shape),
    )


def convex_coverage(mesh: Mesh, camera: Cameras, size: int, samples: int) -> NDArray[np.float64]:
    """The share of each pixel that a convex mesh covers, from samples x samples points a pixel: (size, size)."""
    homogeneous = np.concatenate([mesh.vertices.numpy(), np.ones((len(mesh.vertices), 1))], 1)
    clip = homogeneous @ camera.world_to_clip[0].double().numpy().T
    hull = ConvexHull(clip[:, :2] / clip[:, 3:])
    count = size * samples
    x = (np.arange(count) + 0.5) / count * 2 - 1
    inside = np.ones((count, count), bool)
    for a, b, c in hull.equations:
        inside &= a * x[None] - b * x[:, None] + c <= 0
    return inside.reshape(size, samples, size, samples).mean((1, 3))


def _planes(camera: Cameras) -> tuple[float, float]:
    """Distances of the near and the far plane, read off the projection matrix."""
    a, b = (float(v) for v in camera.camera_to_clip[0, 2, 2:])
    near, far = b / (a - 1), b / (a + 1)
    assert abs(far / near * NEAR / FAR - 1) < 1e-2
    return near, far


def box(size: tuple[float, float, float] = (0.7, 0.6, 0.8), at=(0.0, 0.0, 0.0), slot: int = 0) -> Mesh:
    """A box of 12 triangles."""
    return _mesh(trimesh.creation.box(extents=size), at, slot)


def ball(subdivisions: int = 3, radius: float = 0.5, at=(0.0, 0.0, 0.0), slot: int = 0) -> Mesh:
    """A sphere of 20 * 4^subdivisions triangles."""
    return _mesh(trimesh.creation.icosphere(subdivisions, radius=radius), at, slot)


def soup(count: int, size: float, seed: int) -> Mesh:
    """Triangles that lie anywhere, with corners about `size` metres apart."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 1, 3, generator=generator, dtype=torch.float64) * 2 - 1
    corners = centre + size * torch.randn(count, 3, 3, generator=generator, dtype=torch.float64)
    faces = torch.arange(3 * count).view(-1, 3)
    return Mesh(corners.view(-1, 3), faces, torch.arange(count) % 16, corners.view(-1, 3))


def _mesh(shape: trimesh.Trimesh, at, slot: int) -> Mesh:
    vertices = torch.tensor(np.asarray(shape.vertices), dtype=torch.float64)
    faces = torch.tensor(np.asarray(shape.faces), dtype=torch.int64)
    return Mesh(vertices + torch.tensor(at).double(), faces, torch.full((len(faces),), slot), vertices)


def moved(mesh: Mesh, offset: Tensor) -> Mesh:
    """The mesh shifted by `offset`, (3,) metres."""
    return mesh._replace(vertices=mesh.vertices + offset)


def single(batch: Batch) -> Batch:
    """The mesh, cameras or lighting in float32, as the program has them."""
    return type(batch)(*(value.float() if value.is_floating_point() else value for value in batch))


def around(azimuths_deg: list[float], elevation_deg: float = 20.0, radius: float = 0.8) -> Cameras:
    """Cameras in float64 that fit a sphere of `radius` at the origin, from the given sides."""
    azimuth = torch.tensor(azimuths_deg)
    fov = torch.full_like(azimuth, 40.0)
    cameras = orbit(azimuth, torch.full_like(azimuth, elevation_deg), fit_distance(fov, radius), fov, torch.zeros(3))
    return Cameras(*(value.double() for value in cameras))


def daylight(views: int, ambient: float = 0.4, background: float = 0.9) -> Lighting:
    """Light from the upper left behind the front camera, before a plain background."""
    direction = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64), dim=0)
    return Lighting(
        direction.expand(views, 3),
        torch.full((views,), ambient, dtype=torch.float64),
        torch.full((views, 3), background, dtype=torch.float64),
    )


def by_slot(local: Tensor, slot: Tensor) -> Tensor:
    """Each slot in its own plain colour."""
    return PALETTE.to(local)[slot]


def patterned(local: Tensor, slot: Tensor) -> Tensor:
    """A smooth pattern over each slot's surface."""
    return by_slot(local, slot) * (0.6 + 0.4 * torch.sin(4 * local))
