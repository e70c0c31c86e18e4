"""From prompt or slots to a scene in which everything has a name, a box and a consistent place."""

import pytest

from backend.errors import RequestError
from backend.prepare import prepare
from backend.schema import read_request


def slots(*names: str, **given) -> list[dict]:
    return [{"name": name, "prompt": f"a {name}", **given} for name in names]


def relations(*triples: tuple[str, str, str]) -> list[dict]:
    return [dict(zip(("subject", "relation", "object"), triple, strict=True)) for triple in triples]


def test_a_prompt_becomes_named_slots_a_relation_and_boxes_that_do_not_meet() -> None:
    scene, warnings = prepare(read_request({"prompt": "a red cube on top of a blue sphere"}))
    assert [slot.prompt for slot in scene.slots] == ["a red cube", "a blue sphere"]
    names = [slot.name for slot in scene.slots]
    assert [(r.subject, r.relation, r.object) for r in scene.relations] == [(names[0], "on top of", names[1])]
    upper, lower = scene.slots
    assert upper.centre[2] - upper.size[2] / 2 >= lower.centre[2] + lower.size[2] / 2 - 1e-4
    assert warnings == []


def test_slots_that_were_placed_stay_where_they_are() -> None:
    given = slots("cube", "ball", centre=[1, 2, 3], size=[0.5, 0.6, 0.7])
    request = read_request({"slots": given, "relations": relations(("cube", "left of", "ball"))})
    scene, _ = prepare(request)
    assert scene == request


def test_slots_without_a_place_get_one_each() -> None:
    scene, _ = prepare(read_request({"slots": slots("cube", "ball", "cone")}))
    boxes = {slot.centre for slot in scene.slots}
    assert len(boxes) == 3


def test_what_was_prepared_stays_as_it_is_when_prepared_again() -> None:
    once, _ = prepare(read_request({"prompt": "a red cube on top of a blue sphere"}))
    again, _ = prepare(read_request(once.model_dump()))
    assert again == once


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("cube", "on top of", "ball"), ("ball", "on top of", "cube")),
        (("cube", "on top of", "ball"), ("cube", "under", "ball")),
        (("cube", "left of", "ball"), ("cube", "right of", "ball")),
        (("cube", "behind", "ball"), ("ball", "behind", "cube")),
    ],
)
def test_contradictory_relations_are_named(first, second) -> None:
    request = read_request({"slots": slots("cube", "ball"), "relations": relations(first, second)})
    with pytest.raises(RequestError) as caught:
        prepare(request)
    assert " ".join(first) in str(caught.value)
    assert " ".join(second) in str(caught.value)


def test_a_contradiction_in_the_prompt_is_found_as_well() -> None:
    with pytest.raises(RequestError, match="contradict"):
        prepare(read_request({"prompt": "a cube on top of a sphere, and the sphere on top of the cube"}))


def test_a_prompt_without_an_object_is_refused() -> None:
    with pytest.raises(RequestError) as caught:
        prepare(read_request({"prompt": "on top of, and ..."}))
    assert caught.value.remedy


def test_a_relation_that_only_the_prompt_names_is_warned_of_beside_slots() -> None:
    data = {"prompt": "a red cube on top of a blue ball", "slots": slots("cube", "ball")}
    scene, warnings = prepare(read_request(data))
    assert not scene.relations and len(warnings) == 1
    assert "red cube on top of blue ball" in warnings[0] and "relations" in warnings[0]
    data["relations"] = relations(("cube", "on top of", "ball"))
    assert prepare(read_request(data))[1] == []
    assert prepare(read_request({"prompt": "!", "slots": slots("cube")}))[1] == []
