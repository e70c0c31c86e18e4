"""GLBs of any origin: what is read of them, and what is refused with which words."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from backend.scene.glb_reader import Unreadable, read_parts
from tests.user_meshes import TRIANGLE, glb, tree


def only(content: dict, binary: bytes = TRIANGLE):
    """The one part of the node "a"."""
    (part,) = read_parts(glb(content, binary), {"a"})["a"]
    return part


def test_transforms_of_a_node_and_of_its_parents_are_applied() -> None:
    half = np.sqrt(0.5)
    nodes = [
        {"translation": [0, 0, 5], "children": [1]},
        {"name": "a", "mesh": 0, "rotation": [0, 0, half, half], "scale": [2, 1, 1]},
    ]
    assert np.allclose(only(tree(nodes)).vertices, [[0, 0, 5], [0, 2, 5], [-1, 0, 5]])


def test_a_matrix_is_read_column_by_column() -> None:
    nodes = [{"name": "a", "mesh": 0, "matrix": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 7, 8, 9, 1]}]
    assert np.allclose(only(tree(nodes)).vertices[0], [7, 8, 9])


def test_a_mirrored_node_keeps_its_faces_outside() -> None:
    (part,) = read_parts(glb(tree([{"name": "a", "mesh": 0, "scale": [-1, 1, 1]}])), {"a"})["a"]
    a, b, c = part.vertices[part.faces[0]]
    assert np.cross(b - a, c - a)[2] > 0


def test_what_hangs_below_a_slots_node_is_its_own_unless_it_is_another_slots() -> None:
    nodes = [
        {"name": "a", "children": [1, 2]},
        {"name": "leg", "mesh": 0},
        {"name": "b", "mesh": 0},
        {"name": "other", "mesh": 0},
    ]
    parts = read_parts(glb(tree(nodes)), {"a", "b"})
    assert {name: len(found) for name, found in parts.items()} == {"a": 1, "b": 1}


def test_strips_and_fans_face_the_way_they_are_wound() -> None:
    square = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], np.float32)
    for mode, points in ((5, square), (6, square[[0, 1, 3, 2]])):
        content = tree([{"name": "a", "mesh": 0}], bufferViews=[{"buffer": 0, "byteLength": 48}])
        content["meshes"][0]["primitives"][0]["mode"] = mode
        content["accessors"][0]["count"] = 4
        part = only(content, points.tobytes())
        corners = part.vertices[part.faces]
        assert (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0).all()
        assert len(part.faces) == 2


def test_interleaved_and_normalised_attributes_are_read() -> None:
    record = np.zeros(3, dtype=[("position", "<f4", 3), ("colour", "u1", 4)])
    record["position"] = np.frombuffer(TRIANGLE, np.float32).reshape(3, 3)
    record["colour"] = [255, 0, 51, 255]
    content = tree([{"name": "a", "mesh": 0}], bufferViews=[{"buffer": 0, "byteLength": 48, "byteStride": 16}])
    content["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"] = 1
    content["accessors"].append(
        {"bufferView": 0, "byteOffset": 12, "componentType": 5121, "normalized": True, "count": 3, "type": "VEC4"}
    )
    part = only(content, record.tobytes())
    assert np.allclose(part.vertices[1], [1, 0, 0])
    assert np.allclose(part.colour, [[1.0, 0.0, 0.2]])


def test_a_texture_is_sampled_where_the_face_has_it_and_multiplied_by_the_base_colour() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0, 1] = 255  # the upper right quarter is white
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    uv = np.array([[0.6, 0.1], [0.9, 0.1], [0.6, 0.4]], np.float32)
    binary = TRIANGLE + uv.tobytes() + file.getvalue()
    content = tree([{"name": "a", "mesh": 0}])
    content["meshes"][0]["primitives"][0] |= {"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "material": 0}
    content["accessors"].append({"bufferView": 1, "componentType": 5126, "count": 3, "type": "VEC2"})
    content["bufferViews"] += [
        {"buffer": 0, "byteOffset": 36, "byteLength": 24},
        {"buffer": 0, "byteOffset": 60, "byteLength": len(file.getvalue())},
    ]
    content |= {
        "materials": [
            {"pbrMetallicRoughness": {"baseColorFactor": [0.5, 1, 0.25, 1], "baseColorTexture": {"index": 0}}}
        ],
        "textures": [{"source": 0}],
        "images": [{"bufferView": 2, "mimeType": "image/png"}],
    }
    assert np.allclose(only(content, binary).colour, [[0.5, 1.0, 0.25]])
    content["images"] = [{"uri": "wood.png"}]
    with pytest.raises(Unreadable, match="pictures outside"):
        only(content, binary)
    content["images"] = [{"bufferView": 0}]
    with pytest.raises(Unreadable, match="picture that cannot be read"):
        only(content, binary)


GOOD = glb(tree([{"name": "a", "mesh": 0}]))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a GLB"),
        (b"solid cube\nendsolid", "not a GLB"),
        (b"glTF", "damaged"),
        (GOOD[:60], "cut off"),
        (b"glTF" + struct.pack("<I", 1) + GOOD[8:], "version 1"),
        (GOOD[:16] + b"BIN\0" + GOOD[20:], "damaged"),
        (GOOD[:20] + b"x" + GOOD[21:], "damaged"),
    ],
)
def test_what_is_no_whole_glb_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        read_parts(data, {"a"})


NODE = [{"name": "a", "mesh": 0}]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (tree(NODE, buffers=[{"byteLength": 36, "uri": "mesh.bin"}]), "data outside the file"),
        (tree(NODE, buffers=[{"byteLength": 36, "uri": "file:///etc/passwd"}]), "data outside the file"),
        (tree(NODE, extensionsRequired=["KHR_draco_mesh_compression"]), "compressed"),
        (tree([{"name": "a", "mesh": 5}]), "damaged"),
        (tree([{"name": "a", "mesh": 0, "matrix": [1, 2]}]), "damaged"),
        (tree([{"name": "a", "mesh": 0, "rotation": [0, 0, 0, 0]}]), "damaged"),
        (tree([{"children": [1, 1, 1]}, {"name": "a", "mesh": 0}]), "no tree"),
        (tree([{"name": "a", "children": [7]}]), "damaged"),
        (tree(NODE, bufferViews=[{"buffer": 0, "byteLength": 999}]), "beyond the file"),
        (tree(NODE, bufferViews=[{"buffer": 0, "byteLength": 24}]), "beyond its bytes"),
        (tree(NODE, accessors=[{"bufferView": 0, "componentType": 5126, "count": 10**12, "type": "VEC3"}]), "beyond"),
        (tree(NODE, accessors=[{"bufferView": 0, "componentType": 5126, "count": -3, "type": "VEC3"}]), "beyond"),
        (tree(NODE, accessors=[{"bufferView": 0, "componentType": 9, "count": 3, "type": "VEC3"}]), "damaged"),
        (tree(NODE, accessors=[{"sparse": {}, "componentType": 5126, "count": 3, "type": "VEC3"}]), "sparse"),
        ([], "damaged"),
        ({"nodes": "none"}, "damaged"),
    ],
)
def test_a_glb_that_cannot_be_true_is_refused(content: dict, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        read_parts(glb(content), {"a"})


def test_a_face_whose_corner_is_missing_is_refused() -> None:
    content = tree(
        NODE, bufferViews=[{"buffer": 0, "byteLength": 36}, {"buffer": 0, "byteOffset": 36, "byteLength": 3}]
    )
    content["accessors"].append({"bufferView": 1, "componentType": 5121, "count": 3, "type": "SCALAR"})
    content["meshes"][0]["primitives"][0]["indices"] = 1
    with pytest.raises(Unreadable, match="corner that is not there"):
        only(content, TRIANGLE + bytes([0, 1, 3]))


def test_nodes_in_a_ring_are_never_followed() -> None:
    assert (
        read_parts(glb(tree([{"name": "a", "children": [1]}, {"name": "b", "mesh": 0, "children": [0]}])), {"a"}) == {}
    )


def test_damaged_bytes_are_read_or_refused_and_never_a_crash() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(GOOD)
        for at in rng.integers(12, len(data) - 36, 3):
            data[at] = rng.integers(256)
        try:
            read_parts(bytes(data), {"a"})
        except Unreadable:
            continue
