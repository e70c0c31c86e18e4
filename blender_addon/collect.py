"""The Blender scene as a SceneRequest dict, and what stands in the way of one. The only place that reads the layout."""

import json
from typing import Any, NamedTuple

import bpy

from .meshes import glb_of, has_faces
from .slots import MAKE_REAL, MESH_LIKE, box_of, is_instance, is_reachable, slot_name, slots_of

MAX_SLOTS = 16  # these limits are backend/schema.py's; the tests hold both together
LONGEST_NAME = 63
LONGEST_PROMPT, LONGEST_SCENE_PROMPT, LONGEST_NEGATIVE = 1000, 4000, 1000
SHORTEST_EDGE_M, LONGEST_M, MOST_ELONGATED = 1e-4, 1e5, 1000.0


class Problem(NamedTuple):
    """Something that keeps the scene from being generated."""

    what: str  # a sentence without a final period
    remedy: str
    slot: str = ""  # name of the object to select
    relation: int = -1  # index of the relation to remove

    def __str__(self) -> str:
        return f"{self.what}. {self.remedy}"


class Collected(NamedTuple):
    """What is sent to the backend."""

    request: dict[str, Any]
    meshes: bytes | None  # GLB of the user's own objects, world coordinates


class LayoutError(Exception):
    """The scene cannot be generated; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


def collect(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> Collected:
    """The request for this scene. Raises LayoutError for the first problem."""
    view_layer.update()  # places that were set since the last redraw
    found = slots_of(scene)
    for problem in problems(scene, view_layer, found):
        raise LayoutError(problem)
    settings = scene.diorama
    request = {
        "prompt": settings.prompt.strip(),
        "negative_prompt": settings.negative_prompt.strip(),
        "slots": [slot_of(thing) for thing in found],
        "relations": [relation_of(row) for row in settings.relations],
        "preset": settings.preset,
        "seed": settings.seed,
        "settings": overrides_of(settings),
    }
    shapes = [thing for thing in found if thing.diorama.kind != "generate"]
    if not shapes:
        return Collected(request, None)
    return Collected(request, glb_of([(slot_name(thing), thing) for thing in shapes]))


def slot_of(thing: bpy.types.Object) -> dict[str, Any]:
    """One entry of the request's slots."""
    slot, box = thing.diorama, box_of(thing)
    return {
        "name": slot_name(thing),
        "prompt": slot.prompt.strip(),
        "kind": slot.kind,
        "centre": list(box.centre),
        "rotation_deg": list(box.rotation_deg),
        "size": list(box.size),
        "lock_position": slot.lock_position,
        "lock_rotation": slot.lock_rotation,
        "lock_size": slot.lock_size,
    }


def relation_of(row: Any) -> dict[str, str]:
    """One entry of the request's relations."""
    return {"subject": slot_name(row.subject), "relation": row.relation, "object": slot_name(row.object)}


def overrides_of(settings: Any) -> dict[str, Any]:
    """The request's settings. Raises ValueError when the overrides are no JSON object."""
    overrides = json.loads(settings.overrides) if settings.overrides.strip() else {}
    if not isinstance(overrides, dict):
        raise ValueError("expected a JSON object")
    if settings.steps:
        overrides["steps"] = settings.steps
    if settings.texture_px:
        overrides["texture_px"] = max(settings.texture_px, 64)
    return overrides


def problems(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, found: list[bpy.types.Object]) -> list[Problem]:
    """What keeps the scene's slots `found` from being generated, gravest first; quick enough for every redraw."""
    settings = scene.diorama
    every = [*_scene_problems(settings, found)]
    names: dict[str, bpy.types.Object] = {}
    for thing in found:
        every += _slot_problems(thing, view_layer)
        other = names.setdefault(slot_name(thing), thing)
        if other is not thing:
            what = f"Two slots have the name '{slot_name(thing)}': '{other.name}' and '{thing.name}'"
            every.append(Problem(what, "Rename one", thing.name))
    for index, row in enumerate(settings.relations):
        every += _relation_problems(index, row, found)
    return every


def _scene_problems(settings: Any, found: list[bpy.types.Object]) -> list[Problem]:
    every = []
    if not found and not settings.prompt.strip():
        every.append(Problem("There is nothing to generate", "Write a prompt, or add slots under Layout"))
    if found and all(thing.diorama.kind == "context" for thing in found):
        every.append(Problem("Every slot is context", "Add a slot to generate something in"))
    if len(found) > MAX_SLOTS:
        every.append(Problem(f"There are {len(found)} slots, and at most {MAX_SLOTS} fit one scene", "Remove some"))
    for prompt, limit, name in (
        (settings.prompt, LONGEST_SCENE_PROMPT, "prompt"),
        (settings.negative_prompt, LONGEST_NEGATIVE, "text to avoid"),
    ):
        if len(prompt.strip()) > limit:
            every.append(Problem(f"The {name} has more than {limit} letters", "Shorten it"))
    try:
        overrides_of(settings)
    except ValueError as error:
        every.append(Problem(f"The overrides are not JSON: {error}", 'Write them like {"views": 8}'))
    return every


def _slot_problems(thing: bpy.types.Object, view_layer: bpy.types.ViewLayer) -> list[Problem]:
    name, slot, every = slot_name(thing), thing.diorama, []

    def add(what: str, remedy: str) -> None:
        if thing.library is not None:
            remedy += f", in the file it is linked from ({thing.library.name})"
        every.append(Problem(what, remedy, thing.name))

    if not is_reachable(thing, view_layer):
        where = ", ".join(collection.name for collection in thing.users_collection)
        remedy = "Tick the collection in the outliner, or remove the slot"
        add(f"Slot '{name}' is in a collection ({where}) that is excluded from this view layer", remedy)
        return every  # its place is not up to date, so there is no more to say
    if not slot.prompt.strip():
        add(f"Slot '{name}' has no prompt", "Say what stands in it")
    if len(slot.prompt.strip()) > LONGEST_PROMPT:
        add(f"The prompt of slot '{name}' has more than {LONGEST_PROMPT} letters", "Shorten it")
    if not name:
        add("A slot has no name", "Rename it")
    if len(name) > LONGEST_NAME:
        add(f"The name of slot '{name[:20]}...' has more than {LONGEST_NAME} letters", "Shorten it")
    if slot.kind != "generate" and is_instance(thing):
        add(f"Slot '{name}' shows a collection that is elsewhere", f"Use {MAKE_REAL}, and what that makes")
    elif slot.kind != "generate" and thing.type not in MESH_LIKE:
        add(f"Slot '{name}' has no shape of its own", "Choose 'Generate Inside My Box', or use a mesh")
    elif slot.kind != "generate" and not has_faces(thing, view_layer):
        add(f"Slot '{name}' has no faces", "Choose 'Generate Inside My Box', or give it faces")
    fault = _box_fault(thing)
    if fault:
        add(f"Slot '{name}' {fault[0]}", fault[1])
    return every


def _box_fault(thing: bpy.types.Object) -> tuple[str, str] | None:
    """What is wrong with a slot's box, and the remedy."""
    box = box_of(thing)
    if not all(abs(length) <= LONGEST_M for length in (*box.centre, *box.size)):  # so that NaN is a fault too
        return f"reaches beyond {LONGEST_M / 1000:.0f} km", "Move it nearer, or scale the scene down"
    if min(box.size) < SHORTEST_EDGE_M:
        return "has an edge of length zero", "Scale it up"
    if max(box.size) > MOST_ELONGATED * min(box.size):
        return f"is more than {MOST_ELONGATED:.0f} times as long as it is thick", "Scale it more evenly"
    return None


def _relation_problems(index: int, row: Any, found: list[bpy.types.Object]) -> list[Problem]:
    number = f"Relation {index + 1}"
    for end, name in ((row.subject, "first"), (row.object, "second")):
        if end is None:
            return [Problem(f"{number} has no {name} slot", "Choose one, or remove the relation", relation=index)]
        if end not in found:
            what = f"{number} names '{slot_name(end)}', which is no slot of this scene"
            return [Problem(what, "Choose another, or remove the relation", relation=index)]
    if row.subject == row.object:
        return [Problem(f"{number} relates a slot to itself", "Choose two slots", relation=index)]
    return []
