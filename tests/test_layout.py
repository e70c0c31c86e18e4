"""First boxes: apart, supported, about where the relations want them."""

import itertools

import pytest
import torch

from backend.arrange.layout import lay_out
from backend.arrange.parse import parse
from backend.arrange.physics import check_relations
from backend.arrange.relations import box_bounds
from backend.schema import Relation, Slot

PROMPTS = [
    "a cube",
    "a red cube on top of a blue sphere",
    "a red cube under a blue sphere",
    "a red cube to the left of a blue sphere and a green cone",
    "a mug on a wooden table, next to a lamp",
    "a cube on a table. A lamp behind the cube",
    "two red cubes next to a sphere",
    "a mug and a lamp on a table. The lamp is behind the mug",
    "three cubes on a table",
    "three cubes on top of each other, left of a tree",
    "a lamp to the right of a cube, a cone in front of the lamp, a tree behind the cube",
    "16 cubes",
    "a house, a tree, a car, a dog next to the tree and a cat behind the dog",
]


def bounds_of_slots(slots):
    return {slot.name: box_bounds(torch.tensor(slot.centre), torch.tensor(slot.size)) for slot in slots}


@pytest.fixture(scope="module", params=PROMPTS)
def scene(request):
    parsed = parse(request.param)
    return lay_out(parsed.slots, parsed.relations), parsed.relations


def test_boxes_do_not_overlap(scene):
    for one, other in itertools.combinations(bounds_of_slots(scene[0]).values(), 2):
        shared = torch.minimum(one.high, other.high) - torch.maximum(one.low, other.low)
        assert shared.min() < 1e-3


def test_boxes_stand_on_the_ground_or_on_another(scene):
    slots, _ = scene
    tops = [0.0] + [slot.centre[2] + slot.size[2] / 2 for slot in slots]
    for slot in slots:
        low = slot.centre[2] - slot.size[2] / 2
        assert min(abs(low - top) for top in tops) < 1e-3


def test_relations_hold(scene):
    assert all(holds for _, holds in check_relations(bounds_of_slots(scene[0]), scene[1]))


def test_the_scene_stays_together_around_the_middle(scene):
    centres = torch.tensor([slot.centre[:2] for slot in scene[0]])
    assert centres.mean(0).norm() < 1e-3
    assert centres.norm(dim=-1).max() < 1.0 + 1.2 * len(centres) ** 0.5


def test_slots_that_the_user_placed_stay():
    ball = Slot(name="ball", prompt="a ball", centre=(5.0, -3.0, 2.0), size=(0.5, 0.5, 0.5))
    free = Slot(name="cube", prompt="a cube")
    locked = Slot(name="lamp", prompt="a lamp", lock_position=True)
    relation = Relation(subject="cube", relation="on top of", object="ball")
    placed = lay_out((ball, free, locked), (relation,))
    assert (placed[0], placed[2]) == (ball, locked)
    assert placed[1].centre == pytest.approx((5.0, -3.0, 2.75), abs=0.2)
    assert check_relations(bounds_of_slots(placed), [relation]) == [(relation, True)]


def test_sizes_that_the_user_gave_stay():
    table = Slot(name="table", prompt="a table", size=(1.0, 0.8, 0.7))
    mugs = [Slot(name=f"mug {n}", prompt="a mug", size=(0.2, 0.2, 0.2)) for n in range(3)]
    relations = tuple(Relation(subject=mug.name, relation="on top of", object="table") for mug in mugs)
    slots = lay_out((table, *mugs), relations)
    assert [slot.size for slot in slots] == [table.size, *(mug.size for mug in mugs)]
    assert all(holds for _, holds in check_relations(bounds_of_slots(slots), relations))


def test_a_turned_box_keeps_its_corners_off_the_others():
    long = Slot(name="beam", prompt="a beam", size=(4.0, 0.2, 0.2), rotation_deg=(0.0, 0.0, 90.0))
    cube = Slot(name="cube", prompt="a cube")
    relation = Relation(subject="cube", relation="behind", object="beam")
    beam, cube = lay_out((long, cube), (relation,))
    assert cube.centre[1] - beam.centre[1] >= 2.0 + 0.5


def test_a_second_layout_changes_nothing():
    parsed = parse("a cube on a table, next to a lamp")
    once = lay_out(parsed.slots, parsed.relations)
    assert lay_out(once, parsed.relations) == once == lay_out(parsed.slots, parsed.relations)


def test_no_slots_give_no_layout():
    assert lay_out((), ()) == ()
