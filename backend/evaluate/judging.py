"""What an exported scene shows, beside what it should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..arrange.physics import penetration_volume
from ..arrange.relations import RELATIONS, bounds_of
from ..guidance.vlm import VisionLanguageModel
from ..starter.shapes import phrase
from .colour import dominant_colour
from .sections import BASIC, noun_by_shape
from .sight import look_at
from .suite import Case
from .things import Thing, coloured_mesh, read_things


def in_order(folder: Path) -> dict[str, Thing]:
    """The objects of the scene in `folder` in the order of its request; a GLB's reader has its own."""
    things = read_things(folder / "scene.glb")
    return {slot["name"]: things[slot["name"]] for slot in json.loads((folder / "report.json").read_text())["slots"]}


def judge_scene(case: Case, things: dict[str, Thing], vlm: VisionLanguageModel) -> dict[str, Any]:
    """Everything that is judged, in JSON's own types; the things come in the prompt's order."""
    assert len(things) == 2, f"two objects were asked for, {list(things)} were made"
    first, second = things.values()
    bounds = [bounds_of(torch.from_numpy(thing.world)) for thing in (first, second)]
    one, other = (coloured_mesh(thing, thing.world) for thing in (first, second))
    rule = RELATIONS[case.relation]
    return {
        "objects": [judge_object(t, *asked, vlm) for t, asked in ((first, case.subject), (second, case.object))],
        "relation": case.relation,
        "relation_holds": bool(rule.check(*bounds)),
        "relation_loss": round(float(rule.loss(*bounds)), 3),
        "penetration_m3": round(penetration_volume(one, other), 5),
    }


def judge_object(thing: Thing, colour: str, noun: str, vlm: VisionLanguageModel) -> dict[str, Any]:
    """Colour and noun that one object was given, and that it shows. A basic shape is one by sight and by geometry."""
    shown, seen = dominant_colour(thing, noun), look_at(vlm, thing, colour)
    result = {
        "name": thing.name,
        "asked": phrase(colour, noun),
        "colour": shown.name,
        "colour_share": round(shown.score, 3),
        "colour_right": shown.name == colour,
        "seen_as": seen.noun.name,
        "seen_log_odds": round(seen.noun.score, 2),
        "content_log_odds": round(seen.nouns[noun], 2),
        "content_right": seen.nouns[noun] > 0,
        "whole_log_odds": round(seen.whole, 2),
        "whole": seen.whole > 0,
        "noun_right": seen.noun.name == noun,
    }
    if noun in BASIC:
        shape = noun_by_shape(thing.vertices, thing.faces)
        result |= {"shaped_as": shape.name, "shape_distance": round(shape.score, 3)}
        result["noun_right"] = result["noun_right"] and shape.name == noun
    return result


def nothing_shown(case: Case) -> dict[str, Any]:
    """What is said of a run that came to no scene: all of it is wrong."""
    objects = []
    for colour, noun in (case.subject, case.object):
        wrong = dict.fromkeys(("colour_right", "content_right", "whole", "noun_right"), False)
        shaped = {"shaped_as": None} if noun in BASIC else {}
        objects.append({"name": noun, "asked": phrase(colour, noun), "seen_as": None} | wrong | shaped)
    return {"objects": objects, "relation": case.relation, "relation_holds": False}
