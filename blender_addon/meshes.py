"""The user's own objects as one GLB: a named node each, world coordinates, a base colour per material.

Written here and not by Blender's exporter: that one needs a selection, object mode and visible objects.
"""

import contextlib
import json
from array import array
from collections.abc import Iterator
from typing import Any

import bpy

from .slots import world_matrix

FLOAT, UNSIGNED = 5126, 5125  # glTF component types
POINTS, INDICES = 34962, 34963  # glTF buffer targets


def has_faces(thing: bpy.types.Object) -> bool:
    """False where the object can be seen to have no faces; quick, so without its modifiers."""
    return len(thing.data.polygons) > 0 or len(thing.modifiers) > 0 if thing.type == "MESH" else True


def glb_of(shapes: list[tuple[str, bpy.types.Object]]) -> bytes:
    """A GLB with a node for each (name, object): its surface with modifiers, in glTF's axes, the transform applied."""
    writer = _Writer()
    for name, thing in shapes:
        with _evaluated(thing) as evaluated:
            materials = [slot.material for slot in thing.material_slots]
            writer.add(name, evaluated.to_mesh(), world_matrix(thing), materials)
            evaluated.to_mesh_clear()
    return writer.to_bytes()


@contextlib.contextmanager
def _evaluated(thing: bpy.types.Object) -> Iterator[bpy.types.Object]:
    """The object with its modifiers. Blender leaves them out of what is hidden: a copy that is not stands in for it."""
    if thing.visible_get():
        yield thing.evaluated_get(bpy.context.evaluated_depsgraph_get())
        return
    copy = thing.copy()
    copy.hide_viewport = False
    bpy.context.scene.collection.objects.link(copy)
    try:
        yield copy.evaluated_get(bpy.context.evaluated_depsgraph_get())
    finally:
        bpy.data.objects.remove(copy)


def base_colour(material: bpy.types.Material | None) -> list[float]:
    """Linear RGBA of a material: the Principled shader's colour where there is one, else the viewport's."""
    if material is None:
        return [0.8, 0.8, 0.8, 1.0]
    nodes = material.node_tree.nodes if material.node_tree is not None else ()
    shader = next((node for node in nodes if node.type == "BSDF_PRINCIPLED"), None)
    colour = shader.inputs["Base Color"].default_value if shader is not None else material.diffuse_color
    return [min(max(float(channel), 0.0), 1.0) for channel in colour[:3]] + [1.0]


class _Writer:
    """Collects the parts of a glTF file."""

    def __init__(self) -> None:
        self.binary = bytearray()
        self.parts: dict[str, list[Any]] = {
            key: [] for key in ("nodes", "meshes", "materials", "accessors", "bufferViews")
        }

    def put(self, key: str, value: dict[str, Any]) -> int:
        self.parts[key].append(value)
        return len(self.parts[key]) - 1

    def add(self, name: str, mesh: bpy.types.Mesh, matrix: Any, materials: list[bpy.types.Material | None]) -> None:
        mesh.calc_loop_triangles()
        points = array("f", bytes(12 * len(mesh.vertices)))
        mesh.vertices.foreach_get("co", points)
        position = self.accessor(_to_gltf(points, matrix), 3)
        corners = array("i", bytes(12 * len(mesh.loop_triangles)))
        mesh.loop_triangles.foreach_get("vertices", corners)
        owners = array("i", bytes(4 * len(mesh.loop_triangles)))
        mesh.loop_triangles.foreach_get("material_index", owners)
        mirrored = matrix.determinant() < 0.0
        primitives = []
        for owner in sorted(set(owners)):
            indices = array("I")
            for triangle in (i for i, o in enumerate(owners) if o == owner):
                a, b, c = corners[3 * triangle : 3 * triangle + 3]
                indices.extend((a, c, b) if mirrored else (a, b, c))
            material = materials[min(owner, len(materials) - 1)] if materials else None
            primitives.append(
                {
                    "attributes": {"POSITION": position},
                    "indices": self.accessor(indices, 1),
                    "material": self.put("materials", _material(material)),
                }
            )
        self.put("nodes", {"name": name, "mesh": self.put("meshes", {"name": name, "primitives": primitives})})

    def accessor(self, values: array, width: int) -> int:
        """The index of the accessor of `values`, stored `width` by `width`."""
        target = POINTS if width == 3 else INDICES
        data = values.tobytes()
        view = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data), "target": target}
        self.binary += data
        entry: dict[str, Any] = {
            "bufferView": self.put("bufferViews", view),
            "componentType": FLOAT if width == 3 else UNSIGNED,
            "count": len(values) // width,
            "type": "VEC3" if width == 3 else "SCALAR",
        }
        if width == 3:
            entry["min"] = [min(values[axis::3]) for axis in range(3)]
            entry["max"] = [max(values[axis::3]) for axis in range(3)]
        return self.put("accessors", entry)

    def to_bytes(self) -> bytes:
        head = {"asset": {"version": "2.0", "generator": "Diorama"}, "scene": 0}
        head["scenes"] = [{"nodes": list(range(len(self.parts["nodes"])))}]
        head["buffers"] = [{"byteLength": len(self.binary)}]
        text = json.dumps({**head, **self.parts}).encode()
        text += b" " * (-len(text) % 4)
        binary = bytes(self.binary) + b"\0" * (-len(self.binary) % 4)
        chunks = [(b"JSON", text), (b"BIN\0", binary)]
        body = b"".join(len(data).to_bytes(4, "little") + kind + data for kind, data in chunks)
        return b"glTF" + (2).to_bytes(4, "little") + (12 + len(body)).to_bytes(4, "little") + body


def _material(material: bpy.types.Material | None) -> dict[str, Any]:
    shading = {"baseColorFactor": base_colour(material), "metallicFactor": 0.0}
    return {"name": material.name if material else "plain", "pbrMetallicRoughness": shading}


def _to_gltf(points: array, matrix: Any) -> array:
    """World positions in glTF's axes, (x, y, z) -> (x, z, -y), of local `points` (x0, y0, z0, x1, ...)."""
    x, y, z = points[0::3], points[1::3], points[2::3]
    rows = [tuple(row) for row in matrix][:3]
    world = [array("f", (a * i + b * j + c * k + d for i, j, k in zip(x, y, z, strict=True))) for a, b, c, d in rows]
    placed = array("f", bytes(4 * len(points)))
    placed[0::3], placed[1::3], placed[2::3] = world[0], world[2], array("f", (-value for value in world[1]))
    return placed
