"""What the starter VLM is taught must be true, balanced, short enough and made of words it has."""

from collections import Counter

import numpy as np
import pytest
import torch

from backend.arrange.relations import RELATIONS, Bounds
from backend.guidance.text import tokens
from backend.starter import dataset
from backend.starter.classroom import IGNORED, Classroom
from backend.starter.dataset import COLOUR_NAMES, NOUN_NAMES, RELATION_NAMES
from backend.starter.lessons import LOOKALIKES, facts_of, lessons_of_pair, lessons_of_single
from backend.starter.shapes import phrase
from backend.starter.vocabulary import UNKNOWN, caption_tokenizer, chat_tokenizer


@pytest.fixture(scope="module")
def singles() -> dict:
    return dataset.build(16, "singles", seed=7)


@pytest.fixture(scope="module")
def pairs() -> dict:
    return dataset.build(40, "pairs", seed=7)


def lessons(scenes: dict, yes_no: float, hard: bool = False) -> list:
    facts = facts_of(scenes)
    teach = lessons_of_single if "fault" in scenes else lessons_of_pair
    rng = np.random.default_rng(0)
    return [(row, lesson) for row in range(len(scenes["noun"])) for lesson in teach(facts, row, yes_no, 60, rng, hard)]


def test_equal_seeds_give_equal_pictures(singles) -> None:
    np.testing.assert_array_equal(dataset.build(2, "singles", seed=7)["images"], singles["images"][:2])
    assert not np.array_equal(dataset.build(1, "singles", seed=8)["images"], singles["images"][:1])


def test_cells_say_which_object_covers_them(pairs) -> None:
    seen = [np.unique(cells) for cells in pairs["cells"][:, 0]]
    assert sum(1 in s and 2 in s for s in seen) >= 30  # both objects are to be seen in most front views


def test_boxes_enclose_the_object_and_nothing_more(singles) -> None:
    for row in range(16):
        picture = singles["images"][row, 0].astype(int)
        x0, y0, x1, y1 = (singles["boxes"][row, 0, 0] * dataset.PIXELS).round().astype(int)
        background = picture[0, 0]
        outside = np.ones(picture.shape[:2], bool)
        outside[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1] = False
        assert (np.abs(picture[outside] - background).max(initial=0)) <= 2


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("kind", ["singles", "pairs"])
def test_yes_and_no_are_balanced_in_every_topic(kind, hard, request) -> None:
    answers: dict[str, Counter] = {}
    for _, lesson in lessons(request.getfixturevalue(kind), 1.0, hard):
        answers.setdefault(lesson.topic, Counter())[lesson.answer] += 1
    for topic in ("relation", "presence") if kind == "pairs" else ("whole or broken",):
        counts = answers[topic]
        assert 0.35 < counts["Yes"] / counts.total() < 0.65, (topic, counts)


@pytest.mark.parametrize("hard", [False, True])
def test_relation_answers_agree_with_the_geometry(pairs, hard) -> None:
    asked = 0
    for row, lesson in lessons(pairs, 1.0, hard):
        if lesson.topic != "relation":
            continue
        for first in (0, 1):
            names = [
                f"{COLOUR_NAMES[pairs['colour'][row, i]]} {NOUN_NAMES[pairs['noun'][row, i]]}"
                for i in (first, 1 - first)
            ]
            subject, object = (
                Bounds(torch.tensor(pairs["low"][row, i]), torch.tensor(pairs["high"][row, i]))
                for i in (first, 1 - first)
            )
            for relation in RELATION_NAMES:
                if lesson.question in (
                    RELATIONS[relation].ask(*names),
                    RELATIONS[relation].ask(*(n.split()[1] for n in names)),
                ):
                    assert RELATIONS[relation].check(subject, object).item() == (lesson.answer == "Yes")
                    asked += 1
    assert asked > 100


@pytest.mark.parametrize("hard", [False, True])
def test_content_answers_agree_with_the_object(singles, hard) -> None:
    for row, lesson in lessons(singles, 1.0, hard):
        name = phrase(COLOUR_NAMES[singles["colour"][row, 0]], NOUN_NAMES[singles["noun"][row, 0]])
        if lesson.topic in ("noun", "colour", "noun and colour"):
            assert (f"show {name}?" in lesson.question or f"show {name}," in lesson.question) == (
                lesson.answer == "Yes"
            )
        if lesson.topic == "whole or broken":
            assert (singles["fault"][row] == 0) == (lesson.answer == "Yes")


@pytest.mark.parametrize("kind", ["singles", "pairs"])
def test_every_word_is_known_and_every_lesson_fits(kind, request) -> None:
    tokenizer = chat_tokenizer()
    unknown = tokenizer.convert_tokens_to_ids(UNKNOWN)
    found = [lesson for yes_no in (0.0, 1.0) for _, lesson in lessons(request.getfixturevalue(kind), yes_no)]
    for lesson in found:
        assert unknown not in tokens(tokenizer, f"{lesson.question} {lesson.answer}"), lesson
    batch = Classroom(6, torch.device("cpu")).batch([found[:6], found[6:12]])
    follows = batch.labels == batch.ids.roll(-1, 1)
    assert ((batch.labels == IGNORED) | follows).all()  # each label is the token that comes next
    assert (batch.weights[batch.labels == IGNORED] == 0).all()
    assert not (batch.asked & (batch.ids == tokenizer.pad_token_id)).any()


def test_hard_lessons_ask_for_what_looks_alike(singles) -> None:
    def tempting(hard: bool) -> float:
        asked = [(row, lesson) for row, lesson in lessons(singles, 1.0, hard) if lesson.topic == "noun alone"]
        wrong = [(row, lesson) for row, lesson in asked if lesson.answer == "No"]
        alike = [any(n in a.question for n in LOOKALIKES[NOUN_NAMES[singles["noun"][row, 0]]]) for row, a in wrong]
        return sum(alike) / len(alike)

    assert tempting(True) > 0.4 > 0.3 > tempting(False)


def test_hard_lessons_ask_for_what_all_but_holds(pairs) -> None:
    """Without them the reward would not know the last step to its goal."""

    def unsure(hard: bool) -> list[float]:
        found = [lesson for _, lesson in lessons(pairs, 1.0, hard) if lesson.topic == "relation"]
        return [lesson.sure for lesson in found if lesson.answer == "No"]

    assert min(unsure(False)) > 0.4 and min(unsure(True)) < 0.3
    assert np.mean(unsure(True)) < np.mean(unsure(False))


def test_tokenizers_know_words_and_name_the_rest() -> None:
    tokenizer = caption_tokenizer(10)
    ids = tokenizer(["a red cube", "a red teapot"], padding="max_length")["input_ids"]
    assert [len(row) for row in ids] == [10, 10]
    assert tokenizer.unk_token_id not in ids[0]
    assert tokenizer.unk_token_id in ids[1]
    assert ids[0][0] == tokenizer.bos_token_id and ids[0][4] == tokenizer.eos_token_id
