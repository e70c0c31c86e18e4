"""Imported objects say where they come from: their own prompt, and numbers for what was asked about them."""

from __future__ import annotations

import bpy
import pytest

from .test_place import known_job, place

pytestmark = pytest.mark.blender
QUESTION = "Do these pictures show a red cube that is quite as red as a cube can possibly be?"
REWARDS = {
    "cube: Is it red?": -2.5,
    f"cube: {QUESTION}": 1.5,
    "sphere: Is it blue?": 0.5,
    "cube on top of sphere: Does it stand there?": 3.0,
    "sphere next to mug: Is it there?": 4.0,
}
RELATIONS = [
    {"subject": "cube", "relation": "on top of", "object": "sphere", "fulfilled": True},
    {"subject": "sphere", "relation": "next to", "object": "mug", "fulfilled": True},
]


def test_each_object_has_the_rewards_of_its_own_questions_and_relations(addon, exported) -> None:
    objects = place(known_job(addon, rewards=REWARDS, relations=RELATIONS), exported).objects
    related = {"cube on top of sphere": 3.0}
    assert objects["cube"]["rewards"].to_dict() == {"Is it red?": -2.5, QUESTION[:63]: 1.5, **related}
    assert objects["sphere"]["rewards"].to_dict() == {"Is it blue?": 0.5, "sphere next to mug": 4.0, **related}


def test_each_object_has_its_own_slot_s_prompt_and_the_scene_s(addon, exported) -> None:
    objects = place(known_job(addon), exported).objects
    assert {thing.name: thing["prompt"] for thing in objects} == {"cube": "a red cube", "sphere": "a blue sphere"}
    assert {thing["scene_prompt"] for thing in objects} == {"a red cube on a blue sphere"}


def test_without_slots_in_the_request_the_prompt_is_the_one_in_the_file(addon, exported) -> None:
    objects = place(known_job(addon, {"prompt": "a red cube on a blue sphere"}), exported).objects
    assert {thing.name: thing["prompt"] for thing in objects} == {"cube": "a red cube", "sphere": "a blue sphere"}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"ü" * 63: 1.0}, {"ü" * 31: 1.0}),
        (2**31, "2147483648"),
        ([1, 2.5], [1.0, 2.5]),
        ([1, "a"], "[1, 'a']"),
        ({"a": {"b": None, "c": True}}, {"a": {"c": True}}),
    ],
)
def test_what_blender_cannot_keep_is_kept_as_well_as_it_can(addon, value, kept) -> None:
    thing = bpy.data.objects.new("thing", None)
    thing["value"] = addon.provenance.storable(value)
    found = thing["value"]
    found = found.to_dict() if hasattr(found, "to_dict") else found
    assert (list(found) if isinstance(value, list) and not isinstance(found, str) else found) == kept
