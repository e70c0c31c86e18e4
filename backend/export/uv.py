"""Flat islands for a closed surface: xatlas cuts, flattens and packs it to an exact texture size."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xatlas
from numpy.typing import NDArray

from .topology import face_cross

PADDING_PX = 3  # between islands; bilinear lookups on both sides of a gap then never share a texel
MARGIN_PX = 2  # between islands and the texture's edge, where lookups would wrap around
FACES_PER_ISLAND = 1000  # flattening an island takes more than linear time; smaller ones keep 20k faces at seconds
SMALLEST_ISLAND = 0.04  # of the surface's area: yet no more cuts than this asks for
PACKINGS = 6  # how often packing is tried at another scale


class Unwrapped(NamedTuple):
    """Texture coordinates with their own vertices: a vertex on a seam has several."""

    uv: NDArray[np.float64]  # (U, 2) in [0, 1], v grows downwards: (0, 0) is the picture's top left corner
    faces: NDArray[np.int64]  # (F, 3), index into `uv`; same faces in the same order as given
    source: NDArray[np.int64]  # (U,), the vertex each texture coordinate belongs to
    islands: int
    filled: float  # share of the texture the islands cover


class DoesNotFit(ValueError):
    """The texture is too small for its islands."""


def unwrap(vertices: NDArray, faces: NDArray, texture_px: int) -> Unwrapped:
    """Islands without overlap, all at one scale, inside a square texture of `texture_px`.

    vertices: (V, 3), in a space where lengths mean the same along each axis. faces: (F, 3). Raises DoesNotFit when
    there are more islands than the texture has room for with a margin round each.
    """
    assert len(faces) > 0 and texture_px >= 32
    area = float(np.linalg.norm(face_cross(vertices, faces), axis=1).sum() / 2)
    unit = (vertices - vertices.mean(axis=0)) / np.sqrt(max(area, 1e-30))  # total area 1: xatlas has absolute epsilons
    source, index, flat = _flatten(unit.astype(np.float32), faces)
    px, islands = _pack(flat, index, texture_px - 2 * MARGIN_PX)
    filled = float(_flat_areas(px, index).sum()) / texture_px**2
    return Unwrapped((px + MARGIN_PX) / texture_px, index, source, islands, filled)


def _flatten(unit: NDArray, faces: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """(source vertex (U,), faces (F, 3), flat positions (U, 2) of total area about 1); islands may overlap."""
    options = xatlas.ChartOptions()
    options.max_chart_area = max(SMALLEST_ISLAND, FACES_PER_ISLAND / len(faces))
    atlas = xatlas.Atlas()
    atlas.add_mesh(unit, faces.astype(np.uint32))
    atlas.generate(options, xatlas.PackOptions())
    source, index, uv = atlas[0]
    source, index = source.astype(np.int64), index.astype(np.int64)
    assert np.array_equal(source[index], faces), "xatlas changed the faces' order"
    flat = uv.astype(np.float64) * (atlas.width, atlas.height)
    return source, index, flat / np.sqrt(max(float(_flat_areas(flat, index).sum()), 1e-30))


def _pack(flat: NDArray, index: NDArray, room_px: int) -> tuple[NDArray, int]:
    """Positions in pixels (U, 2) inside a square of `room_px`, as large as a few tries find, and the island count."""
    scale = np.sqrt(0.6) * room_px
    best, best_scale, islands = None, 0.0, 0
    for attempt in range(4 * PACKINGS):
        px, width, height, islands = _pack_at(flat, index, scale)
        longest = max(width, height)
        if longest <= room_px and scale > best_scale:
            best, best_scale = px, scale
        if best is not None and attempt >= PACKINGS:
            break
        # Padding does not shrink with the islands, so a pack that is too large needs more than its ratio.
        scale *= room_px / longest * (0.97 if longest > room_px and attempt >= 2 else 1.0)
        if best is not None and scale <= best_scale:
            scale = best_scale * 1.03
    if best is None:
        raise DoesNotFit(f"{islands} islands do not fit a texture of {room_px} px")
    return best, islands


def _pack_at(flat: NDArray, index: NDArray, px_per_unit: float) -> tuple[NDArray, int, int, int]:
    options = xatlas.PackOptions()
    options.padding = PADDING_PX
    options.bilinear = True
    options.texels_per_unit = px_per_unit
    atlas = xatlas.Atlas()
    atlas.add_uv_mesh(flat.astype(np.float32), index.astype(np.uint32))
    atlas.generate(pack_options=options)
    assert atlas.atlas_count == 1
    mapping, packed_index, uv = atlas[0]
    px = np.zeros_like(flat)
    assert np.array_equal(mapping[packed_index], index), "xatlas changed the faces' order"
    px[mapping] = uv.astype(np.float64) * (atlas.width, atlas.height)
    return px, atlas.width, atlas.height, atlas.chart_count


def _flat_areas(flat: NDArray, index: NDArray) -> NDArray:
    a, b, c = (flat[index[:, i]] for i in range(3))
    return np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
