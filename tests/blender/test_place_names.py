"""What imported objects are called, and how they are known by their slots' names: taken, linked, and too long ones."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import pytest

from .test_place import known_job, place
from .test_slots import add_mesh, add_slot

pytestmark = pytest.mark.blender
LONG = "ü" * 40  # 80 bytes: Blender before 5.0 cuts an object's name after 63


@pytest.fixture
def job(addon):
    return known_job(addon)


def test_names_that_are_taken_stay_with_their_owners(job, exported) -> None:
    mesh = add_mesh("cube")
    collection = place(job, exported)
    assert mesh.name == "cube"
    assert sorted(thing.name for thing in collection.objects) == ["cube.001", "sphere"]
    assert {thing["diorama_slot"] for thing in collection.objects} == {"cube", "sphere"}


def test_a_linked_object_of_a_slot_s_name_is_left_alone(job, exported, tmp_path) -> None:
    linked = linked_twin(add_mesh("cube"), tmp_path)
    bpy.context.scene.collection.objects.link(linked)
    collection = place(job, exported)
    assert linked.name == "cube" and linked.library is not None
    assert sorted(thing.name for thing in collection.objects) == ["cube", "sphere"]
    assert all(thing.library is None for thing in collection.objects)


def linked_twin(thing: bpy.types.Object, folder: Path) -> bpy.types.Object:
    """The object linked from another file, instead of itself."""
    path, name = str(folder / "library.blend"), thing.name
    bpy.data.libraries.write(path, {thing})
    bpy.data.objects.remove(thing)
    with bpy.data.libraries.load(path, link=True) as (_, here):
        here.objects = [name]
    return here.objects[0]


def test_a_linked_slot_outside_the_view_layer_does_not_stop_the_import(job, exported, tmp_path) -> None:
    slot = add_slot("a cube")
    slot.name = "cube"
    attic = bpy.data.collections.new("attic")
    bpy.context.scene.collection.children.link(attic)
    attic.objects.link(linked_twin(slot, tmp_path))
    bpy.context.view_layer.layer_collection.children["attic"].exclude = True
    assert len(place(job, exported).objects) == 2


def test_a_long_prompt_gives_a_whole_name(addon) -> None:
    name = addon.place.collection_name("ein grüner Würfel " * 9)
    assert name.startswith("Diorama: ein grüner Würfel")
    assert len(name.encode()) <= 63


def renamed(path: Path, target: Path, names: dict[str, str]) -> Path:
    """A copy of a GLB as the backend writes it for slots with other names."""
    data = path.read_bytes()
    length = int.from_bytes(data[12:16], "little")
    head = json.loads(data[20 : 20 + length])
    for node in head["nodes"]:
        node["name"] = names[node["name"]]
        node["extras"]["diorama_slot"] = node["name"]
    text = json.dumps(head, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 4)
    body = len(text).to_bytes(4, "little") + b"JSON" + text + data[20 + length :]
    target.write_bytes(b"glTF" + (2).to_bytes(4, "little") + (12 + len(body)).to_bytes(4, "little") + body)
    return target


def test_names_that_are_too_long_for_blender_keep_their_prompts_and_hide_their_boxes(addon, exported, tmp_path) -> None:
    names = {"sphere": f"{LONG} sphere", "cube": f"cube {LONG}"}
    request = {"slots": [{"name": name, "prompt": f"a {short}"} for short, name in names.items()]}
    job = known_job(addon, request)
    bpy.ops.diorama.use_settings(job=job.id)
    boxes = list(bpy.context.scene.objects)
    renamed(exported / "scene.glb", tmp_path / "scene.glb", names)
    collection = place(job, tmp_path)
    assert {thing["diorama_slot"]: thing["prompt"] for thing in collection.objects} == {
        names["sphere"]: "a sphere",
        names["cube"]: "a cube",
    }
    assert [box.hide_get() for box in boxes] == [True, True]


def test_names_that_are_the_same_once_they_are_cut_stay_apart(addon, exported, tmp_path) -> None:
    names = {"sphere": f"{LONG} sphere", "cube": f"{LONG} cube"}
    job = known_job(addon, {"slots": [{"name": name, "prompt": f"a {short}"} for short, name in names.items()]})
    renamed(exported / "scene.glb", tmp_path / "scene.glb", names)
    prompts = {thing["diorama_slot"]: thing["prompt"] for thing in place(job, tmp_path).objects}
    assert prompts == {names["sphere"]: "a sphere", names["cube"]: "a cube"}
