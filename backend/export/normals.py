"""Shading normals per face corner: smooth over soft bends, split at hard ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .topology import face_cross, half_edges


class CornerNormals(NamedTuple):
    """Normals, and for every face corner which one it has."""

    normals: NDArray[np.float64]  # (G, 3), unit length
    corner: NDArray[np.int64]  # (F, 3), index into `normals`


def corner_normals(vertices: NDArray, faces: NDArray, crease_deg: float) -> CornerNormals:
    """Area-weighted normals, averaged around a vertex over the faces that meet at less than `crease_deg`.

    Corners that share a vertex share a normal if one can walk from face to face around the vertex without crossing a
    sharper edge: crease_deg 180 gives one normal per vertex (on a closed mesh), 0 one per face.
    """
    cross = face_cross(vertices, faces)
    area = np.linalg.norm(cross, axis=1)
    unit = cross / np.maximum(area, 1e-30)[:, None]
    first, second = _opposite_half_edges(faces)
    smooth = np.einsum("ei,ei->e", unit[first // 3], unit[second // 3]) > np.cos(np.radians(crease_deg))
    # A face without area has no direction of its own, so it never makes a crease.
    smooth |= np.minimum(area[first // 3], area[second // 3]) < 1e-12 * max(float(area.max()), 1e-30)
    first, second = first[smooth], second[smooth]
    # Half-edge 3f+i starts at corner i; its end is the next corner of the same face.
    start = np.concatenate([first, _next_corner(first)])
    end = np.concatenate([_next_corner(second), second])
    corners = faces.size
    graph = coo_array((np.ones(len(start), np.int8), (start, end)), shape=(corners, corners))
    groups, of_corner = connected_components(graph, directed=False)
    total = np.stack([np.bincount(of_corner, np.repeat(cross[:, i], 3), groups) for i in range(3)], axis=1)
    length = np.linalg.norm(total, axis=1)
    total[length < 1e-30] = (0.0, 0.0, 1.0)  # nothing to shade, yet the file format wants unit length
    return CornerNormals(
        total / np.where(length < 1e-30, 1.0, length)[:, None], of_corner.reshape(-1, 3).astype(np.int64)
    )


def _next_corner(corner: NDArray) -> NDArray:
    return corner // 3 * 3 + (corner + 1) % 3


def _opposite_half_edges(faces: NDArray) -> tuple[NDArray, NDArray]:
    """Pairs of half-edges that run along the same edge in opposite directions, each edge once."""
    edges = half_edges(faces)
    count = int(faces.max()) + 1
    forth = edges[:, 0] * count + edges[:, 1]
    back = edges[:, 1] * count + edges[:, 0]
    order = np.argsort(forth, kind="stable")
    at = np.minimum(np.searchsorted(forth[order], back), len(forth) - 1)
    partner = order[at]
    own = np.arange(len(forth))
    paired = (forth[partner] == back) & (own < partner)
    return own[paired], partner[paired]
