"""A mesh fit to hand over: one piece, smoothed, no degenerate faces, within the triangle budget, still closed."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import fast_simplification
import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .topology import compact, face_cross, face_pieces, face_volumes, half_edges, is_closed, piece_count

WORTH_A_NOTE = 0.05  # of the surface: more than that is no crumb
SHORT_EDGE = 1e-6  # of the bounds' diagonal; vertices joined by a shorter edge become one
# The edge collapse may pinch the surface; another target or aggressiveness collapses in another order. Tried in turn.
TARGETS = (1.0, 0.97, 0.94, 0.9, 0.85, 0.8, 1.25, 1.6, 2.0, 3.0)  # of the budget; above 1 only if all below fail
AGGRESSIVENESS = (7.0, 5.0, 9.0)
SHRINK, GROW = 0.5, 0.53  # Taubin's lambda and -mu, of the way to the mean of a vertex's neighbours
VOLUME_TOLERANCE = 0.1  # a simplified mesh whose volume differs by more of it has lost its shape


class Cleaned(NamedTuple):
    """A cleaned mesh and what was done to it."""

    vertices: NDArray[np.float64]  # (V, 3), in the units given
    faces: NDArray[np.int64]  # (F, 3)
    faces_before: int  # as given
    pieces_before: int  # connected pieces as given
    pieces: int  # connected pieces kept
    dropped_share: float  # area of the dropped pieces over the area as given
    closed: bool  # every edge has exactly two faces, of one orientation
    notes: tuple[str, ...]  # plain words for whatever could not be done


def clean(vertices: NDArray, faces: NDArray, max_faces: int, smoothing_steps: int = 0) -> Cleaned:
    """The mesh's largest piece within `max_faces` triangles.

    vertices: (V, 3), in a space where lengths mean the same along each axis. faces: (F, 3), counter-clockwise seen from
    outside, F > 0. smoothing_steps: of Taubin's filter (SIGGRAPH 1995), which takes away what is smaller than a few
    edges and does not shrink the rest. If no simplification within the budget stays closed, the mesh is left more
    detailed and `notes` says so.
    """
    assert len(faces) > 0 and np.isfinite(vertices).all(), "nothing to clean, or vertices that are not finite"
    assert max_faces >= 4 and smoothing_steps >= 0
    faces_before, pieces_before = len(faces), piece_count(faces)
    area_before = _area(vertices, faces)
    vertices, faces = _weld_short_edges(np.asarray(vertices, np.float64), np.asarray(faces, np.int64))
    vertices, faces = _largest_piece(vertices, faces)
    dropped = max(0.0, 1.0 - _area(vertices, faces) / max(area_before, 1e-30))
    notes: list[str] = []
    if dropped > WORTH_A_NOTE:
        notes.append(f"{dropped:.0%} of the surface was left out: pieces apart from the largest, or inside it")
    vertices = _smoothed(vertices, faces, smoothing_steps)
    if len(faces) > max_faces:
        vertices, faces = _simplify(vertices, faces, max_faces) or (vertices, faces)
    if len(faces) > max_faces:
        notes.append(f"{len(faces)} faces, over the budget of {max_faces}: no simpler mesh stayed whole")
    closed = is_closed(faces)
    if not closed:
        notes.append("the surface is not closed")
    return Cleaned(vertices, faces, faces_before, pieces_before, piece_count(faces), dropped, closed, tuple(notes))


def _area(vertices: NDArray, faces: NDArray) -> float:
    return float(np.linalg.norm(face_cross(vertices, faces), axis=1).sum() / 2)


def _weld_short_edges(vertices: NDArray, faces: NDArray) -> tuple[NDArray, NDArray]:
    """The mesh with the ends of every tiny edge made one; faces that lose a corner go in pairs, so it stays closed.

    An edge whose welding would open a closed mesh is left as it is.
    """
    edges = half_edges(faces)
    length = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
    tiny = edges[length < SHORT_EDGE * np.linalg.norm(np.ptp(vertices[faces.reshape(-1)], axis=0))]
    tiny = tiny[tiny[:, 0] < tiny[:, 1]]
    welded = _welded(len(vertices), faces, tiny)
    if is_closed(faces) and not is_closed(welded):
        welded = faces
        for edge in range(len(tiny)):  # rare: all together did not do, so each for itself
            candidate = _welded(len(vertices), faces, tiny[edge : edge + 1])
            if is_closed(candidate):
                return _weld_short_edges(*compact(vertices, candidate))
    return compact(vertices, welded) if len(welded) else (vertices, faces)


def _welded(vertex_count: int, faces: NDArray, edges: NDArray) -> NDArray:
    """The faces with each edge's vertices replaced by the first of them, without those that lose a corner."""
    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(vertex_count, vertex_count))
    _, group = connected_components(graph, directed=False)
    first = np.full(group.max() + 1, vertex_count)
    np.minimum.at(first, group, np.arange(vertex_count))
    renamed = first[group][faces]
    return renamed[(renamed != np.roll(renamed, 1, axis=1)).all(axis=1)]


def _largest_piece(vertices: NDArray, faces: NDArray) -> tuple[NDArray, NDArray]:
    """The piece of largest area: without floaters, and without inner walls, which nobody sees."""
    piece = face_pieces(faces)
    area = np.bincount(piece, np.linalg.norm(face_cross(vertices, faces), axis=1))
    return compact(vertices, faces[piece == area.argmax()])


def _smoothed(vertices: NDArray, faces: NDArray, steps: int) -> NDArray:
    """The vertices after so many steps, alternately shrinking and growing."""
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    return np.asarray(trimesh.smoothing.filter_taubin(mesh, SHRINK, GROW, steps).vertices)


def _simplify(vertices: NDArray, faces: NDArray, max_faces: int) -> tuple[NDArray, NDArray] | None:
    """The mesh by quadric edge collapse (Garland and Heckbert 1997), or None if no result is whole.

    Whole: closed if it was closed, as many pieces, and nearly the same volume. At most `max_faces`, or if no such mesh
    is whole the next larger one that is.
    """
    low, size = vertices.min(axis=0), float(np.ptp(vertices, axis=0).max())
    unit = ((vertices - low) / size).astype(np.float32)  # the collapse's thresholds are absolute
    volume = float(face_volumes(unit - 0.5, faces).sum())
    closed, pieces = is_closed(faces), piece_count(faces)
    for share, aggressiveness in product(TARGETS, AGGRESSIVENESS):
        target = int(share * max_faces)
        if not 4 <= target < len(faces):
            continue
        points, triangles = fast_simplification.simplify(
            unit, faces.astype(np.int32), target_count=target, agg=aggressiveness
        )
        if not 4 <= len(triangles) <= max(target, max_faces):
            continue
        simpler = _weld_short_edges(points.astype(np.float64), triangles.astype(np.int64))
        drift = abs(float(face_volumes(simpler[0] - 0.5, simpler[1]).sum()) - volume)
        whole = is_closed(simpler[1]) or not closed
        if whole and piece_count(simpler[1]) == pieces and drift <= VOLUME_TOLERANCE * abs(volume):
            vertices, faces = simpler[0] * size + low, simpler[1]
            # A result over the budget is another start, from which the rest of the way may succeed.
            return (len(faces) > max_faces and _simplify(vertices, faces, max_faces)) or (vertices, faces)
    return None
