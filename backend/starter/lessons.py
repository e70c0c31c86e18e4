"""What the starter vision-language model is taught: questions and answers made from what is known of a scene."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ..arrange.relations import RELATIONS, Bounds
from ..guidance import questions
from . import vocabulary
from .dataset import COLOUR_NAMES, FAULT_NAMES, NOUN_NAMES, RELATION_NAMES
from .faults import NO_NOUN
from .shapes import phrase

DIRECTIONS = [name for name in RELATION_NAMES if name != "next to"]
UNCLEAR = 0.12  # a relation that does not hold but whose loss is below this is not asked about
SUREST, HALFWAY = 3.0, 0.15  # log-odds of a relation that holds, and the loss at which Yes and No are equally right
NOTHING_HOLDS = 0.2  # share asked of the questions on scenes in which no relation holds: all would make No likelier
SLOPE = 1.5  # fall of the log-odds while the loss grows e times

LOOKALIKES = {  # nouns that some side of an object shows alike, by what was confused most on held-out scenes
    "mug": ("cylinder", "capsule"),
    "cylinder": ("mug", "capsule", "bottle"),
    "capsule": ("cylinder", "snowman", "bottle"),
    "sphere": ("mushroom", "torus"),
    "mushroom": ("sphere", "lamp", "tree"),
    "cube": ("table", "house"),
    "table": ("cube", "chair"),
    "chair": ("table", "bottle"),
    "house": ("cube", "pyramid"),
    "bottle": ("capsule", "snowman", "cylinder"),
    "snowman": ("bottle", "capsule"),
    "lamp": ("tree", "mushroom"),
    "tree": ("lamp", "cone"),
    "cone": ("pyramid", "tree"),
    "pyramid": ("cone", "house"),
    "torus": ("sphere", "cylinder"),
}


class Lesson(NamedTuple):
    """One question with its answer."""

    question: str
    answer: str
    topic: str  # what an evaluation reports it under
    sure: float = 1.0  # probability of the answer; the rest belongs to the other of Yes and No


class Facts(NamedTuple):
    """What is known of many scenes, as arrays with one row a scene."""

    noun: np.ndarray  # (N, K) indices into NOUN_NAMES
    colour: np.ndarray  # (N, K)
    fault: np.ndarray | None  # (N,) singles only
    holds: np.ndarray | None  # (N, 2, R) bool, pairs only: [:, 0] first to second object, [:, 1] second to first
    loss: np.ndarray | None  # (N, 2, R) what is missing until a relation holds


def facts_of(scenes: dict[str, np.ndarray]) -> Facts:
    """The facts in a dataset's arrays; relations are decided by `arrange.relations`."""
    if "fault" in scenes:
        return Facts(scenes["noun"], scenes["colour"], scenes["fault"], None, None)
    a, b = (Bounds(torch.from_numpy(scenes["low"][:, i]), torch.from_numpy(scenes["high"][:, i])) for i in (0, 1))
    rules = list(RELATIONS.values())
    holds = np.stack([np.stack([r.check(*p).numpy() for r in rules], -1) for p in ((a, b), (b, a))], 1)
    loss = np.stack([np.stack([r.loss(*p).numpy() for r in rules], -1) for p in ((a, b), (b, a))], 1)
    return Facts(scenes["noun"], scenes["colour"], None, holds, loss)


def lessons_of_single(
    facts: Facts, row: int, yes_no: float, count: int, rng: np.random.Generator, hard: bool = False
) -> list[Lesson]:
    """`count` lessons about one object, a share `yes_no` of them with Yes or No for an answer.

    hard: wrong nouns are often ones that look like the right one; for teaching, not for examining.
    """
    assert facts.fault is not None
    noun, colour, fault = NOUN_NAMES[facts.noun[row, 0]], COLOUR_NAMES[facts.colour[row, 0]], int(facts.fault[row])
    nameable = not fault or FAULT_NAMES[fault - 1] not in NO_NOUN
    study = [
        Lesson(
            vocabulary.STUDY[0], f"{'broken' if fault else 'whole'} {colour} {noun if nameable else 'thing'}", "caption"
        ),
        Lesson(vocabulary.STUDY[2], colour, "colour query"),
    ]
    if nameable:
        study.append(Lesson(vocabulary.STUDY[1], noun, "noun query"))
    asked = []
    for _ in range(count):
        if rng.random() >= yes_no:
            asked.append(study[rng.integers(len(study))])
            continue
        kind = rng.random()
        if kind < 0.3:
            asked.append(Lesson(questions.GEOMETRY, _yes(not fault), "whole or broken"))
        elif kind < 0.5:
            asked.append(_attribute(noun if nameable else None, colour, rng, hard))
        elif kind < 0.8 or fault:
            asked.append(_content(noun, colour, nameable, questions.CONTENT, rng, hard))
        else:
            lesson = _content(noun, colour, nameable, questions.CONTENT_AND_GEOMETRY, rng, hard)
            asked.append(lesson._replace(topic="content and whole"))
        if fault and rng.random() < 0.2:
            text = questions.CONTENT_AND_GEOMETRY.format(prompt=phrase(colour, noun))
            asked[-1] = Lesson(text, "No", "content and whole")
    return asked


def _attribute(noun: str | None, colour: str, rng: np.random.Generator, hard: bool) -> Lesson:
    """One attribute alone: easier to match than two at once, and learnt first."""
    right = rng.random() < 0.5
    if noun is None or rng.random() < 0.5:
        what = colour if right else _other(COLOUR_NAMES, colour, rng)
        return Lesson(vocabulary.STUDY[6].format(what=what), _yes(right), "colour alone")
    what = f"a {noun if right else _wrong_noun(noun, rng, hard)}"
    return Lesson(vocabulary.STUDY[6].format(what=what), _yes(right), "noun alone")


def _content(noun: str, colour: str, nameable: bool, question: str, rng: np.random.Generator, hard: bool) -> Lesson:
    wrong = int(rng.integers(4)) if nameable else int(rng.integers(1, 4))  # 0, and one of the others twice: right
    right = rng.random() < 0.5 and nameable
    if right:
        return Lesson(question.format(prompt=phrase(colour, noun)), "Yes", "noun" if rng.random() < 0.5 else "colour")
    other_colour = _other(COLOUR_NAMES, colour, rng) if wrong != 1 else colour
    other_noun = _wrong_noun(noun, rng, hard) if wrong in (1, 3) else noun
    topic = "noun" if wrong == 1 else "colour" if wrong in (0, 2) else "noun and colour"
    return Lesson(question.format(prompt=phrase(other_colour, other_noun)), "No", topic)


def _wrong_noun(noun: str, rng: np.random.Generator, hard: bool) -> str:
    alike = LOOKALIKES.get(noun)
    return alike[rng.integers(len(alike))] if hard and alike and rng.random() < 0.5 else _other(NOUN_NAMES, noun, rng)


def lessons_of_pair(
    facts: Facts, row: int, yes_no: float, count: int, rng: np.random.Generator, hard: bool = False
) -> list[Lesson]:
    """`count` lessons about two objects, a share `yes_no` of them with Yes or No for an answer.

    hard: relations that all but hold are asked about too, and the nearer one is to holding the more often.
    """
    asked: list[Lesson] = []
    while len(asked) < count:
        if rng.random() >= yes_no:
            lesson = _study_pair(facts, row, rng)
        else:
            kind = rng.random()
            if kind < 0.7:
                lesson = _relation(facts, row, rng, hard)
            else:
                lesson = _presence(facts, row, rng) if kind < 0.9 else _colour_of(facts, row, rng)
        if lesson is not None:
            asked.append(lesson)
    return asked


def _things(facts: Facts, row: int, first: int) -> list[str]:
    order = (first, 1 - first)
    return [f"{COLOUR_NAMES[facts.colour[row, i]]} {NOUN_NAMES[facts.noun[row, i]]}" for i in order]


def _study_pair(facts: Facts, row: int, rng: np.random.Generator) -> Lesson | None:
    assert facts.holds is not None
    first = int(rng.integers(2))
    subject, object = _things(facts, row, first)
    kind = rng.random()
    true = [name for name in DIRECTIONS if facts.holds[row, first, RELATION_NAMES.index(name)]]
    if kind < 0.3:
        middle = f"{true[0]} the" if true else "and a"
        return Lesson(vocabulary.STUDY[0], f"{subject} {middle} {object}", "caption")
    if kind < 0.6:
        if not true:
            return None
        return Lesson(vocabulary.STUDY[5].format(subject=subject, object=object), true[0], "relation query")
    noun, colour = NOUN_NAMES[facts.noun[row, first]], COLOUR_NAMES[facts.colour[row, first]]
    if kind < 0.8:
        if facts.noun[row, 0] == facts.noun[row, 1]:
            return None
        return Lesson(vocabulary.STUDY[3].format(noun=noun), colour, "colour query")
    if facts.colour[row, 0] == facts.colour[row, 1]:
        return None
    return Lesson(vocabulary.STUDY[4].format(colour=colour), noun, "noun query")


def _relation(facts: Facts, row: int, rng: np.random.Generator, hard: bool) -> Lesson | None:
    assert facts.holds is not None and facts.loss is not None
    first = int(rng.integers(2))
    holds, loss = facts.holds[row, first], facts.loss[row, first]
    want = rng.random() < 0.5
    choices = np.nonzero(holds if want else ~holds & (loss >= (0.0 if hard else UNCLEAR)))[0]
    if not len(choices) or (not want and not holds.any() and rng.random() > NOTHING_HOLDS):
        return None
    if not want and holds.any() and rng.random() < 0.4:  # the most tempting wrong one: the other way round
        flipped = facts.holds[row, 1 - first] & ~holds
        choices = np.nonzero(flipped)[0] if flipped.any() else choices
    near = 1.0 / (HALFWAY + loss[choices]) if hard else np.ones(len(choices))
    which = rng.choice(choices, p=near / near.sum())
    relation, sure = RELATION_NAMES[which], sureness(float(loss[which]))
    subject, object = _things(facts, row, first)
    if facts.noun[row, 0] != facts.noun[row, 1] and rng.random() < 0.25:  # the nouns are enough
        subject, object = (NOUN_NAMES[facts.noun[row, i]] for i in (first, 1 - first))
    return Lesson(
        questions.about_relation(subject, relation, object).text, _yes(want), "relation", sure if want else 1.0 - sure
    )


def sureness(loss: float) -> float:
    """Probability of Yes that is taught for a relation whose loss is given.

    Its log-odds fall by the same amount each time the loss doubles: a reward that said No alike near and far could move
    nothing.
    """
    log_odds = min(SUREST, -SLOPE * float(np.log(max(loss, 1e-6) / HALFWAY)))
    return float(1.0 / (1.0 + np.exp(-log_odds)))


def _colour_of(facts: Facts, row: int, rng: np.random.Generator) -> Lesson | None:
    """Which colour belongs to which noun: what a presence question needs to know."""
    if facts.noun[row, 0] == facts.noun[row, 1]:
        return None
    first = int(rng.integers(2))
    noun, colour = NOUN_NAMES[facts.noun[row, first]], COLOUR_NAMES[facts.colour[row, first]]
    other = COLOUR_NAMES[facts.colour[row, 1 - first]]
    right = rng.random() < 0.5
    wrong = other if other != colour and rng.random() < 0.5 else _other(COLOUR_NAMES, colour, rng)
    return Lesson(
        vocabulary.STUDY[7].format(noun=noun, colour=colour if right else wrong), _yes(right), "colour of noun"
    )


def _presence(facts: Facts, row: int, rng: np.random.Generator) -> Lesson:
    first = int(rng.integers(2))
    noun, colour = NOUN_NAMES[facts.noun[row, first]], COLOUR_NAMES[facts.colour[row, first]]
    if rng.random() < 0.5:
        return Lesson(questions.PRESENCE.format(prompt=phrase(colour, noun)), "Yes", "presence")
    there = {(COLOUR_NAMES[c], NOUN_NAMES[n]) for c, n in zip(facts.colour[row], facts.noun[row], strict=True)}
    swapped = (COLOUR_NAMES[facts.colour[row, 1 - first]], noun)
    if rng.random() < 0.5 and swapped not in there:
        return Lesson(questions.PRESENCE.format(prompt=phrase(*swapped)), "No", "presence")
    while True:
        other = (
            (colour, _other(NOUN_NAMES, noun, rng)) if rng.random() < 0.5 else (_other(COLOUR_NAMES, colour, rng), noun)
        )
        if other not in there:
            return Lesson(questions.PRESENCE.format(prompt=phrase(*other)), "No", "presence")


def _other(names: list[str], name: str, rng: np.random.Generator) -> str:
    return names[(names.index(name) + 1 + int(rng.integers(len(names) - 1))) % len(names)]


def _yes(true: bool) -> str:
    return "Yes" if true else "No"
