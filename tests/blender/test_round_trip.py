"""A scene that the backend exported stands in Blender as it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bmesh
import bpy
import numpy as np
import pytest
from mathutils import Vector
from mathutils.geometry import barycentric_transform

from .conftest import Imported

pytestmark = pytest.mark.blender

POSITION_M = 2e-4  # tolerance; float32 in the file and in Blender
TEXTURE_COLOUR = 3 / 255  # tolerance, sRGB: 8 bits, and the texel's middle instead of the point
RENDER_PX = 128
RENDER_COLOUR = 0.06  # tolerance, linear: the sky mirrored in the surface (4 %) and light from the neighbour


def world_vertices(thing: bpy.types.Object) -> np.ndarray:
    """(V, 3) metres."""
    return np.array([thing.matrix_world @ vertex.co for vertex in thing.data.vertices])


def welded(thing: bpy.types.Object) -> bmesh.types.BMesh:
    """The mesh with the vertices that a UV seam doubles put together again. The caller frees it."""
    mesh = bmesh.new()
    mesh.from_mesh(thing.data)
    mesh.transform(thing.matrix_world)
    bmesh.ops.remove_doubles(mesh, verts=mesh.verts, dist=1e-6)
    return mesh


def base_colour_image(thing: bpy.types.Object) -> bpy.types.Image:
    material = thing.data.materials[0]
    shader = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    (link,) = shader.inputs["Base Color"].links
    assert link.from_node.type == "TEX_IMAGE"
    return link.from_node.image


def slots(imported: Imported) -> list[tuple[dict[str, Any], bpy.types.Object]]:
    return [(slot, imported.objects[slot["name"]]) for slot in imported.expected["slots"]]


def test_one_object_per_slot_has_the_slot_s_name(imported: Imported) -> None:
    assert sorted(imported.objects) == sorted(slot["name"] for slot in imported.expected["slots"])


def test_an_object_s_origin_is_the_middle_of_its_foot(imported: Imported) -> None:
    for slot, thing in slots(imported):
        np.testing.assert_allclose(thing.matrix_world.translation, slot["origin"], atol=POSITION_M)


def test_objects_are_not_scaled_so_that_modifiers_work_in_metres(imported: Imported) -> None:
    for _, thing in slots(imported):
        np.testing.assert_allclose(thing.matrix_world.to_scale(), (1.0, 1.0, 1.0), atol=1e-5)


def test_an_object_is_turned_as_its_slot(imported: Imported) -> None:
    for slot, thing in slots(imported):
        turned = np.array(thing.matrix_world.to_3x3().normalized())
        np.testing.assert_allclose(turned, slot["rotation"], atol=1e-4)


def test_objects_occupy_the_bounds_they_were_made_with(imported: Imported) -> None:
    for slot, thing in slots(imported):
        vertices = world_vertices(thing)
        np.testing.assert_allclose(vertices.min(0), slot["low"], atol=POSITION_M)
        np.testing.assert_allclose(vertices.max(0), slot["high"], atol=POSITION_M)


def test_meshes_are_closed(imported: Imported) -> None:
    for slot, thing in slots(imported):
        mesh = welded(thing)
        open_edges = sum(len(edge.link_faces) != 2 for edge in mesh.edges)
        mesh.free()
        assert open_edges == 0, slot["name"]


def test_meshes_keep_their_volume_and_face_outwards(imported: Imported) -> None:
    for slot, thing in slots(imported):
        mesh = welded(thing)
        volume = mesh.calc_volume(signed=True)
        mesh.free()
        assert volume == pytest.approx(slot["volume"], rel=0.02), slot["name"]


def test_meshes_keep_to_the_triangle_budget(imported: Imported) -> None:
    for slot, thing in slots(imported):
        assert 0 < len(thing.data.polygons) <= imported.expected["max_faces"], slot["name"]


def test_every_object_has_its_own_packed_texture(imported: Imported) -> None:
    images = [base_colour_image(thing) for _, thing in slots(imported)]
    assert len({image.name for image in images}) == len(images)
    for image in images:
        assert tuple(image.size) == (imported.expected["texture_px"],) * 2
        assert image.packed_file is not None
        assert image.colorspace_settings.name == "sRGB"


def test_texture_coordinates_lie_in_the_picture(imported: Imported) -> None:
    for _, thing in slots(imported):
        uv = np.array([entry.uv for entry in thing.data.uv_layers.active.data])
        assert uv.min() >= 0.0
        assert uv.max() <= 1.0


def test_surface_points_find_the_colour_field_s_colour_in_the_texture(imported: Imported) -> None:
    for slot, thing in slots(imported):
        image = base_colour_image(thing)
        width, height = image.size
        pixels = np.array(image.pixels[:]).reshape(height, width, -1)[..., :3]  # sRGB, row 0 is the bottom
        uv = np.array([uv_of(thing, Vector(point)) for point in slot["points"]])
        found = pixels[(uv[:, 1] * height).astype(int), (uv[:, 0] * width).astype(int)]
        np.testing.assert_allclose(found, slot["point_colours"], atol=TEXTURE_COLOUR, err_msg=slot["name"])


def uv_of(thing: bpy.types.Object, world: Vector) -> Vector:
    """Texture coordinate of the point of the object's surface that is nearest to `world`."""
    hit, nearest, _, index = thing.closest_point_on_mesh(thing.matrix_world.inverted() @ world)
    assert hit
    face = thing.data.polygons[index]
    corners = [thing.data.vertices[vertex].co for vertex in face.vertices]
    uvs = [thing.data.uv_layers.active.data[loop].uv.to_3d() for loop in face.loop_indices]
    return barycentric_transform(nearest, *corners, *uvs)


def test_provenance_arrives_as_custom_properties(imported: Imported) -> None:
    for slot, thing in slots(imported):
        assert thing["prompt"] == slot["prompt"]


@pytest.fixture(scope="module")
def picture(imported: Imported, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Cycles' view of the scene from the front under an even white sky: (H, W, 4) sRGB, row 0 is the top.

    Under such a sky a matt surface looks just as its albedo.
    """
    path = tmp_path_factory.mktemp("render") / "front.png"
    add_front_camera(imported)
    add_white_sky()
    render_with_cycles(path)
    image = bpy.data.images.load(str(path))
    return np.array(image.pixels[:]).reshape(RENDER_PX, RENDER_PX, 4)[::-1]


def add_front_camera(imported: Imported) -> None:
    """An orthographic camera in front of the scene (at -Y, looking along +Y) that frames all of it."""
    low = np.min([slot["low"] for slot in imported.expected["slots"]], axis=0)
    high = np.max([slot["high"] for slot in imported.expected["slots"]], axis=0)
    camera = bpy.data.cameras.new("front")
    camera.type = "ORTHO"
    camera.ortho_scale = 1.2 * float((high - low)[[0, 2]].max())
    thing = bpy.data.objects.new("front", camera)
    middle = (low + high) / 2
    thing.location = (middle[0], low[1] - 5.0, middle[2])
    thing.rotation_euler = Vector((np.pi / 2, 0.0, 0.0))
    bpy.context.scene.collection.objects.link(thing)
    bpy.context.scene.camera = thing


def add_white_sky() -> None:
    world = bpy.data.worlds.new("sky")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Color"].default_value = (1.0, 1.0, 1.0, 1.0)
    bpy.context.scene.world = world


def render_with_cycles(path: Path) -> None:
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = 16
    scene.cycles.use_denoising = False
    scene.render.resolution_x = scene.render.resolution_y = RENDER_PX
    scene.render.resolution_percentage = 100
    scene.render.film_transparent = True
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGBA"
    scene.view_settings.view_transform = "Standard"  # AgX, the default, would change the colours
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def linear(srgb: np.ndarray) -> np.ndarray:
    """Linear light of sRGB values in [0, 1]."""
    srgb = np.asarray(srgb)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def pixel_of(point: np.ndarray) -> tuple[int, int]:
    """Row and column at which the front camera sees a point."""
    from bpy_extras.object_utils import world_to_camera_view

    x, y, _ = world_to_camera_view(bpy.context.scene, bpy.context.scene.camera, Vector(point))
    return int((1.0 - y) * RENDER_PX), int(x * RENDER_PX)


def test_a_cycles_render_shows_every_object_in_its_colour_at_its_place(imported: Imported, picture: np.ndarray) -> None:
    for slot, _ in slots(imported):
        row, column = pixel_of((np.array(slot["low"]) + np.array(slot["high"])) / 2)
        patch = picture[row - 2 : row + 3, column - 2 : column + 3]
        assert patch[..., 3].min() == 1.0, f"{slot['name']}: a hole at its middle"
        seen = linear(patch[..., :3]).mean(axis=(0, 1))
        np.testing.assert_allclose(seen, linear(slot["colour"]), atol=RENDER_COLOUR, err_msg=slot["name"])


def test_the_render_s_background_is_empty(picture: np.ndarray) -> None:
    assert picture[:4, :4, 3].max() == 0.0
