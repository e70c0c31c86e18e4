"""The prompts of an evaluation, and where their objects stand when a run begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from ..arrange.relations import RELATIONS, box_bounds
from ..scene.initial import FILL
from ..schema import SceneRequest, read_request
from ..starter.shapes import phrase

PRESET = "starter"
REACH_M = 1.6  # largest offset of a start along x and y, metres; boxes have edge 1
APART_M = 0.1  # least gap between the boxes at the start
UNFULFILLED = 0.4  # least hinge loss of the relation at the start, in mean sizes


class Case(NamedTuple):
    """Two objects, each a colour and a noun, and how the first is to stand to the second."""

    subject: tuple[str, str]
    relation: str
    object: tuple[str, str]

    @property
    def prompt(self) -> str:
        """As the user would write it."""
        return f"{phrase(*self.subject)} {self.relation} {phrase(*self.object)}"


STARTER = (  # all seven relations, every noun of the starter models, every colour at least twice
    Case(("red", "cube"), "on top of", ("blue", "sphere")),
    Case(("green", "cone"), "on top of", ("brown", "table")),
    Case(("yellow", "cylinder"), "left of", ("purple", "cube")),
    Case(("white", "snowman"), "right of", ("green", "tree")),
    Case(("orange", "torus"), "in front of", ("black", "capsule")),
    Case(("pink", "mug"), "behind", ("blue", "pyramid")),
    Case(("purple", "capsule"), "next to", ("red", "chair")),
    Case(("white", "cube"), "under", ("green", "bottle")),
    Case(("red", "mushroom"), "next to", ("orange", "cylinder")),
    Case(("pink", "house"), "behind", ("yellow", "lamp")),
    Case(("black", "pyramid"), "in front of", ("white", "cone")),
    Case(("brown", "torus"), "right of", ("pink", "sphere")),
)
SUITES: dict[str, tuple[Case, ...]] = {"starter": STARTER}


def request_for(case: Case, number: int, seed: int, settings: Mapping[str, Any]) -> SceneRequest:
    """The request of one run: boxes of a metre on the ground, free to move, the relation not fulfilled.

    number: the case's place in its suite. Where the boxes stand depends on number and seed alone, so that every method
    begins with the same arrangement.
    """
    offset = start_offset(case.relation, np.random.default_rng([number, seed]))
    x, y = (offset / 2).tolist()
    slots = [
        {"name": noun, "prompt": phrase(colour, noun), "centre": [sign * x, sign * y, 0.5], "size": [1.0, 1.0, 1.0]}
        for (colour, noun), sign in ((case.subject, 1), (case.object, -1))
    ]
    relation = {"subject": case.subject[1], "relation": case.relation, "object": case.object[1]}
    data = {"prompt": case.prompt, "slots": slots, "relations": [relation], "preset": PRESET}
    return read_request(data | {"seed": seed, "settings": dict(settings)})


def start_offset(relation: str, rng: np.random.Generator) -> np.ndarray:
    """From the object's centre to the subject's along x and y: (2,) metres, side by side and in the wrong place.

    The relation is far from holding for the boxes and for the bodies that they begin with.
    """
    while True:
        offset = np.round(rng.uniform(-REACH_M, REACH_M, 2), 3)
        if np.abs(offset).max() < 1 + APART_M:
            continue
        centre, still = torch.tensor([*offset, 0.0]), torch.zeros(3)
        losses = [
            RELATIONS[relation].loss(box_bounds(centre, edge), box_bounds(still, edge))
            for edge in (torch.ones(3), FILL * torch.ones(3))
        ]
        if min(losses) >= UNFULFILLED:
            return offset
