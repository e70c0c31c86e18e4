"""Which point of the surface each texel of a texture stands for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

REACH_PX = 1.5  # texels this near to an island belong to it: a bilinear lookup on its edge reads as far as sqrt(2) px
PAIRS_AT_ONCE = 2_000_000  # (face, texel) pairs looked at together; bounds the memory


class Covered(NamedTuple):
    """The texels of all islands, each once, in row-major order."""

    row: NDArray[np.int64]  # (T,), 0 is the picture's top
    column: NDArray[np.int64]  # (T,)
    face: NDArray[np.int64]  # (T,), the nearest face in the texture
    weight: NDArray[
        np.float64
    ]  # (T, 3) barycentrics of the texel's centre; outside the face they extrapolate its plane
    nearest: NDArray[np.float64]  # (T, 3) barycentrics of the face's point nearest to the centre
    distance_px: NDArray[np.float64]  # (T,), from the centre to that point, 0 inside the face

    def select(self, index: NDArray) -> Covered:
        """The chosen entries, in the index's order."""
        return Covered._make(field[index] for field in self)


def cover(uv: NDArray, faces: NDArray, texture_px: int) -> Covered:
    """The texels within REACH_PX of a face, each with its nearest face (of equally near ones the first).

    uv: (U, 2) in [0, 1], v downwards. faces: (F, 3) into `uv`; faces without area in the texture are left out.
    """
    points = uv * texture_px - 0.5  # texel centres lie at whole numbers
    parts = [_nearest_per_texel(part, texture_px) for part in _pairs(points, faces, texture_px)]
    assert parts, "no face has any area in the texture"
    merged = Covered._make(np.concatenate(fields) for fields in zip(*parts, strict=True))
    return _nearest_per_texel(merged, texture_px)


def _nearest_per_texel(pairs: Covered, texture_px: int) -> Covered:
    texel = pairs.row * texture_px + pairs.column
    order = np.lexsort((pairs.face, pairs.distance_px, texel))
    first = np.ones(len(order), bool)
    first[1:] = texel[order][1:] != texel[order][:-1]
    return pairs.select(order[first])


def _pairs(points: NDArray, faces: NDArray, texture_px: int) -> Iterator[Covered]:
    """All (face, texel) pairs within reach, in parts; each face's bounding box grown by the reach is searched."""
    corners = points[faces]  # (F, 3, 2)
    low = np.clip(np.ceil(corners.min(axis=1) - REACH_PX), 0, texture_px - 1).astype(np.int64)
    high = np.clip(np.floor(corners.max(axis=1) + REACH_PX), 0, texture_px - 1).astype(np.int64)
    span = high - low + 1
    size = span.prod(axis=1)
    size[np.abs(_cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])) < 1e-9] = 0
    end = np.cumsum(size)
    start = 0
    while start < len(faces):
        before = end[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(end, before + PAIRS_AT_ONCE, side="right")))
        face = np.repeat(np.arange(start, stop), size[start:stop])
        if len(face):
            within = np.arange(len(face)) - np.repeat(end[start:stop] - size[start:stop] - before, size[start:stop])
            column = low[face, 0] + within % span[face, 0]
            row = low[face, 1] + within // span[face, 0]
            yield _measure(corners, face, row, column)
        start = stop


def _measure(corners: NDArray, face: NDArray, row: NDArray, column: NDArray) -> Covered:
    """The pairs within reach, with barycentrics and distances."""
    a, b, c = (corners[face, i] for i in range(3))
    p = np.stack([column, row], axis=1).astype(np.float64)
    whole = _cross(b - a, c - a)
    weight = np.stack([_cross(b - p, c - p), _cross(c - p, a - p), _cross(a - p, b - p)], axis=1) / whole[:, None]
    nearest, distance = weight.copy(), np.zeros(len(face))
    outside = np.flatnonzero((weight < 0).any(axis=1))
    distance[outside] = np.inf
    for i in range(3):  # the nearest point of a face to a point outside it lies on one of its edges
        start, end = corners[face[outside], i], corners[face[outside], (i + 1) % 3]
        along = end - start
        offset = p[outside] - start
        t = np.clip((offset * along).sum(axis=1) / np.maximum((along**2).sum(axis=1), 1e-30), 0.0, 1.0)
        gap = np.linalg.norm(offset - t[:, None] * along, axis=1)
        nearer = gap < distance[outside]
        chosen = outside[nearer]
        distance[chosen] = gap[nearer]
        nearest[chosen] = 0.0
        nearest[chosen, i] = 1.0 - t[nearer]
        nearest[chosen, (i + 1) % 3] = t[nearer]
    kept = distance <= REACH_PX
    return Covered(row, column, face, weight, nearest, distance).select(kept)


def _cross(a: NDArray, b: NDArray) -> NDArray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
