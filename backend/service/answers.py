"""Questions that need the backend's packages, answered in the worker beside its job."""

from __future__ import annotations

import re
from typing import Any

from ..arrange.parse import parse
from ..arrange.relations import RELATIONS
from ..prepare import prepare
from ..presets import settings_for
from ..schema import SceneRequest, read_request

MOST_WORDS = 8  # unknown words that a warning names


def answer_question(message: dict[str, Any]) -> Any:
    """The answer, in JSON's own types. Raises RequestError."""
    if message["what"] == "parse":
        return parsed(message["prompt"], message["preset"])
    if message["what"] == "vocabulary":
        return vocabulary(message["preset"])
    assert message["what"] == "check", message
    parse(message["prompt"])
    return None


def parsed(prompt: str, preset: str) -> dict[str, Any]:
    """Slots, boxed and placed, and relations of the prompt; words that nobody will understand among the warnings."""
    request, warnings = prepare(read_request({"prompt": prompt, "preset": preset}))
    return {
        "slots": [slot.model_dump(mode="json") for slot in request.slots],
        "relations": [relation.model_dump(mode="json") for relation in request.relations],
        "warnings": [*warnings, *_unknown(request)],
    }


def vocabulary(preset: str) -> dict[str, Any]:
    """What the preset's models understand."""
    if not _is_limited(preset):
        return {"limited": False, "nouns": [], "colours": [], "relations": list(RELATIONS), "words": []}
    from ..starter.shapes import COLOURS, NOUNS  # they take seconds to import: only where asked for
    from ..starter.vocabulary import words

    return {
        "limited": True,
        "nouns": sorted(NOUNS),
        "colours": list(COLOURS),
        "relations": list(RELATIONS),
        "words": sorted(word for word in words() if word.isalpha()),
    }


def _is_limited(preset: str) -> bool:
    return settings_for(preset, {}).prior == "starter"


def _unknown(request: SceneRequest) -> list[str]:
    if not _is_limited(request.preset):
        return []
    told = vocabulary(request.preset)
    said = [word for slot in request.slots for word in re.findall(r"[^\W\d_]+", slot.prompt.lower())]
    unknown = [word for word in dict.fromkeys(said) if word not in told["words"]]
    if not unknown:
        return []
    named = ", ".join(unknown[:MOST_WORDS]) + (", ..." if len(unknown) > MOST_WORDS else "")
    nouns, colours = ", ".join(told["nouns"]), ", ".join(told["colours"])
    return [f"the starter models do not know: {named}. They know these objects: {nouns}; and these colours: {colours}"]
