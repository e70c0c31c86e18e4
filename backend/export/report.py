"""report.json: what was asked for, what was made and what could not be done, beside every result."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .files import atomic_write, jsonable

FORMAT = 1  # raised when a key changes its meaning


def build_report(
    *,
    request: Mapping[str, Any],
    settings: Mapping[str, Any],
    seed: int,
    models: Mapping[str, str],
    timings_s: Mapping[str, float],
    slots: Sequence[Mapping[str, Any]],
    context: Sequence[str] = (),
    relations: Sequence[Mapping[str, Any]],
    rewards: Mapping[str, Any],
    warnings: Sequence[str],
    penetration_m3: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The report in JSON's own types.

    request: as it was read. settings: the effective ones, by field name. models: role -> id or folder. timings_s: part
    of the run -> seconds. slots: `ExportedSlot.summary()` of each that was exported. context: names of the slots that
    stayed as they were, and are not in the result. relations: each with subject, relation, object, fulfilled (bool).
    penetration_m3: "one / other" -> volume the two share, where there is any. rewards: "what: question" -> log-odds. A
    slot's export notes are repeated among the warnings with its name, unfulfilled relations too: who reads only those
    misses nothing.
    """
    told = list(warnings)
    told += [f"{slot['name']}: {note}" for slot in slots for note in slot.get("notes", ())]
    told += [
        f"not fulfilled: {r['subject']} {r['relation']} {r['object']}"
        for r in relations
        if not r.get("fulfilled", True)
    ]
    return jsonable(
        {
            "format": FORMAT,
            "request": dict(request),
            "seed": seed,
            "settings": dict(settings),
            "models": dict(models),
            "timings_s": {part: round(float(seconds), 3) for part, seconds in timings_s.items()},
            "slots": list(slots),
            "context": list(context),
            "relations": list(relations),
            "penetration_m3": dict(penetration_m3 or {}),
            "rewards": dict(rewards),
            "warnings": list(dict.fromkeys(told)),
        }
    )


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Write the report as indented UTF-8 JSON; OutputError when it cannot be written."""
    text = json.dumps(jsonable(dict(report)), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as file:
        file.write(text.encode() + b"\n")
