"""From what the user asked to what the loop needs: every slot named, boxed and placed, every relation consistent."""

from __future__ import annotations

from .arrange.consistency import check_consistent
from .arrange.layout import lay_out
from .arrange.parse import parse
from .schema import SceneRequest, check_request


def prepare(request: SceneRequest) -> tuple[SceneRequest, list[str]]:
    """The request with every slot boxed and placed, and what of the prompt was not understood, one line each.

    Slots and relations are read from the prompt where the request has no slots. Slots the user placed stay where they
    are. Raises RequestError for a prompt in which no object is found, and for relations that contradict each other.
    """
    slots, relations, warnings = request.slots, request.relations, []
    if not slots:
        parsed = parse(request.prompt)
        slots, relations = parsed.slots, parsed.relations
        warnings = [f"not understood, and left in the description: {words}" for words in parsed.not_understood]
    else:
        check_consistent(relations)  # parse does so itself
    slots = lay_out(slots, relations)
    prepared = request.model_copy(update={"slots": slots, "relations": relations})
    check_request(prepared)
    return prepared, warnings
