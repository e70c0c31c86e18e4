"""Textures of a surface: the colour field is asked at the very point each texel stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from .texels import Covered, cover
from .uv import Unwrapped

POINTS_AT_ONCE = 1 << 17  # points asked of the colour field together; bounds the memory
FARTHEST_TEXELS = 3.0  # an extrapolated point stays this near to its face, in texels as long as the average one


class Material(Protocol):
    """What a colour field answers."""

    @property
    def albedo(self) -> Tensor: ...  # (N, 3) sRGB in [0, 1]

    @property
    def roughness(self) -> Tensor: ...  # (N,) in [0, 1]

    @property
    def metallic(self) -> Tensor: ...  # (N,) in [0, 1]


ColourField = Callable[[Tensor], Material]  # points (N, 3) float32 -> Material


class Baked(NamedTuple):
    """Textures, row 0 on top. Texels outside the islands hold the nearest island texel's value."""

    albedo: NDArray[np.uint8]  # (P, P, 3) sRGB
    roughness: NDArray[np.uint8]  # (P, P) linear
    metallic: NDArray[np.uint8]  # (P, P) linear
    covered: NDArray[np.bool_]  # (P, P), True where the field was asked, False where the value was spread


def bake(
    vertices: NDArray,
    unwrapped: Unwrapped,
    to_local: Callable[[NDArray], NDArray],
    colour: ColourField,
    texture_px: int,
    device: torch.device | str = "cpu",
) -> Baked:
    """The textures of one slot.

    vertices: (V, 3) of the surface, in a space where lengths mean the same along each axis; `to_local` takes points of
    that space to the colour field's. On the rim of an island the field is asked up to two texels beside the surface, on
    the face's plane, so that a bilinear lookup at the rim gives the value at the rim.
    """
    covered = cover(unwrapped.uv, unwrapped.faces, texture_px)
    points = _surface_points(vertices, unwrapped, covered, texture_px)
    channels = _ask(colour, to_local(points), device)
    image = np.zeros((texture_px, texture_px, 5), np.uint8)
    image[covered.row, covered.column] = np.round(np.clip(channels, 0.0, 1.0) * 255.0).astype(np.uint8)
    filled = np.zeros((texture_px, texture_px), bool)
    filled[covered.row, covered.column] = True
    # Spread over the whole texture, not a few texels: mip-maps and far views read far beside the islands.
    rows, columns = distance_transform_edt(~filled, return_distances=False, return_indices=True)
    image = image[rows, columns]
    return Baked(image[..., :3].copy(), image[..., 3].copy(), image[..., 4].copy(), filled)


def _surface_points(vertices: NDArray, unwrapped: Unwrapped, covered: Covered, texture_px: int) -> NDArray:
    """The 3D point of each covered texel, (T, 3)."""
    corners = vertices[unwrapped.source[unwrapped.faces]]  # (F, 3, 3)
    at_face = corners[covered.face]
    point = np.einsum("tk,tkx->tx", covered.weight, at_face)
    on_face = np.einsum("tk,tkx->tx", covered.nearest, at_face)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
    texel = np.sqrt(area / max(unwrapped.filled * texture_px**2, 1e-30))
    # A face that is a sliver in the texture would throw the extrapolated point far away.
    beside = point - on_face
    length = np.linalg.norm(beside, axis=1, keepdims=True)
    return on_face + beside * np.minimum(1.0, FARTHEST_TEXELS * texel / np.maximum(length, 1e-30))


def _ask(colour: ColourField, points: NDArray, device: torch.device | str) -> NDArray:
    """(T, 5): albedo, roughness, metallic at the points."""
    answers = []
    with torch.no_grad():
        for part in torch.from_numpy(points.astype(np.float32)).split(POINTS_AT_ONCE):
            material = colour(part.to(device))
            rest = torch.stack([material.roughness.reshape(-1), material.metallic.reshape(-1)], dim=1)
            answers.append(torch.cat([material.albedo, rest], dim=1).float().cpu().numpy())
    result = np.concatenate(answers)
    assert result.shape == (len(points), 5) and np.isfinite(result).all(), "the colour field gave no finite colours"
    return result
