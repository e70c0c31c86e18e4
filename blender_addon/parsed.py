"""Slots and relations that the backend read from a prompt, put into the scene."""

from typing import Any

import bpy

from . import slots
from .answers import as_list, number, text
from .properties import RELATIONS

RELATION_NAMES = {row[0] for row in RELATIONS}


def add_parsed(scene: bpy.types.Scene, data: dict[str, Any], offset: Any) -> list[bpy.types.Object]:
    """The wire boxes, moved by `offset` (metres), instead of those read before; the user's own slots stay.

    One that was read before under the same name stays the same object. Slots that were the user's own meshes
    (`own_meshes`) get no box: in one, something would be generated.
    """
    own = own_meshes(data)
    entries = {text(entry.get("name")) or "slot": entry for entry in _dicts(data.get("slots"))}
    entries = {name: entry for name, entry in entries.items() if name not in own}
    kept = _remove_read(scene, set(entries))
    made: dict[str, bpy.types.Object] = {}
    for name, entry in entries.items():
        made[name] = _put(scene, kept.get(name), name, entry, offset)
    for entry in _dicts(data.get("relations")):
        subject, other = made.get(text(entry.get("subject"))), made.get(text(entry.get("object")))
        if subject is not None and other is not None and entry.get("relation") in RELATION_NAMES:
            row = scene.diorama.relations.add()
            row.subject, row.relation, row.object = subject, entry["relation"], other
    return list(made.values())


def own_meshes(data: dict[str, Any]) -> list[str]:
    """The names of the slots that are a mesh of the user's, as context or to start from."""
    return [text(entry.get("name")) for entry in _dicts(data.get("slots")) if entry.get("kind") in ("start", "context")]


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in as_list(value) if isinstance(entry, dict)]


def _put(
    scene: bpy.types.Scene, thing: bpy.types.Object | None, name: str, entry: dict[str, Any], offset: Any
) -> bpy.types.Object:
    """The wire box as the entry says, a new one where there is none."""
    box = _box(entry, offset)
    if thing is None:
        thing = slots.add_box(scene, scene.collection, name, box)
    else:
        slots.set_box(thing, box)
        if slots.is_reachable(thing, bpy.context.view_layer):
            thing.hide_set(False)  # as a new one would be seen
    thing.diorama.from_prompt = True
    thing.diorama.automatic_name = ""  # the backend's name is a good one
    thing.diorama.prompt = text(entry.get("prompt"))
    for key in ("lock_position", "lock_rotation", "lock_size"):
        setattr(thing.diorama, key, entry.get(key) is True)
    return thing


def _remove_read(scene: bpy.types.Scene, names: set[str]) -> dict[str, bpy.types.Object]:
    """Remove what related the wire boxes of the last reading, and those without one of these names; the others."""
    old = [thing for thing in slots.slots_of(scene) if thing.diorama.from_prompt and thing.type == "EMPTY"]
    old = [thing for thing in old if thing.is_editable]
    kept = {slots.slot_name(thing): thing for thing in old if slots.slot_name(thing) in names}
    relations = scene.diorama.relations
    for index in reversed(range(len(relations))):
        if relations[index].subject in old or relations[index].object in old:
            relations.remove(index)
    for thing in old:
        if kept.get(slots.slot_name(thing)) != thing:
            bpy.data.objects.remove(thing)
    slots.forget_slots()
    return kept


def _box(entry: dict[str, Any], offset: Any) -> slots.Box:
    """The entry's box."""
    centre, turned, size = (_vector(entry.get(key)) for key in ("centre", "rotation_deg", "size"))
    placed = tuple(a + b for a, b in zip(centre or (0.0, 0.0, 0.5), offset, strict=True))
    return slots.Box(placed, turned or (0.0,) * 3, size or (1.0,) * 3)


def _vector(value: Any) -> tuple[float, float, float] | None:
    numbers = tuple(number(item) for item in as_list(value))
    return numbers if len(numbers) == 3 else None
