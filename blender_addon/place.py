"""A result's GLB as objects in the scene: named, in a collection, all or nothing. Never talks to the backend."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import addon_utils
import bpy

from .answers import Job
from .slots import slot_name, slots_of

LONGEST_NAME_BYTES = 63  # of a data-block before Blender 5.0
IMPORT_OPTIONS = {
    "import_pack_images": True,
    "merge_vertices": False,
    "import_shading": "NORMALS",
    "import_scene_as_collection": False,  # Blender 4.4 and newer
    "import_select_created_objects": False,
}
MADE = ("objects", "collections", "meshes", "materials", "images")  # kinds of data that an import makes


class PlaceError(Exception):
    """Blender could not import the file; nothing of it was left in the scene."""


def place(path: Path, job: Job, scene: bpy.types.Scene, select: bool) -> bpy.types.Collection:
    """The new collection with one object per slot.

    select: the new objects become the selection; else selection, active object and mode stay. Raises PlaceError.
    """
    layer = bpy.context.view_layer if scene == bpy.context.scene else scene.view_layers[0]
    before = _data()
    with _object_mode(select):
        try:
            things = _import(path, scene, layer, before)
            collection = _gather(things, job, scene, before)
        except (RuntimeError, PlaceError) as error:
            _remove(before)
            raise PlaceError(_plain(error)) from error
        for name, thing in things.items():
            _describe(thing, name, job)
        _hide_slots(scene, layer, set(things))
        if scene.diorama.mark_assets:
            _mark_assets(list(things.values()))
        if select and scene == bpy.context.scene:
            _select(list(things.values()), layer)
    return collection


def collection_name(prompt: str) -> str:
    """`Diorama: PROMPT`, cut between letters to the length of a data-block's name."""
    name = f"Diorama: {' '.join(prompt.split())}".encode()[:LONGEST_NAME_BYTES]
    return name.decode(errors="ignore").strip()


class _Data(NamedTuple):
    """Which data-blocks there are, by kind."""

    pointers: dict[str, set[int]]

    def added(self, kind: str) -> list[Any]:
        """Those of a kind that are there now and were not."""
        return [block for block in getattr(bpy.data, kind) if block.as_pointer() not in self.pointers[kind]]


def _data() -> _Data:
    return _Data({kind: {block.as_pointer() for block in getattr(bpy.data, kind)} for kind in MADE})


def _import(
    path: Path, scene: bpy.types.Scene, layer: bpy.types.ViewLayer, before: _Data
) -> dict[str, bpy.types.Object]:
    """The imported mesh objects by their node's name, wherever the importer put them."""
    # With the add-on switched off the operator is missing; it is then loaded for this session only.
    if not addon_utils.check("io_scene_gltf2")[1]:
        addon_utils.enable("io_scene_gltf2", default_set=False)
    known = bpy.ops.import_scene.gltf.get_rna_type().properties.keys()
    options = {key: value for key, value in IMPORT_OPTIONS.items() if key in known}
    with _names_set_aside(_node_names(path)), bpy.context.temp_override(scene=scene, view_layer=layer):
        bpy.ops.import_scene.gltf(filepath=str(path), **options)
        things = {thing.name: thing for thing in before.added("objects") if thing.type == "MESH"}
    if not things:
        raise PlaceError("The result holds no objects")
    return things


@contextlib.contextmanager
def _names_set_aside(names: set[str]) -> Iterator[None]:
    """Inside, no object has one of these names; afterwards those that had one have it again."""
    old = [(thing, thing.name) for thing in map(bpy.data.objects.get, names) if thing is not None]
    for index, (thing, _) in enumerate(old):
        thing.name = f"diorama set aside {index}"
    try:
        yield
    finally:
        new = [(thing, thing.name) for thing in map(bpy.data.objects.get, names) if thing is not None]
        for index, (thing, _) in enumerate(new):
            thing.name = f"diorama new {index}"
        for thing, name in old + new:  # a name that is taken gets a number
            thing.name = name


def _node_names(path: Path) -> set[str]:
    """The names of the nodes in a GLB."""
    with path.open("rb") as file:
        header = file.read(20)
        text = file.read(int.from_bytes(header[12:16], "little"))
    try:
        return {node["name"] for node in json.loads(text)["nodes"]}
    except (ValueError, KeyError, TypeError) as error:
        raise PlaceError("The result is not a GLB that Blender can read") from error


def _gather(
    things: dict[str, bpy.types.Object], job: Job, scene: bpy.types.Scene, before: _Data
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


def _remove(before: _Data) -> None:
    """Take away what a failed import has made."""
    for kind in MADE:
        bpy.data.batch_remove(before.added(kind))


def _describe(thing: bpy.types.Object, name: str, job: Job) -> None:
    """Custom properties that say where the object comes from; those that came in the file stay."""
    slots = {slot.get("name"): slot for slot in job.request.get("slots", ()) if isinstance(slot, dict)}
    given = {
        "prompt": slots.get(name, {}).get("prompt", job.prompt),
        "seed": job.request.get("seed", 0),
        "settings": job.request.get("settings", {}),
        "rewards": dict(job.progress.rewards) if job.progress else {},
        "diorama_slot": name,
        "diorama_job": job.id,
    }
    for key, value in given.items():
        if key not in thing.keys():  # noqa: SIM118 - `in thing` would ask for something else
            thing[key] = storable(value)


def storable(value: Any) -> Any:
    """The value as Blender can keep it: integers have 32 bits, lists one type."""
    if isinstance(value, dict):
        return {str(key)[:63]: storable(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [float(item) for item in value] if all(_is_number(item) for item in value) else str(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**31:
        return str(value)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _hide_slots(scene: bpy.types.Scene, layer: bpy.types.ViewLayer, names: set[str]) -> None:
    """Hide the boxes and shapes whose place is taken by results. They can be shown again; nothing is deleted."""
    for thing in slots_of(scene):
        if slot_name(thing) not in names or thing.diorama.kind == "context":
            continue
        if layer.objects.get(thing.name) is not None:
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


def _plain(error: Exception) -> str:
    """The last line of an operator's report, without its label."""
    lines = str(error).strip().splitlines()
    return re.sub(r"^(Error: )+", "", lines[-1]) if lines else "Blender could not import the result"
