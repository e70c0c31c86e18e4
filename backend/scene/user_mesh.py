"""The user's own meshes: read from a GLB, checked, and made ready for the slots they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import fast_simplification
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from ..errors import RequestError
from ..render.shade import to_srgb
from ..schema import LONGEST_M, Slot
from .glb_reader import Part, Unreadable, read_parts

MAX_FACES = 2_000_000  # of one slot's mesh
CONTEXT_FACES = 20_000  # of a context mesh in the scene; a larger one is simplified, since every picture shows it
THINNEST = 1e-12  # squared normal length over the mesh's size^4 up to which a triangle has no area
AS_GLB = "Export it again as glTF Binary (.glb), uncompressed"


class UserMesh(NamedTuple):
    """A mesh of the user's scene. It may have holes, cross itself, and face anywhere."""

    vertices: Tensor  # (V, 3) float32, metres, world, Z up; no two in one place
    faces: Tensor  # (F, 3) int64, F > 0, none of area 0
    colour: Tensor  # (F, 3) float32, sRGB in [0, 1]
    closed: bool  # every edge has two faces


class Given(NamedTuple):
    """What of the user's meshes a scene is made with, by slot name."""

    starts: Mapping[str, Tensor]  # (G,) signed distance at the corners of the slot's grid, in its box's longest edges
    contexts: Mapping[str, UserMesh]


def read_user_meshes(path: Path, slots: Sequence[Slot]) -> tuple[dict[str, UserMesh], list[str]]:
    """The meshes of the slots that want one, by slot name, and warnings.

    path: a GLB whose nodes are named after the slots, in world space. Raises RequestError naming the file or the slot.
    """
    wanted = [slot for slot in slots if slot.kind != "generate"]
    try:
        parts = read_parts(path.read_bytes(), {slot.name for slot in wanted})
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=str(path), remedy="Check the path") from error
    except Unreadable as error:
        raise RequestError(str(error), where=str(path), remedy=AS_GLB) from error
    meshes, warnings = {}, []
    for slot in wanted:
        where = f"{path}, node {slot.name!r}"
        if slot.name not in parts:
            raise RequestError(
                f"there is no node named {slot.name!r} for the slot of kind {slot.kind}",
                where=str(path),
                remedy="Name the object like its slot",
            )
        mesh = _joined(parts[slot.name], where)
        if slot.kind == "context" and len(mesh.faces) > CONTEXT_FACES:
            told = len(mesh.faces)
            mesh = _simplified(mesh)
            warnings.append(f"{slot.name}: its {told} triangles were simplified to {len(mesh.faces)} for the run")
        meshes[slot.name] = mesh
    return meshes, warnings


def _joined(parts: list[Part], where: str) -> UserMesh:
    """One mesh of all the parts, in Blender's axes. Raises RequestError where there is nothing to work with."""
    count = sum(len(part.faces) for part in parts)
    if count == 0:
        raise RequestError("has no faces", where=where, remedy="Give it a mesh, or remove the slot")
    if count > MAX_FACES:
        raise RequestError(f"has {count} faces, more than {MAX_FACES}", where=where, remedy="Decimate the mesh")
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts])
    faces = np.concatenate([part.faces + offset for part, offset in zip(parts, offsets, strict=False)])
    x, y, z = np.concatenate([part.vertices for part in parts]).T
    vertices = np.stack([x, -z, y], axis=1)
    used = vertices[faces.reshape(-1)]
    if not np.isfinite(used).all():
        raise RequestError("has vertices that are not finite", where=where, remedy="Mend the mesh")
    if np.abs(used).max() > LONGEST_M:
        raise RequestError(f"reaches beyond {LONGEST_M:.0f} m", where=where, remedy="Scale the scene down")
    colour = torch.from_numpy(np.concatenate([part.colour for part in parts])).float()
    return user_mesh(vertices, faces, to_srgb(colour), where)


def user_mesh(vertices: NDArray, faces: NDArray, colour: Tensor, where: str = "mesh") -> UserMesh:
    """The mesh welded and without faces of area 0. Raises RequestError when none is left.

    vertices: (V, 3) metres, Z up. faces: (F, 3). colour: (F, 3) sRGB.
    """
    points, welded = np.unique(vertices[faces.reshape(-1)].astype(np.float32), axis=0, return_inverse=True)
    faces = welded.reshape(-1, 3)
    corners = points[faces].astype(np.float64)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    kept = np.square(normal).sum(1) > THINNEST**2 * np.ptp(points.astype(np.float64), axis=0).max() ** 4
    if not kept.any():
        raise RequestError("has no face with an area", where=where, remedy="Give it a mesh, or remove the slot")
    faces = faces[kept]
    return UserMesh(
        torch.from_numpy(points), torch.from_numpy(faces), colour[torch.from_numpy(kept)], _is_closed(faces)
    )


def _is_closed(faces: NDArray) -> bool:
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    _, counts = np.unique(edges[:, 0] * (faces.max() + 1) + edges[:, 1], return_counts=True)
    return bool((counts % 2 == 0).all())


def _simplified(mesh: UserMesh) -> UserMesh:
    """The mesh with about CONTEXT_FACES faces, each with the colour of the nearest face it had."""
    vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy()
    low, size = vertices.min(0), float(np.ptp(vertices, axis=0).max())
    unit = ((vertices - low) / size).astype(np.float32)  # the collapse's thresholds are absolute
    points, triangles = fast_simplification.simplify(unit, faces.astype(np.int32), target_count=CONTEXT_FACES)
    if len(triangles) == 0:
        return mesh
    _, nearest = cKDTree(unit[faces].mean(1)).query(points[triangles].mean(1))
    simpler = user_mesh(points.astype(np.float64) * size + low, triangles, mesh.colour[torch.from_numpy(nearest)])
    return simpler._replace(closed=mesh.closed)
