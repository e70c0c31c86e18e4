"""The objects of an exported scene, read back from the GLB alone: what every judgement is made on.

Geometry: Blender's axes, metres.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray

from ..scene.mesh import Mesh

BLENDER_FROM_GLTF = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # (x, y, z) -> (x, -z, y)


class Thing(NamedTuple):
    """One object of an exported scene. Vertices lie at one place only once, whatever the texture's seams."""

    name: str
    vertices: NDArray[np.float64]  # (V, 3), metres, along the object's own axes
    to_world: NDArray[np.float64]  # (4, 4)
    faces: NDArray[np.int64]  # (F, 3)
    uv: NDArray[np.float64]  # (F, 3, 2), v upwards from the texture's bottom
    texture: NDArray[np.uint8]  # (H, W, 3) sRGB

    @property
    def world(self) -> NDArray[np.float64]:
        """(V, 3), metres."""
        return self.vertices @ self.to_world[:3, :3].T + self.to_world[:3, 3]


class Match(NamedTuple):
    """The best answer, and how good it was."""

    name: str | None  # None: none of them
    score: float


def read_things(glb: Path) -> dict[str, Thing]:
    """The objects in a GLB by their nodes' names."""
    scene = trimesh.load(glb, force="scene", process=False)
    things = {}
    for node in scene.graph.nodes_geometry:
        transform, geometry = scene.graph[node]
        mesh = scene.geometry[geometry]
        turn = np.eye(4)
        turn[:3, :3] = BLENDER_FROM_GLTF
        positions, source = np.unique(mesh.vertices @ BLENDER_FROM_GLTF.T, axis=0, return_inverse=True)
        texture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"))
        to_world = turn @ transform @ turn.T
        faces = np.asarray(mesh.faces)
        things[node] = Thing(node, positions, to_world, source.reshape(-1)[faces], mesh.visual.uv[faces], texture)
    return things


def texels(texture: NDArray[np.uint8], uv: NDArray) -> NDArray[np.float64]:
    """The texels at (..., 2) coordinates: (..., 3) in [0, 255]."""
    height, width = texture.shape[:2]
    column = np.clip((uv[..., 0] * width).astype(int), 0, width - 1)
    row = np.clip(((1 - uv[..., 1]) * height).astype(int), 0, height - 1)
    return texture[row, column].astype(np.float64)


def coloured_mesh(thing: Thing, vertices: NDArray) -> Mesh:
    """A mesh whose `local` holds each vertex's sRGB colour: render it with `own_colour`. vertices: (V, 3)."""
    total, count = np.zeros((len(vertices), 3)), np.zeros(len(vertices))
    np.add.at(total, thing.faces, texels(thing.texture, thing.uv) / 255.0)
    np.add.at(count, thing.faces, 1)
    colours = total / np.maximum(count, 1)[:, None]
    faces = torch.from_numpy(thing.faces)
    slot = torch.zeros(len(faces), dtype=torch.int64)
    return Mesh(torch.from_numpy(vertices).float(), faces, slot, torch.from_numpy(colours).float())


def own_colour(local: torch.Tensor, slot: torch.Tensor) -> torch.Tensor:
    """The colour field of a `coloured_mesh`."""
    return local
