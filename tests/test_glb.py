"""The GLB: valid, readable by others, one named and placed node per slot."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from backend.errors import OutputError
from backend.export.glb import SlotResult, decompose, export_scene
from backend.export.normals import corner_normals
from backend.export.topology import is_closed

from .solids import plain, slot, solid, waves

ROOT = Path(__file__).resolve().parents[1]
PX = 128
BUDGET = 2000
SCENE = {"prompt": "a red cube on top of a blue sphere", "seed": 7, "settings": {"steps": 200, "lr": 0.01}}


def turned(result: SlotResult, degrees: tuple[float, float, float]) -> SlotResult:
    """The slot's box turned about its own centre, Euler XYZ as Blender applies it."""
    rotation = torch.from_numpy(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()).float()
    to_world = result.to_world.clone()
    to_world[:3, :3] = rotation @ to_world[:3, :3]
    return result._replace(to_world=to_world)


def two_slots() -> list[SlotResult]:
    cube = slot("red cube", "box", size=(1.0, 2.0, 0.5), centre=(1.0, -2.0, 3.0), colour=plain)
    return [turned(cube, (20.0, 30.0, 40.0)), slot("blaue Kugel ✓", "sphere", size=(0.6, 0.6, 0.6), colour=waves)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(path, what export_scene says it wrote, the file's JSON header, its binary chunk)"""
    path = tmp_path_factory.mktemp("glb") / "scene.glb"
    exported = export_scene(two_slots(), path, PX, BUDGET, SCENE)
    return path, exported, *parts(path.read_bytes())


def parts(data: bytes) -> tuple[dict, bytes]:
    magic, version, total, length, kind = struct.unpack_from("<4sIII4s", data)
    assert (magic, version, total, kind) == (b"glTF", 2, len(data), b"JSON")
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def texture(header: dict, binary: bytes, reference: dict) -> np.ndarray:
    image = header["images"][header["textures"][reference["index"]]["source"]]
    view = header["bufferViews"][image["bufferView"]]
    return np.asarray(Image.open(io.BytesIO(binary[view["byteOffset"] :][: view["byteLength"]])))


def validator() -> str | None:
    """Where the Khronos validator's npm package is, if anywhere."""
    for folder in (os.environ.get("GLTF_VALIDATOR"), ROOT / "node_modules" / "gltf-validator"):
        if folder and (Path(folder) / "package.json").is_file():
            return str(folder)
    return None


@pytest.mark.skipif(
    shutil.which("node") is None or validator() is None,
    reason="the Khronos glTF validator is not here: install node, then `npm install gltf-validator` in the repository",
)
@pytest.mark.parametrize("colour", [plain, waves])
def test_the_khronos_validator_finds_nothing_wrong(tmp_path, colour):
    path = tmp_path / "scene.glb"
    export_scene([s._replace(colour=colour) for s in two_slots()], path, PX, BUDGET, SCENE)
    script = (
        "const v = require(process.argv[1]), fs = require('fs');"
        "v.validateBytes(new Uint8Array(fs.readFileSync(process.argv[2])))"
        ".then(r => console.log(JSON.stringify(r.issues)));"
    )
    command = ["node", "-e", script, str(validator()), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    issues = json.loads(done.stdout)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"][:5]


def test_another_reader_finds_one_named_node_per_slot_where_it_was_put(written):
    path, exported, *_ = written
    scene = trimesh.load_scene(path)
    assert sorted(scene.graph.nodes_geometry) == sorted(s.name for s in two_slots())
    for result in exported:
        transform, geometry = scene.graph[result.name]
        points = trimesh.transform_points(scene.geometry[geometry].vertices, transform)
        z_up = np.stack([points[:, 0], -points[:, 2], points[:, 1]], axis=1)
        distance, _ = cKDTree(z_up).query(result.vertices)
        assert distance.max() < 1e-5


def test_world_vertices_lie_where_the_slot_s_matrix_puts_them(tmp_path):
    source = two_slots()[0]
    local = source.vertices.double().numpy()
    matrix = source.to_world.double().numpy()
    world = local @ matrix[:3, :3].T + matrix[:3, 3]
    (exported,) = export_scene([source], tmp_path / "a.glb", 64, 10**6, {})
    distance, _ = cKDTree(exported.vertices).query(world)
    assert distance.max() < 1e-5


def test_nodes_turn_and_move_but_never_scale(written):
    header = written[2]
    for node in header["nodes"]:
        assert set(node) == {"name", "mesh", "translation", "rotation", "extras"}
        assert np.linalg.norm(node["rotation"]) == pytest.approx(1.0, abs=1e-6)


def test_the_origin_is_the_bottom_centre_and_sizes_are_real(written):
    header = written[2]
    for node, size in zip(header["nodes"], [(1.0, 2.0, 0.5), (0.6, 0.6, 0.6)], strict=True):
        position = header["accessors"][header["meshes"][node["mesh"]]["primitives"][0]["attributes"]["POSITION"]]
        low, high = np.array(position["min"]), np.array(position["max"])
        assert np.allclose(high - low, (size[0], size[2], size[1]), rtol=0.02)  # Y is up in the file
        assert np.allclose((low + high)[[0, 2]], 0.0, atol=1e-5)
        assert low[1] == pytest.approx(0.0, abs=1e-6)


def test_an_upright_slot_stands_at_its_box_s_bottom_centre(tmp_path):
    (exported,) = export_scene([slot("box", "box", centre=(3.0, 4.0, 5.0))], tmp_path / "a.glb", 64, BUDGET, {})
    assert np.allclose(exported.origin, (3.0, 4.0, 4.5), atol=1e-5)


def test_provenance_is_in_the_nodes_and_in_the_scene(written):
    header = written[2]
    assert header["scenes"][0]["extras"] == SCENE
    for node, source in zip(header["nodes"], two_slots(), strict=True):
        assert node["extras"] == source.extras


def test_values_that_json_cannot_say_become_null_or_lists(tmp_path):
    odd = {"reward": float("nan"), "per_view": np.arange(2), "tensor": torch.ones(2), "path": Path("a"), "pair": (1, 2)}
    export_scene([slot("s", colour=plain)._replace(extras=odd)], tmp_path / "a.glb", 64, BUDGET, {})
    header, _ = parts((tmp_path / "a.glb").read_bytes())
    expected = {"reward": None, "per_view": [0, 1], "tensor": [1.0, 1.0], "path": "a", "pair": [1, 2]}
    assert header["nodes"][0]["extras"] == expected


def test_a_varying_surface_has_a_texture_with_roughness_in_green_and_metallic_in_blue(written):
    _, exported, header, binary = written
    surface = header["materials"][1]["pbrMetallicRoughness"]
    picture = texture(header, binary, surface["metallicRoughnessTexture"])
    assert np.array_equal(picture[..., 1], exported[1].textures.roughness)
    assert np.array_equal(picture[..., 2], exported[1].textures.metallic)
    assert np.array_equal(texture(header, binary, surface["baseColorTexture"]), exported[1].textures.albedo)
    assert "metallicFactor" not in surface and "roughnessFactor" not in surface  # 1: the texture's values count


def test_a_constant_surface_has_factors_instead_of_a_texture(written):
    surface = written[2]["materials"][0]["pbrMetallicRoughness"]
    assert "metallicRoughnessTexture" not in surface
    assert surface["roughnessFactor"] == pytest.approx(0.6, abs=1 / 255)
    assert surface["metallicFactor"] == 0.0


def test_meshes_are_closed_within_budget_and_still_closed_when_read_back(written):
    path, exported, *_ = written
    assert all(len(result.faces) <= BUDGET and result.cleaned.closed for result in exported)
    for mesh in trimesh.load_scene(path).geometry.values():
        mesh.merge_vertices(merge_tex=True, merge_norm=True)
        assert is_closed(mesh.faces)
        assert mesh.volume > 0


def test_an_open_mesh_is_drawn_from_both_sides(tmp_path):
    whole = slot("s", colour=plain)
    export_scene([whole._replace(faces=whole.faces[5:])], tmp_path / "a.glb", 64, 10**6, {})
    header, _ = parts((tmp_path / "a.glb").read_bytes())
    assert header["materials"][0]["doubleSided"] is True


def test_the_same_input_gives_the_same_bytes(written, tmp_path):
    export_scene(two_slots(), tmp_path / "again.glb", PX, BUDGET, SCENE)
    assert (tmp_path / "again.glb").read_bytes() == written[0].read_bytes()


def test_a_cube_s_sides_are_shaded_flat_and_a_sphere_smooth():
    vertices, faces = solid("box")
    shading = corner_normals(vertices, faces, 45.0)
    assert np.allclose(np.abs(shading.normals).max(axis=1), 1.0)
    vertices, faces = solid("sphere")
    shading = corner_normals(vertices, faces, 45.0)
    assert len(shading.normals) == len(vertices)
    radial = vertices[faces] / np.linalg.norm(vertices[faces], axis=2, keepdims=True)
    assert np.einsum("fkx,fkx->fk", shading.normals[shading.corner], radial).min() > 0.999


@pytest.mark.parametrize(("crease_deg", "count"), [(0.0, 36), (89.0, 24), (91.0, 8)])
def test_the_crease_angle_decides_where_normals_split(crease_deg, count):
    box = trimesh.creation.box((1.0, 1.0, 1.0))
    shading = corner_normals(box.vertices, box.faces, crease_deg)
    assert len(shading.normals) == count  # 0 degrees splits even within a flat side
    assert np.allclose(np.linalg.norm(shading.normals, axis=1), 1.0)


def test_a_matrix_comes_apart_into_size_rotation_and_place():
    place = decompose(two_slots()[0].to_world)
    assert np.allclose(place.size, (1.0, 2.0, 0.5), atol=1e-6)
    assert np.allclose(place.rotation, Rotation.from_euler("xyz", (20, 30, 40), degrees=True).as_matrix(), atol=1e-6)
    assert np.allclose(place.translation, (1.0, -2.0, 3.0))


def test_a_failed_write_names_the_place_and_leaves_the_old_result(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"file.*choose another output folder"):
        export_scene([slot("s", colour=plain)], tmp_path / "file" / "scene.glb", 64, BUDGET, {})
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_texture_too_small_for_the_islands_grows_instead_of_losing_the_object(tmp_path):
    rough = trimesh.creation.icosphere(3, 0.5)
    rough.vertices *= 1 + 0.3 * np.random.default_rng(0).standard_normal((len(rough.vertices), 1))
    body = slot("rough")._replace(
        vertices=torch.from_numpy(np.asarray(rough.vertices)).float(), faces=torch.from_numpy(np.asarray(rough.faces))
    )
    [exported] = export_scene([body], tmp_path / "rough.glb", 32, 5000, {})
    assert exported.textures.albedo.shape[0] > 32
    assert (tmp_path / "rough.glb").is_file()
