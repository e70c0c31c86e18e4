"""A result becomes objects in the scene: all of it or nothing, in any mode, one undo step, nothing else touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bpy
import pytest

from .backends import status, tick
from .test_slots import add_mesh, add_slot

pytestmark = pytest.mark.blender
REQUEST = {
    "prompt": "a red cube on a blue sphere",
    "slots": [{"name": "sphere", "prompt": "a blue sphere"}, {"name": "cube", "prompt": "a red cube"}],
    "seed": 0,
    "settings": {"steps": 4},
}
REWARDS = {"cube: Is it red?": 1.5}


@pytest.fixture
def job(addon):
    return known_job(addon)


def known_job(addon, request: dict[str, Any] = REQUEST, rewards: dict[str, float] = REWARDS, **changes):
    """A job that is done, known to the session."""
    progress = {"step": 4, "steps": 4, "rewards": rewards, "phase": "exporting"}
    data = {"id": "20261123-141500-ab12cd", "state": "done", "request": request, "progress": progress}
    known = addon.answers.read_job({**data, "has_result": True, **changes})
    addon.jobs.session().job = known
    return known


def place(job, exported: Path, select: bool = True) -> bpy.types.Collection:
    before = set(bpy.data.collections)
    path = str(exported / "scene.glb")
    assert bpy.ops.diorama.place("EXEC_DEFAULT", True, job=job.id, filepath=path, select=select) == {"FINISHED"}
    (collection,) = set(bpy.data.collections) - before
    return collection


def counts() -> dict[str, int]:
    kinds = ("objects", "meshes", "materials", "images", "collections", "scenes")
    return {kind: len(getattr(bpy.data, kind)) for kind in kinds}


def test_a_result_is_a_collection_with_an_object_per_slot(job, exported) -> None:
    collection = place(job, exported)
    assert collection.name == "Diorama: a red cube on a blue sphere"
    assert sorted(thing.name for thing in collection.objects) == ["cube", "sphere"]
    assert collection.name in bpy.context.scene.collection.children
    assert all(thing.users_collection == (collection,) for thing in collection.objects)


def test_objects_stand_where_they_were_made_with_the_origin_at_the_foot(job, exported) -> None:
    collection = place(job, exported)
    bpy.context.view_layer.update()
    for slot in json.loads((exported / "expected.json").read_text())["slots"]:
        thing = collection.objects[slot["name"]]
        assert thing.matrix_world.translation[:] == pytest.approx(slot["origin"], abs=2e-4)
        assert thing.matrix_world.to_scale()[:] == pytest.approx((1.0, 1.0, 1.0), abs=1e-5)


def test_pictures_are_packed_and_objects_say_where_they_come_from(job, exported) -> None:
    collection = place(job, exported)
    assert len(bpy.data.images) > 0
    assert all(image.packed_file is not None for image in bpy.data.images)
    cube = collection.objects["cube"]
    assert (cube["prompt"], cube["seed"], cube["diorama_slot"], cube["diorama_job"]) == (
        "a red cube",
        0,
        "cube",
        job.id,
    )
    assert cube["settings"]["steps"] == 4
    assert cube["rewards"].to_dict() == {"Is it red?": pytest.approx(1.5)}
    assert collection.objects["sphere"]["rewards"].to_dict() == {}


def test_boxes_are_hidden_and_not_deleted_and_context_stays(job, exported) -> None:
    box = add_slot("a cube")
    box.name = "Slot cube"
    ground = add_mesh("sphere")
    bpy.ops.diorama.slots_from_selection(kind="context")
    other = add_slot("something else")
    place(job, exported)
    assert (box.hide_get(), ground.hide_get(), other.hide_get()) == (True, False, False)


def test_the_scene_gets_no_properties_of_the_result(job, exported) -> None:
    scene = bpy.context.scene
    scene["prompt"], scene["settings"] = "mine", {"steps": [1, 2]}
    before = set(scene.keys())
    place(job, exported)
    assert (scene["prompt"], scene["settings"].to_dict()) == ("mine", {"steps": [1, 2]})
    assert set(scene.keys()) - before <= {"diorama"}  # ours, which every file has


def test_the_same_result_can_be_imported_twice(job, exported) -> None:
    first, second = place(job, exported), place(job, exported)
    assert first != second
    assert len(first.objects) == len(second.objects) == 2


@pytest.mark.parametrize("mode", ["OBJECT", "EDIT", "SCULPT", "VERTEX_PAINT", "WEIGHT_PAINT", "TEXTURE_PAINT"])
@pytest.mark.parametrize("select", [True, False])
def test_any_mode_will_do_and_stays(job, exported, mode, select) -> None:
    mesh = add_mesh("mine")
    bpy.ops.object.mode_set(mode=mode)
    collection = place(job, exported, select)
    assert len(collection.objects) == 2
    assert mesh.mode == mode
    if mode != "OBJECT" or not select:
        assert bpy.context.view_layer.objects.active == mesh
        assert mesh.select_get()


def test_an_import_that_fails_leaves_the_mode_as_it_was(job, tmp_path) -> None:
    mesh = add_mesh("mine")
    bpy.ops.object.mode_set(mode="EDIT")
    (tmp_path / "scene.glb").write_bytes(b"glTF no more")
    with pytest.raises(RuntimeError):
        bpy.ops.diorama.place("EXEC_DEFAULT", True, job=job.id, filepath=str(tmp_path / "scene.glb"), select=True)
    assert mesh.mode == "EDIT"


def test_pose_mode_will_do(job, exported) -> None:
    bpy.ops.object.armature_add()
    bpy.ops.object.mode_set(mode="POSE")
    assert len(place(job, exported).objects) == 2
    assert bpy.context.mode == "POSE"


@pytest.mark.parametrize("active", ["none", "empty", "camera", "hidden", "excluded"])
def test_any_active_object_will_do(job, exported, active) -> None:
    layer = bpy.context.view_layer
    layer.objects.active = None
    if active != "none":
        data = bpy.data.cameras.new("eye") if active == "camera" else None
        thing = bpy.data.objects.new("active", data)
        bpy.context.scene.collection.objects.link(thing)
        layer.objects.active = thing
        thing.hide_set(active == "hidden")
    if active == "excluded":
        attic = bpy.data.collections.new("attic")
        bpy.context.scene.collection.children.link(attic)
        layer.active_layer_collection = layer.layer_collection.children["attic"]
        layer.layer_collection.children["attic"].exclude = True
    assert len(place(job, exported).objects) == 2


def test_the_new_objects_are_selected_when_asked_for(job, exported) -> None:
    mesh = add_mesh("mine")
    collection = place(job, exported, select=True)
    assert set(bpy.context.selected_objects) == set(collection.objects)
    assert not mesh.select_get()


@pytest.mark.parametrize("mode", ["OBJECT", "EDIT"])
def test_an_import_is_one_undo_step(job, exported, mode) -> None:
    box = add_slot("a cube")
    box.name = "Slot cube"
    add_mesh("mine")
    bpy.ops.ed.undo_push(message="before")
    if mode == "EDIT":
        bpy.ops.object.mode_set("EXEC_DEFAULT", True, mode="EDIT")
    place(job, exported)
    assert len(bpy.data.meshes) == 3
    bpy.ops.ed.undo()
    assert sorted(thing.name for thing in bpy.data.objects) == ["Slot cube", "mine"]
    assert [c.name for c in bpy.data.collections if c.name.startswith("Diorama")] == []
    assert not bpy.data.objects["Slot cube"].hide_get()


@pytest.mark.parametrize(
    "content", [b"", b"not a glb at all, but long enough for a header", b"glTF\2\0\0\0\x20\0\0\0\x14\0\0\0JSON{}"]
)
def test_a_file_that_is_no_glb_leaves_nothing(job, addon, tmp_path, content) -> None:
    add_mesh("cube")
    path = tmp_path / "result.glb"
    path.write_bytes(content)
    before = counts()
    with pytest.raises(RuntimeError):
        bpy.ops.diorama.place(job=job.id, filepath=str(path))
    assert counts() == before
    assert bpy.data.objects["cube"].type == "MESH"
    assert addon.jobs.session().fault is not None
    with pytest.raises(addon.messages.BackendError):
        addon.results.check_glb(path)


def test_a_fault_that_nobody_thought_of_leaves_nothing_and_is_told(addon, job, exported) -> None:
    session = addon.jobs.session()
    session.job = job = job._replace(request={"prompt": "\ud83d half a letter"})
    add_mesh("cube")
    before = counts()
    with pytest.raises(addon.whole.PlaceError):
        addon.place.place(exported / "scene.glb", job, bpy.context.scene, select=True)
    session.waiting.append(addon.arrivals.Arrived(job, exported / "scene.glb", True, 0.0))
    tick(addon)
    assert counts() == before
    assert bpy.data.objects["cube"].type == "MESH"
    assert (status().fault_mend, status().fault_job) == ("import", job.id)
    assert "surrogates not allowed" in status().fault


def test_a_damaged_glb_leaves_nothing(job, exported, tmp_path) -> None:
    whole = (exported / "scene.glb").read_bytes()
    path = tmp_path / "result.glb"
    path.write_bytes(whole[: len(whole) // 2])
    before = counts()
    with pytest.raises(RuntimeError):
        bpy.ops.diorama.place(job=job.id, filepath=str(path))
    assert counts() == before


def test_objects_become_assets_when_asked_for(job, exported) -> None:
    bpy.context.scene.diorama.mark_assets = True
    for thing in place(job, exported).objects:
        assert thing.asset_data is not None
        assert min(thing.preview.image_size) > 0


def test_a_result_goes_into_the_scene_that_asked_for_it(job, exported, addon) -> None:
    here = bpy.context.scene
    here.diorama.last_job = job.id
    other = bpy.data.scenes.new("other")
    bpy.context.window.scene = other
    collection = place(job, exported, select=False)
    assert collection.name in here.collection.children
    assert len(other.objects) == 0
