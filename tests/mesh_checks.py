"""What tests ask of a mesh: the same as another, closed, manifold, its volume."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor


def matching(points: Tensor, others: Tensor, tolerance: float) -> np.ndarray:
    """For each of the points its twin in `others`; asserts a one-to-one match within the tolerance. (V,) ints."""
    assert points.shape == others.shape
    distance, twin = cKDTree(others.detach().double().numpy()).query(points.detach().double().numpy())
    assert distance.max(initial=0.0) <= tolerance
    assert np.unique(twin).shape == twin.shape, "two points have one twin"
    return twin


def assert_same_mesh(
    vertices: Tensor, faces: Tensor, other_vertices: Tensor, other_faces: Tensor, tolerance: float
) -> None:
    """Asserts equality up to the order of vertices, of faces, and the corner that a face starts with."""
    twin = matching(vertices, other_vertices, tolerance)
    assert sorted(_turned(twin[faces.numpy()])) == sorted(_turned(other_faces.numpy()))


def assert_closed_and_oriented(faces: Tensor) -> None:
    """Asserts that every edge has two faces which run along it in opposite directions."""
    pairs = torch.cat((faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]])).tolist()
    there = {(a, b) for a, b in pairs}
    assert len(there) == len(pairs), "an edge is run along twice in one direction"
    assert there == {(b, a) for a, b in pairs}, "an edge has one face"


def assert_one_fan_at_each_vertex(faces: Tensor) -> None:
    """Asserts that the faces around each vertex hang together by their edges."""
    corner = np.arange(faces.numel()).reshape(-1, 3)
    start, end = faces.numpy(), np.roll(faces.numpy(), -1, 1)
    at = {}  # the two faces of an edge touch in the corners at its two ends
    for a, b, c, d in zip(start.ravel(), end.ravel(), corner.ravel(), np.roll(corner, -1, 1).ravel(), strict=True):
        at[int(a), int(b)] = (c, d)
    links = [(at[a, b][side], at[b, a][1 - side]) for a, b in at if a < b for side in (0, 1)]
    i, j = np.array(links).T
    count, _ = connected_components(coo_matrix((np.ones(len(i)), (i, j)), shape=(corner.size, corner.size)), False)
    assert count == len(np.unique(start)), "faces around a vertex fall into several fans"


def volume(vertices: Tensor, faces: Tensor) -> float:
    """Volume enclosed by a closed mesh, positive if its faces are counter-clockwise seen from outside."""
    a, b, c = vertices[faces].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def _turned(faces: np.ndarray) -> list[tuple[int, int, int]]:
    """Faces turned so that each starts with its smallest index."""
    return [tuple(np.roll(face, -face.argmin()).tolist()) for face in faces]
