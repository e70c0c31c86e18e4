"""One GLB of all slots: a named node each, with its place, its PBR material and its provenance.

The only place where Blender's axes (Z up) become glTF's (Y up): (x, y, z) -> (x, z, -y).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from .bake import Baked, ColourField, bake
from .clean import Cleaned, clean
from .files import atomic_write
from .gltf_file import GltfBuilder
from .normals import corner_normals
from .uv import DoesNotFit, Unwrapped, unwrap

CREASE_DEG = 45.0  # faces that meet at a larger angle are shaded as a hard edge


class SlotResult(NamedTuple):
    """What the optimisation made of one slot."""

    name: str  # becomes the node's name, and the object's in Blender
    vertices: Tensor  # (V, 3), slot-local, each axis in [-1/2, 1/2]
    faces: Tensor  # (F, 3) int64, counter-clockwise seen from outside
    to_world: Tensor  # (4, 4): local box coordinates scaled by size, rotated, translated -> metres, Z up
    colour: ColourField  # local points (N, 3) -> Material
    extras: dict[str, Any]  # provenance: prompt, seed, settings, rewards


class Placement(NamedTuple):
    """A slot's `to_world` taken apart."""

    size: NDArray[np.float64]  # (3,) metres, along the box's own axes
    rotation: NDArray[np.float64]  # (3, 3)
    translation: NDArray[np.float64]  # (3,) metres, Z up


class ExportedSlot(NamedTuple):
    """What was written for one slot."""

    name: str
    vertices: NDArray[np.float64]  # (V, 3) world metres, Z up; shared by faces, not split at seams and creases
    faces: NDArray[np.int64]  # (F, 3)
    uv: NDArray[np.float64]  # (F, 3, 2) in [0, 1], v downwards from the picture's top
    textures: Baked
    origin: NDArray[np.float64]  # (3,) world metres: bottom centre of the mesh's bounds, along the box's own axes
    cleaned: Cleaned  # counts before and after, closed or not, pieces, notes; its vertices are object-local metres
    islands: int
    texture_filled: float  # share of the texture that islands cover

    def summary(self) -> dict[str, Any]:
        """Numbers for the report, ready for JSON."""
        return {
            "name": self.name,
            "faces": len(self.faces),
            "vertices": len(self.vertices),
            "faces_before": self.cleaned.faces_before,
            "pieces_before": self.cleaned.pieces_before,
            "pieces": self.cleaned.pieces,
            "dropped_area_share": round(self.cleaned.dropped_share, 4),
            "closed": self.cleaned.closed,
            "size_m": np.ptp(self.cleaned.vertices, axis=0).round(6).tolist(),
            "origin_m": self.origin.round(6).tolist(),
            "texture_px": int(self.textures.albedo.shape[0]),
            "texture_filled": round(self.texture_filled, 3),
            "uv_islands": self.islands,
            "notes": list(self.cleaned.notes),
        }


def export_scene(
    slots: list[SlotResult],
    path: Path,
    texture_px: int,
    max_faces: int,
    extras: dict[str, Any],
    *,
    smoothing_steps: int = 0,
    crease_deg: float = CREASE_DEG,
    on_part: Callable[[], None] = lambda: None,
) -> list[ExportedSlot]:
    """What was written to the GLB at `path`, slot by slot.

    texture_px: edge of each slot's square textures. max_faces: triangle budget of each slot. extras: provenance of the
    whole scene. smoothing_steps: see `clean`. crease_deg: see `corner_normals`. on_part: called before
    each slot; an exception from it ends the export. The same input gives the same bytes. Raises OutputError when the
    file cannot be written; nothing is left under its name then.
    """
    builder = GltfBuilder("Diorama")
    exported, nodes = [], []
    for slot in slots:
        on_part()
        result, node = _add_slot(builder, slot, texture_px, max_faces, smoothing_steps, crease_deg)
        exported.append(result)
        nodes.append(node)
    data = builder.to_bytes("Diorama", nodes, extras)
    with atomic_write(path) as file:
        file.write(data)
    return exported


def decompose(to_world: Tensor) -> Placement:
    """Size, rotation and translation of a slot's matrix: (4, 4) = translate(t) rotate(R) scale(s), s > 0."""
    matrix = to_world.detach().cpu().double().numpy()
    assert matrix.shape == (4, 4) and np.isfinite(matrix).all()
    size = np.linalg.norm(matrix[:3, :3], axis=0)
    assert (size > 0).all(), f"a slot has no extent: {size}"
    rotation = matrix[:3, :3] / size
    assert np.abs(rotation.T @ rotation - np.eye(3)).max() < 1e-3, "a slot's matrix is sheared"
    assert np.linalg.det(rotation) > 0, "a slot's matrix mirrors"
    return Placement(size, rotation, matrix[:3, 3])


def y_up(points: NDArray) -> NDArray:
    """Blender's (x, y, z) as glTF's (x, z, -y); points: (..., 3)."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


def _add_slot(
    builder: GltfBuilder, slot: SlotResult, texture_px: int, max_faces: int, smoothing_steps: int, crease_deg: float
) -> tuple[ExportedSlot, int]:
    """The slot cleaned, unwrapped, baked and added to the file, and its node's index."""
    place = decompose(slot.to_world)
    metres = slot.vertices.detach().cpu().double().numpy() * place.size
    cleaned = clean(metres, slot.faces.detach().cpu().numpy(), max_faces, smoothing_steps)
    low, high = cleaned.vertices.min(axis=0), cleaned.vertices.max(axis=0)
    bottom = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    unwrapped, texture_px = _unwrap_with_room(cleaned.vertices, cleaned.faces, texture_px)
    textures = bake(
        cleaned.vertices, unwrapped, lambda p: p / place.size, slot.colour, texture_px, slot.vertices.device
    )
    origin = place.rotation @ bottom + place.translation
    cleaned = cleaned._replace(vertices=cleaned.vertices - bottom)
    mesh = _add_mesh(builder, slot.name, cleaned, unwrapped, textures, crease_deg)
    transform = _transform(place.rotation, origin)
    node = builder.add("nodes", {"name": slot.name, "mesh": mesh, **transform, "extras": slot.extras})
    exported = ExportedSlot(
        name=slot.name,
        vertices=cleaned.vertices @ place.rotation.T + origin,
        faces=cleaned.faces,
        uv=unwrapped.uv[unwrapped.faces],
        textures=textures,
        origin=origin,
        cleaned=cleaned,
        islands=unwrapped.islands,
        texture_filled=unwrapped.filled,
    )
    return exported, node


def _unwrap_with_room(vertices: NDArray, faces: NDArray, texture_px: int) -> tuple[Unwrapped, int]:
    """The islands, and the texture's edge: doubled until they fit, since a finished object must not be lost for it."""
    while True:
        try:
            return unwrap(vertices, faces, texture_px), texture_px
        except DoesNotFit:
            texture_px *= 2


def _transform(rotation: NDArray, origin: NDArray) -> dict[str, Any]:
    """A node's rotation (quaternion x y z w) and translation; the scale is 1, sizes are in the vertices."""
    x, y, z, w = Rotation.from_matrix(rotation).as_quat(canonical=True)
    return {"translation": y_up(origin).tolist(), "rotation": [x, z, -y, w]}


def _add_mesh(
    builder: GltfBuilder, name: str, cleaned: Cleaned, unwrapped: Unwrapped, textures: Baked, crease_deg: float
) -> int:
    """Index of the mesh: a vertex for each meeting of texture coordinate and normal."""
    shading = corner_normals(cleaned.vertices, cleaned.faces, crease_deg)
    corners = np.stack([unwrapped.faces.reshape(-1), shading.corner.reshape(-1)], axis=1)
    unique, index = np.unique(corners, axis=0, return_inverse=True)
    positions = cleaned.vertices[unwrapped.source[unique[:, 0]]]
    attributes = {
        "POSITION": builder.add_vertices(y_up(positions), bounds=True),
        "NORMAL": builder.add_vertices(y_up(shading.normals[unique[:, 1]])),
        "TEXCOORD_0": builder.add_vertices(unwrapped.uv[unique[:, 0]]),
    }
    primitive = {
        "attributes": attributes,
        "indices": builder.add_indices(index.reshape(-1, 3)),
        "material": _add_material(builder, name, textures, double_sided=not cleaned.closed),
    }
    return builder.add("meshes", {"name": name, "primitives": [primitive]})


def _add_material(builder: GltfBuilder, name: str, textures: Baked, double_sided: bool) -> int:
    """Index of the metallic-roughness material; channels that are the same everywhere become factors."""
    surface: dict[str, Any] = {
        "baseColorTexture": {"index": builder.add_texture(f"{name} base colour", textures.albedo)}
    }
    if np.ptp(textures.roughness) == 0 and np.ptp(textures.metallic) == 0:
        surface["roughnessFactor"] = int(textures.roughness[0, 0]) / 255
        surface["metallicFactor"] = int(textures.metallic[0, 0]) / 255
    else:
        unused = np.full_like(textures.roughness, 255)  # red is ambient occlusion where a program reads it: none
        packed = np.stack([unused, textures.roughness, textures.metallic], axis=-1)
        surface["metallicRoughnessTexture"] = {"index": builder.add_texture(f"{name} roughness metallic", packed)}
    material: dict[str, Any] = {"name": name, "pbrMetallicRoughness": surface}
    if double_sided:
        material["doubleSided"] = True
    return builder.add("materials", material)
