"""From what the user asked to what the loop needs: every slot named, boxed and placed, every relation consistent."""

from __future__ import annotations

from .arrange.consistency import check_consistent
from .arrange.layout import lay_out
from .arrange.parse import parse
from .schema import SceneRequest, check_request


def prepare(request: SceneRequest) -> SceneRequest:
    """The request with slots and relations read from the prompt where it has no slots, and boxes laid out for those.

    Slots that the user placed stay where they are. Raises RequestError for a prompt in which no object is found, and
    for relations that contradict each other.
    """
    if request.slots:
        check_consistent(request.relations)
        return request
    parsed = parse(request.prompt)
    check_consistent(parsed.relations)
    slots = lay_out(parsed.slots, parsed.relations)
    prepared = request.model_copy(update={"slots": tuple(slots), "relations": parsed.relations})
    check_request(prepared)
    return prepared
