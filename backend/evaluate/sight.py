"""What a vision-language model makes of an exported object, over fresh views of the object alone."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..guidance.vlm import VisionLanguageModel
from ..render.lighting import sample_lighting
from ..render.shade import render
from ..render.views import object_views
from ..starter.shapes import NOUNS, phrase
from .things import Match, Thing, coloured_mesh, own_colour

SHOWN_EDGE = 0.9  # longest edge of an object on the pictures; its box has edge 1
SHOWN_PX = 64


class Seen(NamedTuple):
    """Mean log-odds of Yes over the view pairs."""

    nouns: dict[str, float]  # by noun: "Do these pictures show a COLOUR NOUN?"
    whole: float  # "Is the object whole and well formed?"

    @property
    def noun(self) -> Match:
        """The noun with the highest log-odds, and those."""
        best = max(self.nouns, key=self.nouns.__getitem__)
        return Match(best, self.nouns[best])


def look_at(vlm: VisionLanguageModel, thing: Thing, colour: str, pairs: int = 4, seed: int = 1000) -> Seen:
    """The model's answers about pairs of neighbouring views; the same seed gives the same views."""
    low, high = thing.vertices.min(0), thing.vertices.max(0)
    mesh = coloured_mesh(thing, (thing.vertices - (low + high) / 2) * (SHOWN_EDGE / (high - low).max()))
    asked = [vlm.wording.content.format(prompt=phrase(colour, noun)) for noun in NOUNS] + [vlm.wording.geometry]
    generator, total = torch.Generator().manual_seed(seed), torch.zeros(len(asked))
    for _ in range(pairs):
        cameras = object_views(4, generator, torch.device("cpu"))
        lighting = sample_lighting(cameras, torch.zeros(3), generator)
        with torch.no_grad():
            pictures = render(mesh, own_colour, cameras, lighting, SHOWN_PX, SHOWN_PX).rgb
            total += vlm.log_odds(pictures[:2], asked)
    *nouns, whole = (total / pairs).tolist()
    return Seen(dict(zip(NOUNS, nouns, strict=True)), whole)
