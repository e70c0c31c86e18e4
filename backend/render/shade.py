"""From visible triangles to pictures. Ordinary torch, so gradients reach vertices, cameras and colours."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..scene.mesh import Mesh, vertex_normals
from .antialias import antialias
from .barycentric import barycentrics, is_front
from .cameras import Cameras
from .rasterize import NOTHING, rasterize

ColourField = Callable[[Tensor, Tensor], Tensor]  # (local (N, 3), slot (N,)) -> albedo (N, 3), sRGB in [0, 1]


class Lighting(NamedTuple):
    """One directional light and an even ambient term per view."""

    direction: Tensor  # (B, 3), unit, from the surface towards the light, world
    ambient: Tensor  # (B,), share of light that comes from everywhere, in [0, 1]
    background: Tensor  # (B, 3), sRGB in [0, 1]


class Frames(NamedTuple):
    """Rendered views."""

    rgb: Tensor  # (B, H, W, 3), sRGB in [0, 1], antialiased at silhouettes
    alpha: Tensor  # (B, H, W, 1), coverage, antialiased
    normal: Tensor  # (B, H, W, 3), unit, world; zero on the background
    depth: Tensor  # (B, H, W), metres along the viewing axis; 0 on the background
    slot: Tensor  # (B, H, W) int64, NOTHING on the background


def render(mesh: Mesh, colour: ColourField, cameras: Cameras, lighting: Lighting, height: int, width: int) -> Frames:
    """Pictures of `mesh` from every camera."""
    clip = _to_clip(mesh.vertices, cameras.world_to_clip)
    with torch.no_grad():
        triangle = rasterize(clip, mesh.faces, height, width)
    view, row, column = (triangle != NOTHING).nonzero(as_tuple=True)
    face = triangle[view, row, column]
    corners = mesh.faces[face]  # (P, 3)
    weights, w = barycentrics(clip[view[:, None], corners], row, column, height, width)

    normals = vertex_normals(mesh.vertices, mesh.faces)
    normal = _facing(_interpolate(weights, normals[corners]), clip, view, corners)
    local = _interpolate(weights, mesh.local[corners])
    slot = mesh.face_slot[face]
    albedo = colour(local, slot)
    shade = _lambert(normal, lighting, view)
    lit = to_srgb(to_linear(albedo) * shade)

    layers = torch.cat([lit, torch.ones_like(w)[:, None]], dim=-1)
    blank = torch.cat([lighting.background, torch.zeros_like(lighting.ambient)[:, None]], dim=-1)
    picture = blank[:, None, None, :].expand(-1, height, width, -1).index_put((view, row, column), layers)
    depth = torch.zeros(triangle.shape, device=w.device).index_put((view, row, column), w)
    picture = antialias(picture, triangle, depth, clip, mesh.faces)
    normal_map = torch.zeros(*triangle.shape, 3, device=w.device).index_put((view, row, column), normal)
    slot_map = torch.full_like(triangle, NOTHING).index_put((view, row, column), slot)
    return Frames(picture[..., :3], picture[..., 3:], normal_map, depth, slot_map)


def to_linear(srgb: Tensor) -> Tensor:
    """Linear light from sRGB values in [0, 1] (IEC 61966-2-1)."""
    low = srgb / 12.92
    high = ((srgb.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(srgb <= 0.04045, low, high)


def to_srgb(linear: Tensor) -> Tensor:
    """sRGB values from linear light, clipped to [0, 1] (IEC 61966-2-1)."""
    low = linear * 12.92
    high = 1.055 * linear.clamp(0.0031308, 1.0) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, low, high)


def _to_clip(vertices: Tensor, world_to_clip: Tensor) -> Tensor:
    """Clip coordinates of every vertex in every view: (B, V, 4)."""
    return vertices @ world_to_clip[:, :, :3].transpose(1, 2) + world_to_clip[:, None, :, 3]


def _interpolate(weights: Tensor, corner_values: Tensor) -> Tensor:
    return (weights[:, :, None] * corner_values).sum(1)


def _facing(normal: Tensor, clip: Tensor, view: Tensor, corners: Tensor) -> Tensor:
    """Unit normals, turned round where the pixel sees the back of its triangle."""
    with torch.no_grad():
        front = is_front(clip[view[:, None], corners])
    unit = torch.nn.functional.normalize(normal, dim=-1, eps=1e-6)
    return torch.where(front[:, None], unit, -unit)


def _lambert(normal: Tensor, lighting: Lighting, view: Tensor) -> Tensor:
    """Light that falls on each point: (P, 1), 1 where the surface faces the light."""
    cosine = (normal * lighting.direction[view]).sum(-1).clamp_min(0.0)
    ambient = lighting.ambient[view]
    return (ambient + (1.0 - ambient) * cosine)[:, None]
