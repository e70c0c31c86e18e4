"""From visible triangles to pictures. Ordinary torch, so gradients reach vertices, cameras and colours."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..scene.mesh import Mesh, vertex_normals
from .antialias import antialias
from .barycentric import hit, pixel_centres
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
    """Pictures of `mesh` from every camera; `colour` is asked once, for all visible points of all views."""
    clip = _to_clip(mesh.vertices, cameras.world_to_clip)
    with torch.no_grad():
        triangle = rasterize(clip, mesh.faces, height, width)
    view, row, column = (triangle != NOTHING).nonzero(as_tuple=True)
    face = triangle[view, row, column]
    corners = mesh.faces.index_select(0, face)  # (P, 3)
    pixel = pixel_centres(row.to(clip.dtype), column.to(clip.dtype), height, width)
    hits = hit(_gather(clip[:, :, [0, 1, 3]].flatten(0, 1), view[:, None] * clip.shape[1] + corners), pixel)

    normal = _facing(_interpolate(hits.weights, vertex_normals(mesh.vertices, mesh.faces), corners), hits.front)
    local = _interpolate(hits.weights, mesh.local, corners)
    slot = mesh.face_slot.index_select(0, face)
    lit = to_srgb(to_linear(colour(local, slot)) * _lambert(normal, lighting, view))

    at = (view * height + row) * width + column
    blank = torch.cat([lighting.background, torch.zeros_like(lighting.ambient)[:, None]], dim=-1).to(lit.dtype)
    blank = blank[:, None, None].expand(-1, height, width, -1)
    picture = _paint(blank, at, torch.cat([lit, torch.ones_like(lit[:, :1])], dim=-1))
    picture = antialias(picture, triangle, clip, mesh.faces)
    return Frames(
        rgb=picture[..., :3],
        alpha=picture[..., 3:],
        normal=_paint(normal.new_zeros(*triangle.shape, 3), at, normal),
        depth=_paint(hits.distance.new_zeros(*triangle.shape, 1), at, hits.distance[:, None])[..., 0],
        slot=_paint(torch.full_like(triangle, NOTHING)[..., None], at, slot[:, None])[..., 0],
    )


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


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """values[index], with a faster gradient: (*index.shape, C). values: (N, C)."""
    return values.index_select(0, index.flatten()).view(*index.shape, values.shape[-1])


def _interpolate(weights: Tensor, values: Tensor, corners: Tensor) -> Tensor:
    """Vertex values at the pixels: (P, C). weights: (P, 3). values: (V, C). corners: (P, 3) vertex indices."""
    return (weights[:, :, None] * _gather(values, corners)).sum(1)


def _paint(canvas: Tensor, at: Tensor, values: Tensor) -> Tensor:
    """A copy of `canvas` (B, H, W, C) with `values` (P, C) at the pixels `at` (P,), counted through all views."""
    return canvas.reshape(-1, canvas.shape[-1]).index_copy(0, at, values).view(canvas.shape)


def _facing(normal: Tensor, front: Tensor) -> Tensor:
    """Unit normals, turned round where the pixel sees the back of its triangle."""
    unit = torch.nn.functional.normalize(normal, dim=-1, eps=1e-6)
    return torch.where(front[:, None], unit, -unit)


def _lambert(normal: Tensor, lighting: Lighting, view: Tensor) -> Tensor:
    """Light that falls on each point: (P, 1), 1 where the surface faces the light."""
    cosine = (normal * lighting.direction[view]).sum(-1).clamp_min(0.0)
    ambient = lighting.ambient[view]
    return (ambient + (1.0 - ambient) * cosine)[:, None]
