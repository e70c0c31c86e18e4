"""Where an imported object comes from, as its custom properties."""

from typing import Any

import bpy

from .answers import Job, as_list, text
from .slots import cut

LONGEST_KEY_BYTES = 63  # of a custom property


def describe(thing: bpy.types.Object, name: str, job: Job) -> None:
    """Custom properties that say where the object of the slot `name` comes from; others that came in the file stay."""
    slots = [slot for slot in as_list(job.request.get("slots")) if isinstance(slot, dict)]
    asked = next((text(slot.get("prompt")) for slot in slots if slot.get("name") == name), "")
    given = {
        "prompt": asked or text(thing.get("prompt")) or job.prompt,
        "scene_prompt": text(job.request.get("prompt")),
        "seed": job.request.get("seed", 0),
        "settings": job.request.get("settings", {}),
        "rewards": own_rewards(name, job),
        "diorama_slot": name,
        "diorama_job": job.id,
    }
    for key, value in given.items():
        thing[key] = storable(value)


def own_rewards(name: str, job: Job) -> dict[str, float]:
    """The last answers about the slot: question -> log-odds of Yes, and relation -> the same."""
    related = {
        f"{row.subject} {row.relation} {row.object}" for row in job.relations if name in (row.subject, row.object)
    }
    own: dict[str, float] = {}
    for asked, value in (job.progress.rewards if job.progress is not None else {}).items():
        what, _, question = asked.rpartition(": ")  # a slot's name may hold one, a question does not
        if what == name or what in related:
            key = cut(question if what == name else what, LONGEST_KEY_BYTES)
            own[key] = min(value, own.get(key, value))
    return own


def storable(value: Any) -> Any:
    """The value as Blender can keep it: integers have 32 bits, lists one type, keys 63 bytes."""
    if isinstance(value, dict):
        return {cut(str(key), LONGEST_KEY_BYTES): storable(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [float(item) for item in value] if all(_is_number(item) for item in value) else str(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**31:
        return str(value)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
