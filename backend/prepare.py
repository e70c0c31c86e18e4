"""From what the user asked to what the loop needs: every slot named, boxed and placed, every relation consistent."""

from __future__ import annotations

from pathlib import Path

from .arrange.consistency import check_consistent
from .arrange.layout import lay_out
from .arrange.parse import parse
from .errors import RequestError
from .scene.given import with_boxes
from .scene.user_mesh import UserMesh, read_user_meshes
from .schema import SceneRequest, check_request


def prepare(request: SceneRequest) -> tuple[SceneRequest, list[str]]:
    """The request with every slot boxed and placed, and what of the prompt was not understood, one line each.

    Slots and relations are read from the prompt where the request has no slots; a relation that it names beside slots
    is warned of. Slots the user placed stay where they are. Raises RequestError for a prompt in which no object is
    found, and for relations that contradict each other.
    """
    slots, relations, warnings = request.slots, request.relations, []
    if not slots:
        parsed = parse(request.prompt)
        slots, relations = parsed.slots, parsed.relations
        warnings = [f"not understood, and left in the description: {words}" for words in parsed.not_understood]
    else:
        check_consistent(relations)  # parse does so itself
        warnings = _left_unread(request)
    slots = lay_out(slots, relations)
    prepared = request.model_copy(update={"slots": slots, "relations": relations})
    check_request(prepared)
    return prepared, warnings


def _left_unread(request: SceneRequest) -> list[str]:
    """A line where the prompt says how objects stand, and the request that came with slots does not."""
    if request.relations or not request.prompt.strip():
        return []
    try:
        said = parse(request.prompt).relations
    except RequestError:
        return []
    return [f"not heeded, as it stands in the prompt alone: {relation}. Add it to the relations" for relation in said]


def with_meshes(request: SceneRequest, path: Path | None) -> tuple[SceneRequest, dict[str, UserMesh], list[str]]:
    """The request with boxes fitted to the user's meshes, these meshes by slot name, and warnings.

    path: the GLB that came with the request. To be called before `prepare`. Raises RequestError when slots want meshes
    and there are none, or the file does not have them.
    """
    wanting = [(index, slot) for index, slot in enumerate(request.slots) if slot.kind != "generate"]
    if not wanting:
        unused = ["the meshes were not used: no slot is of kind start or context"]
        return request, {}, unused if path else []
    if path is None:
        index, slot = wanting[0]
        raise RequestError(
            f"slot {slot.name!r} is of kind {slot.kind}, and no meshes came with the request",
            where=f"slots[{index}].kind",
            remedy="Give a GLB with a node of that name (--meshes FILE.glb), or take kind generate",
        )
    meshes, warnings = read_user_meshes(path, request.slots)
    return request.model_copy(update={"slots": with_boxes(request.slots, meshes)}), meshes, warnings
