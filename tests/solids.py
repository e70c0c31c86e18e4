"""Closed meshes for the export tests, with colour fields whose values are known everywhere."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from torch import Tensor

from backend.export.glb import SlotResult


class Answer(NamedTuple):
    albedo: Tensor
    roughness: Tensor
    metallic: Tensor


def waves(points: Tensor) -> Answer:
    """A smooth field: every channel a sine with its own direction."""
    directions = torch.tensor([[3.0, 1, 0], [0, 3, 1], [1, 0, 3], [2, 2, 0], [0, 2, 2]])
    values = 0.5 + 0.5 * torch.sin(points @ directions.to(points).T)
    return Answer(values[:, :3], values[:, 3], values[:, 4])


def plain(points: Tensor) -> Answer:
    """One colour, roughness and metallic everywhere."""
    one = torch.ones(len(points))
    return Answer(torch.tensor([0.8, 0.2, 0.1]).expand(len(points), 3), 0.6 * one, 0.0 * one)


def solid(kind: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices within [-1/2, 1/2]^3 and faces of a closed solid of 1,000 to 5,000 faces."""
    if kind == "sphere":
        mesh = trimesh.creation.icosphere(subdivisions=4, radius=0.5)
    elif kind == "box":
        mesh = trimesh.creation.box((1.0, 1.0, 1.0))
        for _ in range(4):
            mesh = mesh.subdivide()
    elif kind == "torus":
        mesh = trimesh.creation.torus(0.35, 0.14, major_sections=48, minor_sections=24)
    elif kind == "capsule":
        mesh = trimesh.creation.capsule(0.5, 0.25, count=[24, 24])
        mesh.apply_translation(-mesh.bounds.mean(axis=0))
    elif kind == "blob":
        mesh = trimesh.creation.icosphere(subdivisions=4, radius=0.4)
        v = mesh.vertices
        mesh.vertices = v * (1 + 0.1 * np.sin(12 * v[:, :1]) * np.sin(10 * v[:, 1:2]) * np.cos(11 * v[:, 2:]))
    else:
        raise AssertionError(kind)
    return np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)


KINDS = ("sphere", "box", "torus", "capsule", "blob")


def joined(*meshes: tuple[NDArray, NDArray]) -> tuple[NDArray, NDArray]:
    """All the meshes as one, their pieces not connected."""
    offsets = np.cumsum([0] + [len(vertices) for vertices, _ in meshes])
    vertices = np.concatenate([vertices for vertices, _ in meshes])
    return vertices, np.concatenate([faces + offset for (_, faces), offset in zip(meshes, offsets, strict=False)])


def slot(name: str, kind: str = "sphere", *, size=(1.0, 1.0, 1.0), centre=(0.0, 0.0, 0.5), colour=waves) -> SlotResult:
    """A slot of that solid, upright at `centre`."""
    vertices, faces = solid(kind)
    to_world = torch.eye(4, dtype=torch.float64)
    to_world[:3, :3] = torch.diag(torch.tensor(size, dtype=torch.float64))
    to_world[:3, 3] = torch.tensor(centre, dtype=torch.float64)
    return SlotResult(
        name,
        torch.from_numpy(vertices).float(),
        torch.from_numpy(faces),
        to_world.float(),
        colour,
        {"prompt": f"a {kind}", "seed": 7, "rewards": {"content": 1.5}},
    )


def bilinear(picture: NDArray, uv: NDArray) -> NDArray:
    """What a renderer reads from an (H, W, C) picture at (N, 2) coordinates, v downwards from the top."""
    height, width = picture.shape[:2]
    x, y = uv[:, 0] * width - 0.5, uv[:, 1] * height - 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    total = 0.0
    for row, row_weight in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, weight in ((left, 1 - (x - left)), (left + 1, x - left)):
            texel = picture[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)].astype(np.float64)
            total = total + (row_weight * weight)[:, None] * texel
    return total


def sample_surface(corners: NDArray, count: int, seed: int = 0) -> tuple[NDArray, NDArray]:
    """(face, barycentrics) of `count` points spread evenly over triangles (F, 3, 3), a third of them on edges."""
    rng = np.random.default_rng(seed)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    face = rng.choice(len(corners), count, p=area / area.sum())
    weight = rng.dirichlet((1, 1, 1), count)
    weight[: count // 3, 0] = 0.0
    return face, weight / weight.sum(axis=1, keepdims=True)
