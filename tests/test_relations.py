"""Relations: the loss, the check and the words of each row agree."""

import itertools
import typing

import pytest
import torch

from backend.arrange.consistency import check_consistent
from backend.arrange.relations import RELATIONS, Bounds, bounds_of, box_bounds
from backend.errors import RequestError
from backend.schema import Relation, RelationName

NAMES = list(RELATIONS)
SHOWN = {  # the subject's centre, for unit cubes with the object at the origin
    "on top of": (0.1, 0.0, 1.0),
    "under": (0.0, 0.1, -1.0),
    "left of": (-1.2, 0.2, 0.0),
    "right of": (1.2, 0.2, 0.1),
    "in front of": (0.2, -1.2, 0.0),
    "behind": (-0.2, 1.2, 0.0),
}


def random_pair(count, seed, spread=1.5):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(2, count, 3, generator=generator) * spread
    sizes = torch.rand(2, count, 3, generator=generator) * 1.5 + 0.1
    return centres, sizes


def test_the_vocabulary_is_that_of_the_schema():
    assert set(NAMES) == set(typing.get_args(RelationName))


def test_no_phrase_means_two_relations():
    phrases = [phrase for rule in RELATIONS.values() for phrase in rule.phrases]
    assert len(phrases) == len(set(phrases))


def test_the_question_drops_the_articles():
    assert (
        RELATIONS["left of"].ask("a red cube", "The blue sphere") == "Is the red cube to the left of the blue sphere?"
    )


@pytest.mark.parametrize("name", NAMES)
def test_zero_loss_implies_the_check(name):
    centres, sizes = random_pair(200_000, seed=1, spread=0.8)
    pair = box_bounds(centres[0], sizes[0]), box_bounds(centres[1], sizes[1])
    satisfied = RELATIONS[name].loss(*pair) == 0.0
    assert satisfied.sum() > 10
    assert RELATIONS[name].check(*pair)[satisfied].all()


@pytest.mark.parametrize("name", NAMES)
def test_gradient_descent_from_anywhere_makes_the_relation_true(name):
    centres, sizes = random_pair(300, seed=2)
    subject_centre = centres[0].requires_grad_()
    object = box_bounds(centres[1], sizes[1])
    adam = torch.optim.Adam([subject_centre], lr=0.05)
    for _ in range(200):
        adam.zero_grad()
        RELATIONS[name].loss(box_bounds(subject_centre, sizes[0]), object).sum().backward()
        adam.step()
    assert RELATIONS[name].check(box_bounds(subject_centre, sizes[0]), object).float().mean() >= 0.95


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("moved", ["subject", "object"])
def test_the_gradient_vanishes_only_where_the_relation_holds(name, moved):
    centres, sizes = random_pair(20_000, seed=3)
    centres[0, :100] = centres[1, :100]  # coincident centres
    sizes[0, :50] = sizes[1, :50]  # and identical boxes
    centres.requires_grad_()
    subject, object = (box_bounds(c, s) for c, s in zip(centres, sizes, strict=True))
    RELATIONS[name].loss(subject, object).sum().backward()
    moves = centres.grad["subject object".split().index(moved)].abs().sum(-1) > 0.0
    assert (moves | RELATIONS[name].check(subject, object)).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_finite_differences(name):
    centres, sizes = (t.double() for t in random_pair(40, seed=4))
    object = box_bounds(centres[1], sizes[1])

    def loss(subject_centre):
        return RELATIONS[name].loss(box_bounds(subject_centre, sizes[0]), object)

    assert torch.autograd.gradcheck(loss, (centres[0].requires_grad_(),), eps=1e-7)


@pytest.mark.parametrize(("shown", "asked"), list(itertools.product(SHOWN, NAMES)))
def test_each_placement_satisfies_its_own_relation_only(shown, asked):
    unit = torch.ones(3)
    holds = RELATIONS[asked].check(box_bounds(torch.tensor(SHOWN[shown]), unit), box_bounds(torch.zeros(3), unit))
    beside = shown not in ("on top of", "under")
    assert bool(holds) == (asked == shown or (asked == "next to" and beside))


def test_next_to_ends_where_the_gap_is_wide():
    unit, origin = torch.ones(3), torch.zeros(3)
    centres = torch.tensor([[1.5, 0.0, 0.0], [1.7, 0.0, 0.0], [0.0, -1.5, 0.0], [0.0, -1.7, 0.0]])
    assert RELATIONS["next to"].check(box_bounds(centres, unit), box_bounds(origin, unit)).tolist() == [
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_does_not_depend_on_the_unit_of_length(name):
    centres, sizes = random_pair(500, seed=5)
    losses = [
        RELATIONS[name].loss(box_bounds(k * centres[0], k * sizes[0]), box_bounds(k * centres[1], k * sizes[1]))
        for k in (1.0, 64.0)
    ]
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("name", NAMES)
def test_one_object_serves_many_placements(name):
    centres, sizes = random_pair(12, seed=6)
    object = box_bounds(centres[1, 0], sizes[1, 0])
    batch = RELATIONS[name].loss(box_bounds(centres[0].reshape(3, 4, 3), sizes[0].reshape(3, 4, 3)), object)
    single = [RELATIONS[name].loss(box_bounds(c, s), object) for c, s in zip(centres[0], sizes[0], strict=True)]
    torch.testing.assert_close(batch, torch.stack(single).reshape(3, 4))


def test_bounds_of_vertices_are_tight():
    low, high = bounds_of(torch.tensor([[0.0, 1.0, 2.0], [3.0, -1.0, 0.0]]))
    assert (low.tolist(), high.tolist()) == ([0.0, -1.0, 0.0], [3.0, 1.0, 2.0])


def test_flat_bodies_can_be_stacked():
    plates = [Bounds(torch.tensor([0.0, 0.0, z]), torch.tensor([0.3, 0.3, z + 0.001])) for z in (0.0011, 0.0)]
    assert RELATIONS["on top of"].check(*plates)


def related(*texts):
    """Relations from "a on top of b"."""
    found = []
    for text in texts:
        subject, rest = text.split(" ", 1)
        name, object = rest.rsplit(" ", 1)
        found.append(Relation(subject=subject, relation=name, object=object))
    return found


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        (["a on top of b", "b on top of a"], [0, 1]),
        (["a on top of b", "a under b"], [0, 1]),
        (["a left of b", "c next to b", "a right of b"], [0, 2]),
        (["a left of b", "b left of a"], [0, 1]),
        (["a left of b", "a behind b"], [0, 1]),
        (["a on top of b", "a next to b"], [0, 1]),
        (["a on top of b", "b on top of c", "c on top of a"], [0, 1, 2]),
        (["a in front of b", "c behind b", "c in front of a"], [0, 1, 2]),
        (["a next to c", "a on top of b", "c under b"], [0, 1, 2]),
        (["x next to y", "a on top of b", "b on top of c", "a on top of c"], [1, 2, 3]),
    ],
)
def test_contradictions_are_named(texts, named):
    with pytest.raises(RequestError) as error:
        check_consistent(related(*texts))
    mentioned = [index for index in range(len(texts)) if f"relations[{index}] ({texts[index]})" in error.value.what]
    assert mentioned == named


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["a on top of b", "b under a"],
        ["a left of b", "a next to b"],
        ["a next to b", "b next to c", "c next to a"],
        ["a left of b", "b left of c", "a left of c", "a behind d"],
        ["a on top of b", "c on top of b", "a left of c", "b behind d"],
    ],
)
def test_relations_that_can_hold_together_pass(texts):
    check_consistent(related(*texts))
