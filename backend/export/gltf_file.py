"""The GLB container (glTF 2.0, Khronos): a JSON header and one binary chunk.

Written here and not by a library, because node extras, names, PBR textures and equal bytes for equal input are then
in our own hands; the whole format as far as it is needed is this file.
"""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .files import jsonable

_MAGIC, _VERSION, _JSON_CHUNK, _BINARY_CHUNK = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
_COMPONENT = {"float32": 5126, "uint16": 5123, "uint32": 5125}
_VERTEX_TARGET, _INDEX_TARGET = 34962, 34963
_LINEAR, _LINEAR_MIPMAP_LINEAR, _CLAMP = 9729, 9987, 33071


class GltfBuilder:
    """Collects the pieces of one file; each `add_` returns the index by which other pieces refer to it."""

    def __init__(self, generator: str) -> None:
        self._binary = bytearray()
        self._json: dict[str, Any] = {"asset": {"version": "2.0", "generator": generator}}

    def add(self, kind: str, value: dict[str, Any]) -> int:
        """Index of `value` in the top-level list `kind` ("nodes", "meshes", "materials", ...)."""
        entries = self._json.setdefault(kind, [])
        entries.append(value)
        return len(entries) - 1

    def add_vertices(self, values: NDArray, *, bounds: bool = False) -> int:
        """Accessor of a per-vertex attribute, (V, 2) or (V, 3); `bounds` adds the min and max that positions need."""
        data = np.ascontiguousarray(values, np.float32)
        accessor = self._accessor(data, f"VEC{data.shape[1]}", _VERTEX_TARGET)
        if bounds:
            accessor["min"], accessor["max"] = data.min(axis=0).tolist(), data.max(axis=0).tolist()
        return self.add("accessors", accessor)

    def add_indices(self, faces: NDArray) -> int:
        """Accessor of the triangles' vertex indices, (F, 3); 16 bits where they suffice (65535 is reserved)."""
        data = np.ascontiguousarray(faces.reshape(-1), np.uint16 if faces.max() < 65535 else np.uint32)
        return self.add("accessors", self._accessor(data, "SCALAR", _INDEX_TARGET))

    def add_texture(self, name: str, picture: NDArray) -> int:
        """Texture of an (H, W, 3) uint8 picture, embedded as PNG."""
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG", optimize=False)
        image = self.add(
            "images", {"name": name, "mimeType": "image/png", "bufferView": self._view(file.getvalue(), None)}
        )
        if "samplers" not in self._json:
            self.add(
                "samplers",
                {"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP_LINEAR, "wrapS": _CLAMP, "wrapT": _CLAMP},
            )
        return self.add("textures", {"sampler": 0, "source": image})

    def to_bytes(self, name: str, nodes: list[int], extras: dict[str, Any]) -> bytes:
        """The whole file: one scene called `name` of the given root nodes."""
        scene = {"name": name, "nodes": nodes, "extras": extras}
        self._pad(self._binary, b"\0")
        header = {**self._json, "scene": 0, "scenes": [scene], "buffers": [{"byteLength": len(self._binary)}]}
        text = bytearray(json.dumps(jsonable(header), ensure_ascii=False, separators=(",", ":")).encode())
        self._pad(text, b" ")
        total = 12 + 8 + len(text) + 8 + len(self._binary)
        return b"".join(
            [
                struct.pack("<III", _MAGIC, _VERSION, total),
                struct.pack("<II", len(text), _JSON_CHUNK),
                bytes(text),
                struct.pack("<II", len(self._binary), _BINARY_CHUNK),
                bytes(self._binary),
            ]
        )

    def _accessor(self, data: NDArray, kind: str, target: int) -> dict[str, Any]:
        return {
            "bufferView": self._view(data.tobytes(), target),
            "componentType": _COMPONENT[data.dtype.name],
            "count": len(data),
            "type": kind,
        }

    def _view(self, data: bytes, target: int | None) -> int:
        self._pad(self._binary, b"\0")
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self._binary), "byteLength": len(data)}
        if target is not None:
            view["target"] = target
        self._binary += data
        return self.add("bufferViews", view)

    @staticmethod
    def _pad(data: bytearray, filler: bytes) -> None:
        data += filler * (-len(data) % 4)
