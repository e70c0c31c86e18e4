"""The mesh that travels from the slots to the renderer and the exporter."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Mesh(NamedTuple):
    """Triangles of one or several slots, merged."""

    vertices: Tensor  # (V, 3) float32, metres, Z up
    faces: Tensor  # (F, 3) int64, counter-clockwise seen from outside
    face_slot: Tensor  # (F,) int64, index of the slot each face belongs to
    local: Tensor  # (V, 3) float32, position inside the slot's box, each axis in [-1/2, 1/2]


def merge(meshes: list[Mesh]) -> Mesh:
    """One mesh of all the meshes' triangles; `face_slot` is kept as it is."""
    offsets = [0]
    for mesh in meshes:
        offsets.append(offsets[-1] + mesh.vertices.shape[0])
    return Mesh(
        torch.cat([m.vertices for m in meshes]),
        torch.cat([m.faces + o for m, o in zip(meshes, offsets, strict=False)]),
        torch.cat([m.face_slot for m in meshes]),
        torch.cat([m.local for m in meshes]),
    )


def face_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Normals of length twice the area: (F, 3)."""
    a, b, c = vertices[faces].unbind(1)
    return torch.linalg.cross(b - a, c - a)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit area-weighted vertex normals: (V, 3). A vertex without faces has a zero normal."""
    weighted = face_normals(vertices, faces)[:, None].expand(-1, 3, -1).reshape(-1, 3)
    total = torch.zeros_like(vertices).index_add(0, faces.reshape(-1), weighted)
    return torch.nn.functional.normalize(total, dim=-1, eps=1e-12)
