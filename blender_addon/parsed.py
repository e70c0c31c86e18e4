"""Slots and relations that the backend read from a prompt, put into the scene."""

from typing import Any

import bpy

from . import slots
from .answers import as_list, number, text
from .properties import RELATIONS

RELATION_NAMES = {row[0] for row in RELATIONS}


def add_parsed(scene: bpy.types.Scene, data: dict[str, Any], offset: Any) -> list[bpy.types.Object]:
    """The new wire boxes, moved by `offset` (metres), instead of those read before; the user's own slots stay.

    Slots that were the user's own meshes (`own_meshes`) get no box: in one, something would be generated.
    """
    _remove_read(scene)
    made: dict[str, bpy.types.Object] = {}
    own = own_meshes(data)
    for entry in (entry for entry in as_list(data.get("slots")) if isinstance(entry, dict)):
        if text(entry.get("name")) in own:
            continue
        name = text(entry.get("name")) or "slot"
        thing = slots.add_box(scene, scene.collection, name, _box(entry, offset))
        thing.diorama.from_prompt = True
        thing.diorama.automatic_name = ""  # the backend's name is a good one
        thing.diorama.prompt = text(entry.get("prompt"))
        for key in ("lock_position", "lock_rotation", "lock_size"):
            setattr(thing.diorama, key, entry.get(key) is True)
        made[name] = thing
    for entry in (entry for entry in as_list(data.get("relations")) if isinstance(entry, dict)):
        subject, other = made.get(text(entry.get("subject"))), made.get(text(entry.get("object")))
        if subject is not None and other is not None and entry.get("relation") in RELATION_NAMES:
            row = scene.diorama.relations.add()
            row.subject, row.relation, row.object = subject, entry["relation"], other
    return list(made.values())


def own_meshes(data: dict[str, Any]) -> list[str]:
    """The names of the slots that are a mesh of the user's, as context or to start from."""
    slots = [entry for entry in as_list(data.get("slots")) if isinstance(entry, dict)]
    return [text(entry.get("name")) for entry in slots if entry.get("kind") in ("start", "context")]


def _remove_read(scene: bpy.types.Scene) -> None:
    """Remove the wire boxes of the last reading, and what related them."""
    old = [thing for thing in slots.slots_of(scene) if thing.diorama.from_prompt and thing.type == "EMPTY"]
    relations = scene.diorama.relations
    for index in reversed(range(len(relations))):
        if relations[index].subject in old or relations[index].object in old:
            relations.remove(index)
    for thing in old:
        bpy.data.objects.remove(thing)
    slots.forget_slots()


def _box(entry: dict[str, Any], offset: Any) -> slots.Box:
    """The entry's box."""
    centre, turned, size = (_vector(entry.get(key)) for key in ("centre", "rotation_deg", "size"))
    placed = tuple(a + b for a, b in zip(centre or (0.0, 0.0, 0.5), offset, strict=True))
    return slots.Box(placed, turned or (0.0,) * 3, size or (1.0,) * 3)


def _vector(value: Any) -> tuple[float, float, float] | None:
    numbers = tuple(number(item) for item in as_list(value))
    return numbers if len(numbers) == 3 else None
