"""Questions about a triangle mesh's connections: is it closed, how many pieces, how large is each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Vertices = NDArray[np.floating]  # (V, 3)
Faces = NDArray[np.integer]  # (F, 3)


def half_edges(faces: Faces) -> NDArray[np.int64]:
    """The directed edges of all faces, (3F, 2): edge 3f+i leads from corner i of face f to its next corner."""
    return np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2).astype(np.int64)


def is_closed(faces: Faces) -> bool:
    """True if every directed edge occurs once and its opposite occurs once: closed, manifold edges, one orientation."""
    if len(faces) == 0:
        return False
    edges = half_edges(faces)
    count = int(edges.max()) + 1
    forth = np.sort(edges[:, 0] * count + edges[:, 1])
    back = np.sort(edges[:, 1] * count + edges[:, 0])
    return bool(np.array_equal(forth, back) and (np.diff(forth) > 0).all() and (edges[:, 0] != edges[:, 1]).all())


def face_pieces(faces: Faces) -> NDArray[np.int32]:
    """The number of the connected piece each face belongs to, (F,), counted from 0; faces hold together by vertices."""
    if len(faces) == 0:
        return np.zeros(0, np.int32)
    edges = half_edges(faces)
    count = int(faces.max()) + 1
    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, of_vertex = connected_components(graph, directed=False)
    return np.unique(of_vertex[faces[:, 0]], return_inverse=True)[1].astype(np.int32)


def piece_count(faces: Faces) -> int:
    """The number of connected pieces."""
    return int(face_pieces(faces).max()) + 1 if len(faces) else 0


def face_cross(vertices: Vertices, faces: Faces) -> NDArray[np.float64]:
    """Face normals of length twice the area, (F, 3)."""
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    return np.cross(b - a, c - a)


def face_volumes(vertices: Vertices, faces: Faces) -> NDArray[np.float64]:
    """Signed volume of each face's tetrahedron with the origin, (F,); over a closed mesh they sum to its volume."""
    return np.einsum("fi,fi->f", vertices[faces[:, 0]].astype(np.float64), face_cross(vertices, faces)) / 6.0


def compact(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """The same mesh without the vertices no face uses; the others keep their order."""
    used, index = np.unique(faces, return_inverse=True)
    return vertices[used], index.reshape(-1, 3).astype(np.int64)
