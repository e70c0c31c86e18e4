"""Triangles and colours out of a GLB (glTF 2.0, Khronos), as far as meshes of the user's need it.

Written here and not by a library, because the file comes from outside: nothing beside it is opened, every count is
checked against the bytes that are there, and a node's parts stay together under the node's name.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

_JSON_CHUNK, _BINARY_CHUNK = 0x4E4F534A, 0x004E4942
_TYPES = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_COMPRESSED = {"KHR_draco_mesh_compression", "EXT_meshopt_compression"}
_WITHIN = np.array([[4, 1, 1], [1, 4, 1], [1, 1, 4], [2, 2, 2]]) / 6.0  # where a face's texture is looked at


class Unreadable(Exception):
    """What is wrong with the file, in words for the user."""


class Part(NamedTuple):
    """Triangles of one material."""

    vertices: NDArray[np.float64]  # (V, 3) metres, world, glTF's axes (Y up)
    faces: NDArray[np.int64]  # (F, 3)
    colour: NDArray[np.float64]  # (F, 3) linear light in [0, 1]


def read_parts(data: bytes, names: Collection[str]) -> dict[str, list[Part]]:
    """The parts of each node in `names` that the file has, and of the nodes below it that are not in `names`.

    Raises Unreadable.
    """
    try:
        document = _Document(data)
        found: dict[str, list[Part]] = {}
        for name, mesh, matrix in document.meshes(names):
            found.setdefault(name, []).extend(document.parts(mesh, matrix))
        return found
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError, RecursionError, struct.error) as error:
        raise Unreadable(f"is a damaged GLB file ({error})") from error


class _Document:
    """The file taken apart into JSON and bytes."""

    def __init__(self, data: bytes) -> None:
        if data[:4] != b"glTF":
            raise Unreadable("is not a GLB file")
        version, length = struct.unpack_from("<II", data, 4)
        if version != 2:
            raise Unreadable(f"is of glTF version {version}, not 2")
        if length > len(data):
            raise Unreadable(f"is cut off: {len(data)} of {length} bytes are there")
        size, kind = struct.unpack_from("<II", data, 12)
        if kind != _JSON_CHUNK:
            raise Unreadable("is a damaged GLB file (it does not begin with its JSON)")
        self.json: dict[str, Any] = json.loads(data[20 : 20 + size])
        self.binary = memoryview(b"")
        if len(data) >= 28 + size:
            binary_size, kind = struct.unpack_from("<II", data, 20 + size)
            if kind == _BINARY_CHUNK:
                self.binary = memoryview(data)[28 + size : 28 + size + binary_size]
        compressed = _COMPRESSED & set(self.json.get("extensionsRequired", ()))
        if compressed:
            raise Unreadable(f"has compressed meshes ({', '.join(sorted(compressed))})")

    def meshes(self, names: Collection[str]) -> Iterator[tuple[str, int, NDArray]]:
        """For every node with a mesh that belongs to a name: the name, the mesh's index, the node's world matrix."""
        nodes = self.json.get("nodes", [])
        below = {child for node in nodes for child in node.get("children", ())}
        roots = [index for index in range(len(nodes)) if index not in below]
        todo: list[tuple[int, NDArray, str | None]] = [(root, np.eye(4), None) for root in reversed(roots)]
        met: set[int] = set()
        while todo:
            index, parent, owner = todo.pop()
            if index in met:
                raise ValueError("its nodes are no tree")
            met.add(index)
            node = nodes[index]
            matrix = parent @ _matrix(node)
            owner = node["name"] if node.get("name") in names else owner
            if owner is not None and "mesh" in node:
                yield owner, node["mesh"], matrix
            todo += [(child, matrix, owner) for child in reversed(node.get("children", ()))]

    def parts(self, mesh: int, matrix: NDArray) -> Iterator[Part]:
        """The triangles of a mesh, placed by the matrix (4, 4)."""
        for primitive in self.json["meshes"][mesh]["primitives"]:
            mode = primitive.get("mode", _TRIANGLES)
            if mode not in (_TRIANGLES, _STRIP, _FAN) or "POSITION" not in primitive["attributes"]:
                continue  # points and lines
            vertices = self.values(primitive["attributes"]["POSITION"]).astype(np.float64)
            if vertices.shape[1] != 3:
                raise ValueError("positions without three coordinates")
            order = np.arange(len(vertices))
            if "indices" in primitive:
                order = self.values(primitive["indices"])[:, 0].astype(np.int64)
            faces = _triangles(order, mode)
            if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
                raise ValueError("a face has a corner that is not there")
            if np.linalg.det(matrix[:3, :3]) < 0:
                faces = faces[:, ::-1]
            colour = self.face_colours(primitive, faces)
            yield Part(vertices @ matrix[:3, :3].T + matrix[:3, 3], faces, np.clip(colour, 0.0, 1.0))

    def face_colours(self, primitive: dict[str, Any], faces: NDArray) -> NDArray:
        """(F, 3) linear: base colour times vertex colours times texture, as glTF has it."""
        material = self.json["materials"][primitive["material"]] if "material" in primitive else {}
        surface, attributes = material.get("pbrMetallicRoughness", {}), primitive["attributes"]
        factor = np.asarray(surface.get("baseColorFactor", (1.0, 1.0, 1.0, 1.0)), np.float64)[:3]
        colour = np.broadcast_to(np.nan_to_num(factor), (len(faces), 3))
        if "COLOR_0" in attributes:
            colour = colour * np.nan_to_num(self.values(attributes["COLOR_0"])[:, :3])[faces].mean(1)
        texture = surface.get("baseColorTexture")
        where = f"TEXCOORD_{texture.get('texCoord', 0)}" if texture else ""
        if texture and where in attributes and len(faces):
            picture = self.picture(texture["index"])
            uv = np.einsum("sk,fkx->fsx", _WITHIN, np.nan_to_num(self.values(attributes[where]))[faces])
            height, width = picture.shape[:2]
            column, row = ((uv % 1.0) * (width, height)).astype(np.int64).clip(0, (width - 1, height - 1)).T
            colour = colour * _to_linear(picture[row, column] / 255.0).mean(0)
        return colour

    def picture(self, texture: int) -> NDArray[np.uint8]:
        """The texture's picture: (H, W, 3) sRGB."""
        image = self.json["images"][self.json["textures"][texture]["source"]]
        if "uri" in image:
            raise Unreadable("keeps its pictures outside the file")
        try:
            return np.asarray(Image.open(io.BytesIO(self.view(image["bufferView"]))).convert("RGB"))
        except (OSError, Image.DecompressionBombError) as error:
            raise Unreadable(f"has a picture that cannot be read ({error})") from error

    def values(self, accessor: int) -> NDArray:
        """An accessor's values (N, width); integers that stand for [0, 1] or [-1, 1] as floats."""
        entry = self.json["accessors"][accessor]
        if "sparse" in entry:
            raise Unreadable("has sparse accessors, which are not supported")
        dtype, width, count = np.dtype(_TYPES[entry["componentType"]]), _WIDTHS[entry["type"]], entry["count"]
        if "bufferView" not in entry:
            return np.zeros((min(count, len(self.binary)), width), dtype)
        stride = self.json["bufferViews"][entry["bufferView"]].get("byteStride") or width * dtype.itemsize
        data, offset = self.view(entry["bufferView"]), entry.get("byteOffset", 0)
        if count == 0:
            return np.zeros((0, width), dtype)
        if count < 0 or offset < 0 or offset + (count - 1) * stride + width * dtype.itemsize > len(data):
            raise ValueError("an accessor reaches beyond its bytes")
        values = np.ndarray((count, width), dtype, data, offset, (stride, dtype.itemsize))
        if entry.get("normalized"):
            return values / np.float64(np.iinfo(dtype.name).max)
        return values

    def view(self, index: int) -> memoryview:
        """The bytes of a buffer view."""
        view = self.json["bufferViews"][index]
        if "uri" in self.json["buffers"][view["buffer"]]:
            raise Unreadable("keeps its data outside the file")
        start, length = view.get("byteOffset", 0), view["byteLength"]
        if start < 0 or length < 0 or start + length > len(self.binary):
            raise ValueError("a buffer view reaches beyond the file")
        return self.binary[start : start + length]


def _matrix(node: dict[str, Any]) -> NDArray:
    """A node's own transform: (4, 4)."""
    if "matrix" in node:
        return np.asarray(node["matrix"], np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    turn = np.asarray(node.get("rotation", (0.0, 0.0, 0.0, 1.0)), np.float64)
    scale = np.asarray(node.get("scale", (1.0, 1.0, 1.0)), np.float64)
    matrix[:3, :3] = Rotation.from_quat(turn).as_matrix() * scale
    matrix[:3, 3] = node.get("translation", (0.0, 0.0, 0.0))
    return matrix


def _triangles(order: NDArray, mode: int) -> NDArray[np.int64]:
    """Corner indices in the order they are given, as faces (F, 3)."""
    if mode == _TRIANGLES:
        return order[: len(order) // 3 * 3].reshape(-1, 3)
    if mode == _FAN:
        return np.stack([np.broadcast_to(order[:1], len(order) - 2), order[1:-1], order[2:]], axis=1)
    faces = np.stack([order[:-2], order[1:-1], order[2:]], axis=1)
    faces[1::2] = faces[1::2, ::-1]
    return faces


def _to_linear(srgb: NDArray) -> NDArray:
    """Linear light from sRGB values in [0, 1] (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
