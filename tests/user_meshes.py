"""GLBs of known meshes, as a modelling program would write them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh

from backend.scene.user_mesh import UserMesh, user_mesh

TO_GLTF = trimesh.transformations.rotation_matrix(-np.pi / 2, (1, 0, 0))  # Z up to Y up
GREY = (128, 128, 128, 255)


def coloured(mesh: trimesh.Trimesh, rgba: tuple[int, int, int, int] = GREY) -> trimesh.Trimesh:
    """The mesh with a base colour, whose values glTF counts in linear light."""
    material = trimesh.visual.material.PBRMaterial(baseColorFactor=rgba)
    mesh.visual = trimesh.visual.TextureVisuals(material=material)
    return mesh


def write_glb(path: Path, meshes: Mapping[str, trimesh.Trimesh]) -> Path:
    """A GLB with a node for each mesh, which is given in metres and Blender's axes."""
    scene = trimesh.Scene()
    for name, mesh in meshes.items():
        turned = mesh.copy()
        turned.apply_transform(TO_GLTF)
        scene.add_geometry(turned, node_name=name, geom_name=name)
    path.write_bytes(scene.export(file_type="glb"))
    return path


def as_user_mesh(mesh: trimesh.Trimesh, srgb: tuple[float, float, float] = (0.5, 0.5, 0.5)) -> UserMesh:
    """The mesh as if it had been read from a GLB."""
    return user_mesh(np.asarray(mesh.vertices), np.asarray(mesh.faces), torch.tensor(srgb).expand(len(mesh.faces), 3))


def floor(half: float = 10.0, height: float = 0.0) -> trimesh.Trimesh:
    """Two triangles."""
    corners = np.array([[-half, -half, height], [half, -half, height], [half, half, height], [-half, half, height]])
    return trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], process=False)


def tree(nodes: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """glTF JSON of one triangle with corners at the origin, x and y, for the nodes to use as mesh 0."""
    return {
        "asset": {"version": "2.0"},
        "nodes": nodes,
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "buffers": [{"byteLength": 36}],
    } | more


TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32).tobytes()


def glb(content: dict, binary: bytes = TRIANGLE) -> bytes:
    """A file of this JSON and these bytes."""
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
