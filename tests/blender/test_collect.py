"""What is read from a Blender scene, and what is said of a scene that cannot be generated."""

from __future__ import annotations

import json
import os

import bpy
import pytest

from . import scenes
from .conftest import ROOT
from .test_slots import add_mesh, add_slot

pytestmark = pytest.mark.blender
CONTRACT = ROOT / "tests" / "contract"


def collected(addon):
    return addon.collect.collect(bpy.context.scene, bpy.context.view_layer)


def problems(addon) -> list[str]:
    scene = bpy.context.scene
    bpy.context.view_layer.update()
    return [str(p) for p in addon.collect.problems(scene, bpy.context.view_layer, addon.slots.slots_of(scene))]


def only_problem(addon) -> str:
    (problem,) = problems(addon)
    with pytest.raises(addon.collect.LayoutError, match=r".+"):
        collected(addon)
    assert not bpy.ops.diorama.generate.poll()
    return problem


def rounded(value):
    """Blender's single precision as a person would write it."""
    if isinstance(value, float):
        return round(value, 4) + 0.0
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return {key: rounded(item) for key, item in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("name", scenes.ALL)
def test_a_scene_gives_the_request_that_the_backend_is_tested_with(addon, name) -> None:
    """UPDATE_CONTRACT=1 writes the fixtures anew."""
    scenes.ALL[name]()
    request, meshes = collected(addon)
    path = CONTRACT / f"request_{name}.json"
    if os.environ.get("UPDATE_CONTRACT"):
        path.write_text(json.dumps(rounded(request), indent=2) + "\n")
        if meshes is not None:
            path.with_suffix(".glb").write_bytes(meshes)
    assert rounded(request) == json.loads(path.read_text())
    assert (meshes is not None) == path.with_suffix(".glb").is_file()


def test_the_user_s_meshes_arrive_in_the_world_with_their_modifiers_and_colours(addon, tmp_path) -> None:
    mesh = add_mesh("rough", size=2.0)
    mesh.location, mesh.scale = (1.0, 2.0, 3.0), (1.0, 1.0, -0.5)  # mirrored: faces must still look outwards
    mesh.modifiers.new("more", "SUBSURF").subdivision_type = "SIMPLE"
    material = bpy.data.materials.new("red")
    material.use_nodes = True
    material.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (0.8, 0.1, 0.2, 1.0)
    mesh.data.materials.append(material)
    bpy.ops.diorama.slots_from_selection(kind="start")
    path = tmp_path / "meshes.glb"
    path.write_bytes(collected(addon).meshes)
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=str(path))
    (thing,) = bpy.context.scene.objects
    bpy.context.view_layer.update()
    corners = [thing.matrix_world @ vertex.co for vertex in thing.data.vertices]
    assert thing.name == "rough"
    assert len(corners) >= 26
    assert [min(c[axis] for c in corners) for axis in range(3)] == pytest.approx([0.0, 1.0, 2.5], abs=1e-5)
    assert [max(c[axis] for c in corners) for axis in range(3)] == pytest.approx([2.0, 3.0, 3.5], abs=1e-5)
    middle = sum((face.center for face in thing.data.polygons), start=corners[0] * 0.0) / len(thing.data.polygons)
    assert all(face.normal.dot(face.center - middle) > 0.0 for face in thing.data.polygons)
    assert thing.data.materials[0].node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value[
        :3
    ] == pytest.approx((0.8, 0.1, 0.2))


def test_a_flat_ground_can_be_context(addon) -> None:
    add_slot("a red cube")
    bpy.ops.mesh.primitive_plane_add(size=10.0)
    bpy.ops.diorama.slots_from_selection(kind="context")
    assert problems(addon) == []
    assert min(collected(addon).request["slots"][1]["size"]) > 0.0


@pytest.mark.parametrize("how", ["eye", "screen"])
def test_a_hidden_mesh_is_sent_with_its_modifiers(addon, how) -> None:
    mesh = add_mesh("rough", size=2.0)
    mesh.modifiers.new("more", "SUBSURF").levels = 1
    bpy.ops.diorama.slots_from_selection(kind="start")
    seen = collected(addon).meshes
    if how == "eye":
        mesh.hide_set(True)
    else:
        mesh.hide_viewport = True
    before = len(bpy.data.objects)
    assert collected(addon).meshes == seen
    assert len(bpy.data.objects) == before


def test_texts_and_curves_can_be_started_from(addon) -> None:
    bpy.ops.object.text_add()
    bpy.context.object.data.extrude = 0.1
    bpy.ops.diorama.slots_from_selection(kind="start")
    assert collected(addon).meshes.startswith(b"glTF")


def test_an_empty_scene_has_nothing_to_generate(addon) -> None:
    assert "nothing to generate" in only_problem(addon)


def test_a_slot_without_prompt_is_named(addon) -> None:
    add_slot("a red cube").diorama.prompt = "  "
    assert "'red cube' has no prompt" in only_problem(addon)


def test_two_slots_of_one_name_are_named(addon) -> None:
    add_slot("a cube").name = "Slot cube"
    other = add_slot("a cube")
    other.name = "cube"
    assert "Two slots have the name 'cube'" in only_problem(addon)


@pytest.mark.parametrize("scale", [(0.0, 1.0, 1.0), (0.0, 0.0, 0.0)])
def test_a_zero_scale_is_refused(addon, scale) -> None:
    add_slot("a cube").scale = scale
    assert "length zero" in only_problem(addon)


@pytest.mark.parametrize("place", [(2e5, 0.0, 0.0), (float("nan"), 0.0, 0.0), (0.0, 0.0, float("nan"))])
def test_a_slot_outside_the_range_is_refused(addon, place) -> None:
    add_slot("a cube").location = place
    assert "beyond" in only_problem(addon)


def test_a_needle_is_refused(addon) -> None:
    add_slot("a cube").scale = (5000.0, 1.0, 1.0)
    assert "as long as it is thick" in only_problem(addon)


def test_a_slot_in_an_excluded_collection_is_named_with_its_collection(addon) -> None:
    slot = add_slot("a cube")
    attic = bpy.data.collections.new("attic")
    bpy.context.scene.collection.children.link(attic)
    bpy.context.scene.collection.objects.unlink(slot)
    attic.objects.link(slot)
    bpy.context.view_layer.layer_collection.children["attic"].exclude = True
    assert "(attic) that is excluded" in only_problem(addon)


@pytest.mark.parametrize("how", ["eye", "screen", "collection"])
def test_a_hidden_slot_is_generated_all_the_same(addon, how) -> None:
    slot = add_slot("a cube")
    slot.location.x = 3.0
    if how == "eye":
        slot.hide_set(True)
    elif how == "screen":
        slot.hide_viewport = True
    else:
        attic = bpy.data.collections.new("attic")
        bpy.context.scene.collection.children.link(attic)
        bpy.context.scene.collection.objects.unlink(slot)
        attic.objects.link(slot)
        attic.hide_viewport = True
    assert problems(addon) == []
    assert collected(addon).request["slots"][0]["centre"] == pytest.approx([3.0, 0.0, 0.5])


def test_linked_slots_are_read_and_their_faults_say_which_file_to_open(addon, tmp_path) -> None:
    add_slot("a cube").diorama.prompt = ""
    path = str(tmp_path / "library.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.read_homefile(use_empty=True)
    with bpy.data.libraries.load(path, link=True) as (there, here):
        here.objects = list(there.objects)
    for thing in here.objects:
        bpy.context.scene.collection.objects.link(thing)
    assert "library.blend" in only_problem(addon)


def test_only_context_is_nothing_to_generate(addon) -> None:
    add_mesh("floor")
    bpy.ops.diorama.slots_from_selection(kind="context")
    assert "Every slot is context" in only_problem(addon)


def test_a_shape_without_faces_cannot_be_started_from(addon) -> None:
    add_mesh("points").data.clear_geometry()
    bpy.ops.diorama.slots_from_selection(kind="start")
    assert any("no faces" in problem for problem in problems(addon))


@pytest.mark.parametrize("kind", ["start", "context"])
def test_a_collection_instance_is_refused_with_what_makes_it_a_shape(addon, kind) -> None:
    add_slot("a blue sphere")
    forest = add_slot("a forest")
    forest.instance_type, forest.instance_collection = "COLLECTION", bpy.data.collections.new("trees")
    forest.diorama.kind = kind
    problem = only_problem(addon)
    assert "Slot 'forest' shows a collection" in problem and "Make Instances Real" in problem


def bare_curve() -> None:
    bpy.ops.curve.primitive_bezier_circle_add()


def empty_text() -> None:
    bpy.ops.object.text_add()
    bpy.context.object.data.body = " "


def nothing_left() -> None:
    """A mesh of which a modifier leaves nothing."""
    mesh = add_mesh("masked")
    mesh.modifiers.new("mask", "MASK").vertex_group = mesh.vertex_groups.new(name="none").name


@pytest.mark.parametrize("make", [bare_curve, empty_text, nothing_left])
def test_what_has_no_faces_is_refused_before_the_run(addon, make) -> None:
    add_slot("a red cube")
    make()
    bpy.ops.diorama.slots_from_selection(kind="context")
    assert any("no faces" in problem for problem in problems(addon))
    assert not bpy.ops.diorama.generate.poll()


def flat_outline() -> None:
    bare_curve()
    bpy.context.object.data.dimensions, bpy.context.object.data.fill_mode = "2D", "BOTH"


def tube() -> None:
    bare_curve()
    bpy.context.object.data.bevel_depth = 0.1


def skin() -> None:
    """A mesh whose faces are all a modifier's, where Blender does not compute it: hidden."""
    mesh = add_mesh("bone")
    mesh.data.clear_geometry()
    mesh.data.from_pydata([(0.0, 0.0, 0.0), (0.0, 0.0, 1.0)], [(0, 1)], [])
    mesh.modifiers.new("skin", "SKIN")
    mesh.select_set(True)


def edited() -> None:
    add_mesh("edited").modifiers.new("more", "SUBSURF")


@pytest.mark.parametrize("make", [flat_outline, tube, skin, edited])
@pytest.mark.parametrize("how", ["seen", "hidden", "edited"])
def test_what_has_faces_is_not_refused(addon, make, how) -> None:
    add_slot("a red cube")
    make()
    thing = bpy.context.object
    bpy.ops.diorama.slots_from_selection(kind="start")
    thing.hide_viewport = how == "hidden"
    if how == "edited":
        bpy.ops.object.mode_set(mode="EDIT")
    assert [problem for problem in problems(addon) if "no faces" in problem] == []


def test_too_many_slots_are_refused(addon) -> None:
    for index in range(17):
        add_slot(f"cube number {index}")
    assert "at most 16" in only_problem(addon)


@pytest.mark.parametrize("overrides", ["{", "[1]", '"a"'])
def test_overrides_that_are_no_object_are_refused(addon, overrides) -> None:
    bpy.context.scene.diorama.prompt = "a red cube"
    bpy.context.scene.diorama.overrides = overrides
    assert "not JSON" in only_problem(addon)


def test_a_prompt_that_is_too_long_is_refused(addon) -> None:
    add_slot("a cube").diorama.prompt = "cube " * 300
    assert "more than 1000 letters" in only_problem(addon)


def test_settings_of_a_run_taken_over_give_its_request_again(addon) -> None:
    """The other way of the contract: what the backend's schema wrote, the add-on understands."""
    data = json.loads((CONTRACT / "from_backend.json").read_text())
    job = addon.answers.read_job(data["job"])
    addon.jobs.session().history = [job]
    assert bpy.ops.diorama.use_settings(job=job.id) == {"FINISHED"}
    again = rounded(collected(addon).request)
    assert again == rounded(job.request)
    assert job.request == data["request"]
