"""The contract: every fault of a request is found and named, and nothing else is refused."""

import json

import pytest

from backend.errors import RequestError
from backend.schema import MAX_SLOTS, read_request

CUBE = {"name": "cube", "prompt": "a red cube"}
BALL = {"name": "ball", "prompt": "a blue sphere"}


def scene(**changes) -> dict:
    return {"slots": [CUBE, BALL], **changes}


def cube(**changes) -> dict:
    return {"slots": [{**CUBE, **changes}]}


def related(subject="cube", relation="on top of", object="ball") -> dict:
    return scene(relations=[{"subject": subject, "relation": relation, "object": object}])


FAULTS = [  # what is asked, where the error must point, what it must say
    ({}, "prompt", "nothing to generate"),
    ({"prompt": ""}, "prompt", "nothing to generate"),
    ({"prompt": " \t\n"}, "prompt", "nothing to generate"),
    ({"prompt": None}, "prompt", "string"),
    ({"prompt": ["a cube"]}, "prompt", "string"),
    ({"prompt": "x" * 5000}, "prompt", "4000"),
    ({"prompt": "\ud800 cube"}, "prompt", "got"),
    ({"prompt": "a cube", "colour": "red"}, "colour", "unknown key"),
    ({"prompt": "a cube", "seed": -1}, "seed", "0"),
    ({"prompt": "a cube", "seed": 2**63}, "seed", "got"),
    ({"prompt": "a cube", "seed": 10**400}, "seed", "got"),
    ({"prompt": "a cube", "seed": 1.5}, "seed", "integer"),
    ({"prompt": "a cube", "seed": float("nan")}, "seed", "nan"),
    ({"prompt": "a cube", "settings": [1]}, "settings", "dictionary"),
    (
        {"prompt": "a cube", "relations": [{"subject": "a", "relation": "under", "object": "b"}]},
        "relations",
        "no slots",
    ),
    ({"slots": {"name": "cube"}}, "slots", "got"),
    ({"slots": ["cube"]}, "slots[0]", "got 'cube'"),
    ({"slots": [{"name": "cube"}]}, "slots[0].prompt", "is missing"),
    ({"slots": [{"prompt": "a cube"}]}, "slots[0].name", "is missing"),
    (cube(prompt=""), "slots[0].prompt", "is empty"),
    (cube(prompt="  "), "slots[0].prompt", "is empty"),
    (cube(name=""), "slots[0].name", "is empty"),
    (cube(name="n" * 64), "slots[0].name", "63"),
    (cube(colour="red"), "slots[0].colour", "unknown key"),
    (cube(size=[1, 0, 1]), "slots[0].size", "longer than 0"),
    (cube(size=[1, -1, 1]), "slots[0].size", "longer than 0"),
    (cube(size=[1e-320, 1, 1]), "slots[0].size", "shorter"),
    (cube(size=[1, 0.0005, 1]), "slots[0].size", "1000 times"),
    (cube(size=[1, 1]), "slots[0].size[2]", "is missing"),
    (cube(size=[1, 1, 1, 1]), "slots[0].size", "got"),
    (cube(size="large"), "slots[0].size", "got 'large'"),
    (cube(size=[1, float("nan"), 1]), "slots[0].size[1]", "finite"),
    (cube(size=[float("inf"), 1, 1]), "slots[0].size[0]", "finite"),
    (cube(size=[1e6, 1e6, 1e6]), "slots[0].size", "100000"),
    (cube(size=[10**400, 1, 1]), "slots[0].size[0]", "got 1000"),
    (cube(centre=[0, 0, float("-inf")]), "slots[0].centre[2]", "finite"),
    (cube(centre=[0, 0, 2e5]), "slots[0].centre", "100000"),
    (cube(rotation_deg=[0, 0, float("nan")]), "slots[0].rotation_deg[2]", "finite"),
    (cube(rotation_deg=[0, {}, 0]), "slots[0].rotation_deg[1]", "number"),
    (cube(lock_size="perhaps"), "slots[0].lock_size", "boolean"),
    ({"slots": [CUBE, CUBE]}, "slots[1].name", "two slots are named 'cube'"),
    ({"slots": [CUBE, {**CUBE, "name": " cube "}]}, "slots[1].name", "two slots are named 'cube'"),
    ({"slots": [{**CUBE, "name": f"cube {i}"} for i in range(MAX_SLOTS + 1)]}, "slots", "at most 16"),
    ({"slots": [{**CUBE, "kind": "context"}], "prompt": "a ball"}, "slots", "every slot is context"),
    (related(relation="inside"), "relations[0].relation", "'on top of'"),
    (related(relation=[]), "relations[0].relation", "'on top of'"),
    (related(subject="table"), "relations[0].subject", "no slot named 'table'"),
    (related(object="Ball"), "relations[0].object", "Slots are: cube, ball"),
    (related(object="cube"), "relations[0]", "cannot stand on top of itself"),
    (scene(relations=[{"subject": "cube", "relation": "under"}]), "relations[0].object", "is missing"),
    (
        scene(relations=[{"subject": "cube", "relation": "under", "object": "ball", "x": 1}]),
        "relations[0].x",
        "unknown",
    ),
]


@pytest.mark.parametrize(("data", "where", "says"), FAULTS)
def test_a_fault_is_named_with_its_place(data, where, says) -> None:
    with pytest.raises(RequestError) as caught:
        read_request(data)
    assert caught.value.where == where
    assert says in str(caught.value)
    assert caught.value.remedy
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("data", [None, 3, "a cube", [], [CUBE], True])
def test_a_request_that_is_no_object_is_refused(data) -> None:
    with pytest.raises(RequestError, match="expected a JSON object"):
        read_request(data)


def test_nan_that_json_lets_through_is_refused() -> None:
    data = json.loads('{"slots": [{"name": "a", "prompt": "a cube", "size": [1, NaN, 1]}]}')
    with pytest.raises(RequestError, match=r"slots\[0\].size\[1\].*finite"):
        read_request(data)


def test_a_whole_request_is_read_and_survives_json() -> None:
    data = {
        "prompt": "a scene",
        "negative_prompt": "broken",
        "slots": [
            {**CUBE, "centre": [1, 2, 3], "rotation_deg": [0, 0, 45], "size": [1, 2, 0.5], "lock_size": True},
            BALL,
        ],
        "relations": [{"subject": "cube", "relation": "left of", "object": "ball"}],
        "preset": "starter",
        "seed": 2**63 - 1,
        "settings": {"steps": 3},
    }
    request = read_request(data)
    assert request.slots[0].size == (1.0, 2.0, 0.5)
    assert request.slots[0].lock_size and not request.slots[0].lock_position
    assert read_request(json.loads(request.model_dump_json())) == request


def test_a_prompt_alone_and_sixteen_slots_are_enough_and_not_too_many() -> None:
    assert read_request({"prompt": " a cube "}).prompt == "a cube"
    slots = [{**CUBE, "name": f"cube {i}"} for i in range(MAX_SLOTS)]
    assert len(read_request({"slots": slots}).slots) == MAX_SLOTS


def test_a_request_cannot_be_changed() -> None:
    request = read_request(scene())
    with pytest.raises(ValueError, match="frozen"):
        request.seed = 3
