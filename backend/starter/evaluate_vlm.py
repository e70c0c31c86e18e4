"""How well the starter vision-language model answers on held-out scenes, and whether its gradient moves objects right.

`python -m backend.starter.evaluate_vlm --data HELD_OUT --model FOLDER --out FILE.json`
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from ..arrange.relations import RELATIONS, Bounds
from ..guidance import questions
from ..guidance.vlm import VisionLanguageModel, load_vlm
from ..render.lighting import sample_lighting
from ..render.shade import render
from ..render.views import scene_views
from ..scene.mesh import merge
from .dataset import COLOUR_NAMES, NOUN_NAMES, PIXELS, RELATION_NAMES, make_object
from .lessons import Lesson, lessons_of_pair, lessons_of_single
from .scenes import Scenes, load_scenes, pictures
from .shapes import assemble, parts_of, phrase

NOUNS = ("noun", "noun alone")  # topics
LESSONS = 6  # asked about each scene
CLOSE_BY, NEARNESS_M = 2, 0.1  # placements whose gradients are averaged, and how far they are from the one that moves


def accuracy(vlm: VisionLanguageModel, singles: Scenes, pairs: Scenes, limit: int, seed: int) -> dict[str, dict]:
    """Share of Yes/No questions answered right, by topic, with how many were asked and how many were a Yes.

    What a broken object is called is a topic of its own: of some that are left in pieces nobody could say.
    """
    right: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for scenes, teach in ((singles, lessons_of_single), (pairs, lessons_of_pair)):
        for row in range(min(limit, len(scenes.images))):
            rng = np.random.default_rng([seed, row])
            images, _ = pictures(scenes, np.array([row]), rng)
            lessons: list[Lesson] = teach(scenes.facts, row, 1.0, LESSONS, rng)
            with torch.no_grad():
                odds = vlm.log_odds(images[0], [lesson.question for lesson in lessons])
            broken = scenes.facts.fault is not None and scenes.facts.fault[row] > 0
            for lesson, value in zip(lessons, odds.tolist(), strict=True):
                topic = f"{lesson.topic}, broken object" if broken and lesson.topic in NOUNS else lesson.topic
                right[topic].append(((value > 0) == (lesson.answer == "Yes"), lesson.answer == "Yes"))
    return {
        topic: {
            "accuracy": round(float(np.mean([r for r, _ in rows])), 4),
            "asked": len(rows),
            "share_yes": round(float(np.mean([y for _, y in rows])), 3),
        }
        for topic, rows in sorted(right.items())
    }


def placement_trial(vlm: VisionLanguageModel, index: int, seed: int, steps: int) -> tuple[str, bool, bool]:
    """One object moved by the reward's gradient alone, from a random start at which the relation does not hold.

    A step takes the mean gradient of a few placements close by (SmoothGrad, arXiv 1706.03825): that of a single one
    tells more of how outlines fall on the network's patches than of where the object should go.
    Returns the relation, whether it holds at the end, and whether the VLM says it does.
    """
    rng = np.random.default_rng([seed, index])
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    relation = RELATION_NAMES[index % len(RELATION_NAMES)]
    nouns = rng.choice(len(NOUN_NAMES), 2, replace=False)
    colours = rng.choice(len(COLOUR_NAMES), 2, replace=False)
    names = [phrase(COLOUR_NAMES[c], NOUN_NAMES[n]) for c, n in zip(colours, nouns, strict=True)]
    objects = [
        make_object(assemble(parts_of(NOUN_NAMES[n], rng)), COLOUR_NAMES[c], rng)
        for c, n in zip(colours, nouns, strict=True)
    ]
    first, second = (o.mesh for o in objects)
    rule, still = RELATIONS[relation], Bounds(second.vertices.amin(0), second.vertices.amax(0))

    def moved(offset: torch.Tensor) -> Bounds:
        return Bounds(first.vertices.amin(0) + offset, first.vertices.amax(0) + offset)

    while True:
        offset = torch.from_numpy(rng.uniform(-1.2, 1.2, 3)).float()
        if not rule.check(moved(offset), still):
            break
    offset.requires_grad_()
    optimizer = torch.optim.Adam([offset], lr=0.04)
    question = [questions.about_relation(names[0], relation, names[1]).text]
    colour_table = torch.cat([o.colours for o in objects])
    shifted = second._replace(face_slot=second.face_slot + len(objects[0].colours))
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(CLOSE_BY):
            place = offset + NEARNESS_M * torch.randn(3, generator=generator)
            mesh = merge([first._replace(vertices=first.vertices + place), shifted])
            low, high = mesh.vertices.detach().amin(0), mesh.vertices.detach().amax(0)
            cameras = scene_views(low, high, generator)
            lighting = sample_lighting(cameras, (low + high) / 2, generator)
            frames = render(mesh, lambda _, part: colour_table[part], cameras, lighting, PIXELS, PIXELS)
            odds = vlm.log_odds(frames.rgb, question)
            torch.nn.functional.softplus(-odds).sum().backward()
        optimizer.step()
    return relation, bool(rule.check(moved(offset.detach()), still)), bool(odds.item() > 0)


def gradient_use(vlm: VisionLanguageModel, trials: int, seed: int, steps: int) -> dict:
    """Share of trials that end with the relation true in fact, in all and by relation."""
    results = [placement_trial(vlm, i, seed, steps) for i in range(trials)]
    by_relation = defaultdict(list)
    for relation, holds, _ in results:
        by_relation[relation].append(holds)
    return {
        "trials": trials,
        "steps": steps,
        "holds": round(float(np.mean([holds for _, holds, _ in results])), 3),
        "vlm_says_so": round(float(np.mean([says for _, _, says in results])), 3),
        "by_relation": {name: f"{sum(rows)}/{len(rows)}" for name, rows in by_relation.items()},
    }


def main() -> None:
    """Evaluate and write the JSON that lies beside the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=600, help="of each kind")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--steps", type=int, default=80, help="of each trial")
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    vlm = load_vlm(a.model, torch.device("cpu"))
    singles, pairs = load_scenes(a.data, "singles"), load_scenes(a.data, "pairs")
    result = {"held_out": accuracy(vlm, singles, pairs, a.scenes, a.seed)}
    if a.trials:
        result["gradient_use"] = gradient_use(vlm, a.trials, a.seed, a.steps)
    a.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
