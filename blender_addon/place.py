"""A result's GLB as objects in the scene: named, in a collection, all or nothing. Never talks to the backend."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import addon_utils
import bpy

from .answers import Job, text
from .provenance import describe
from .slots import cut, is_reachable, object_names, slot_name, slots_of
from .whole import Before, PlaceError, whole_or_nothing

LONGEST_NAME_BYTES = 63  # of a data-block before Blender 5.0
NO_GLB = "The result is not a GLB that Blender can read"
IMPORT_OPTIONS = {
    "import_pack_images": True,
    "merge_vertices": False,
    "import_shading": "NORMALS",
    "import_scene_as_collection": False,  # Blender 4.4 and newer
    "import_select_created_objects": False,
    "import_scene_extras": False,  # newer than 4.2; they would become custom properties of the user's scene
}


def place(path: Path, job: Job, scene: bpy.types.Scene, select: bool) -> bpy.types.Collection:
    """The new collection with one object per slot.

    select: the new objects become the selection; else selection, active object and mode stay. Raises PlaceError.
    """
    layer = bpy.context.view_layer if scene == bpy.context.scene else scene.view_layers[0]
    with whole_or_nothing() as before, _object_mode(select):
        things = _import(path, scene, layer, before)
        collection = _gather(things, job, scene, before)
        for name, thing in things.items():
            describe(thing, name, job)
        if scene.diorama.mark_assets:
            _mark_assets(list(things.values()))
        _hide_slots(scene, layer, set(things))
        if select and scene == bpy.context.scene:
            _select(list(things.values()), layer)
    return collection


def collection_name(prompt: str) -> str:
    """`Diorama: PROMPT`, cut between letters to the length of a data-block's name."""
    return cut(f"Diorama: {' '.join(prompt.split())}", LONGEST_NAME_BYTES)


def _import(
    path: Path, scene: bpy.types.Scene, layer: bpy.types.ViewLayer, before: Before
) -> dict[str, bpy.types.Object]:
    """The imported mesh objects by their slot's name, wherever the importer put them."""
    # With the add-on switched off the operator is missing; it is then loaded for this session only.
    if not addon_utils.check("io_scene_gltf2")[1]:
        addon_utils.enable("io_scene_gltf2", default_set=False)
    known = bpy.ops.import_scene.gltf.get_rna_type().properties.keys()
    options = {key: value for key, value in IMPORT_OPTIONS.items() if key in known}
    told = _json_of(path)
    names, extras = _node_names(told), _scene_extras(told)
    override = bpy.context.temp_override(scene=scene, view_layer=layer)
    with _names_set_aside(names), _properties_kept(scene, extras), override:
        bpy.ops.import_scene.gltf(filepath=str(path), **options)
        made = [thing for thing in before.added("objects") if thing.type == "MESH"]
        things = {text(thing.get("diorama_slot")) or thing.name: thing for thing in made}  # names may have been cut
    if not things:
        raise PlaceError("The result holds no objects")
    return things


@contextlib.contextmanager
def _names_set_aside(names: set[str]) -> Iterator[None]:
    """Inside, no object of this file has one of these names; afterwards those that had one have it again."""
    old = _named(names)
    for index, (thing, _) in enumerate(old):
        thing.name = f"diorama set aside {index}"
    try:
        yield
    finally:
        new = _named(names)
        for index, (thing, _) in enumerate(new):
            thing.name = f"diorama new {index}"
        for thing, name in old + new:  # a name that is taken gets a number
            thing.name = name


def _named(names: set[str]) -> list[tuple[bpy.types.Object, str]]:
    """The objects with these names; linked ones have names of their own, and cannot be renamed."""
    local = (bpy.data.objects.get((name, None)) for name in names)
    return [(thing, thing.name) for thing in local if thing is not None]


@contextlib.contextmanager
def _properties_kept(scene: bpy.types.Scene, keys: set[str]) -> Iterator[None]:
    """Afterwards the scene's custom properties of these names are what they were: Blender 4.2's importer always makes
    them of what the file tells of itself.
    """
    before = {key: _plain(scene[key]) for key in keys if key in scene}
    try:
        yield
    finally:
        for key in keys:
            if key in before:
                scene[key] = before[key]
            elif key in scene:
                del scene[key]


def _plain(value: Any) -> Any:
    """A custom property's value, by itself."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return value.to_list() if hasattr(value, "to_list") else value


def _node_names(told: dict[str, Any]) -> set[str]:
    """The names of the nodes in a GLB's JSON."""
    try:
        return {node["name"] for node in told["nodes"]}
    except (KeyError, TypeError) as error:
        raise PlaceError(NO_GLB) from error


def _scene_extras(told: dict[str, Any]) -> set[str]:
    """The names of what a GLB's JSON tells of its scenes."""
    try:
        return {key for scene in told.get("scenes", ()) for key in scene.get("extras") or {}}
    except (AttributeError, TypeError) as error:
        raise PlaceError(NO_GLB) from error


def _json_of(path: Path) -> dict[str, Any]:
    """What the first chunk of a GLB holds."""
    with path.open("rb") as file:
        header = file.read(20)
        told = file.read(int.from_bytes(header[12:16], "little"))
    try:
        return json.loads(told)
    except ValueError as error:
        raise PlaceError(NO_GLB) from error


def _gather(
    things: dict[str, bpy.types.Object], job: Job, scene: bpy.types.Scene, before: Before
) -> bpy.types.Collection:
    """A new collection of the scene that holds the objects, and nothing else of what the importer made."""
    collection = bpy.data.collections.new(collection_name(job.prompt))
    scene.collection.children.link(collection)
    collection.color_tag = "COLOR_05"
    for thing in things.values():
        for other in list(thing.users_collection):
            other.objects.unlink(thing)
        collection.objects.link(thing)
    for extra in before.added("objects"):
        if extra not in things.values():
            bpy.data.objects.remove(extra)
    for extra in before.added("collections"):
        if extra != collection:
            bpy.data.collections.remove(extra)
    for image in before.added("images"):
        if image.packed_file is None and image.has_data:
            image.pack()
    return collection


def _hide_slots(scene: bpy.types.Scene, layer: bpy.types.ViewLayer, names: set[str]) -> None:
    """Hide the boxes and shapes whose place is taken by results. They can be shown again; nothing is deleted."""
    called = {form for name in names for form in object_names(name)}
    for thing in slots_of(scene):
        if slot_name(thing) not in called or thing.diorama.kind == "context":
            continue
        if is_reachable(thing, layer):
            thing.hide_set(True, view_layer=layer)
        if thing.type != "EMPTY" and thing.library is None:
            thing.hide_render = True


def _mark_assets(things: list[bpy.types.Object]) -> None:
    for thing in things:
        thing.asset_mark()
        thing.asset_generate_preview()


def _select(things: list[bpy.types.Object], layer: bpy.types.ViewLayer) -> None:
    for thing in list(layer.objects.selected):
        thing.select_set(False, view_layer=layer)
    for thing in things:
        thing.select_set(True, view_layer=layer)
    layer.objects.active = things[0]


@contextlib.contextmanager
def _object_mode(select: bool) -> Iterator[None]:
    """Object mode inside. Selection, active object and mode are restored, unless `select` in object mode."""
    layer = bpy.context.view_layer
    active, chosen = layer.objects.active, list(layer.objects.selected)
    mode = active.mode if active is not None else "OBJECT"
    if mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    placed = False
    try:
        yield
        placed = True
    finally:
        if not (placed and select and mode == "OBJECT"):
            _restore(layer, active, chosen, mode)


def _restore(layer: bpy.types.ViewLayer, active: Any, chosen: list[bpy.types.Object], mode: str) -> None:
    for thing in list(layer.objects.selected):
        thing.select_set(False, view_layer=layer)
    for thing in chosen:
        if not thing.hide_get(view_layer=layer):
            thing.select_set(True, view_layer=layer)
    layer.objects.active = active
    if mode != "OBJECT" and active is not None:
        bpy.ops.object.mode_set(mode=mode)
