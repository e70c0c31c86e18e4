"""Prompts: which objects and which relations they speak of."""

import random

import pytest

from backend.arrange.parse import parse
from backend.errors import RequestError
from backend.schema import SceneRequest, check_request

EXAMPLES = {
    "a red cube": (["red cube"], []),
    "a red cube on top of a blue sphere": (["red cube", "blue sphere"], ["red cube on top of blue sphere"]),
    "Red cube on blue sphere": (["red cube", "blue sphere"], ["red cube on top of blue sphere"]),
    "a red cube to the left of a blue sphere and a green cone": (
        ["red cube", "blue sphere", "green cone"],
        ["red cube left of blue sphere", "red cube left of green cone"],
    ),
    "a mug on a wooden table, next to a lamp": (
        ["mug", "wooden table", "lamp"],
        ["mug on top of wooden table", "wooden table next to lamp"],
    ),
    "a mug on a table next to a lamp": (["mug", "table", "lamp"], ["mug on top of table", "table next to lamp"]),
    "a cube left of a cone, on a table": (["cube", "cone", "table"], ["cube left of cone", "cube on top of table"]),
    "two red cubes next to a sphere": (
        ["red cube 1", "red cube 2", "sphere"],
        ["red cube 1 next to sphere", "red cube 2 next to sphere"],
    ),
    "2 cubes on 2 spheres": (
        ["cube 1", "cube 2", "sphere 1", "sphere 2"],
        ["cube 1 on top of sphere 1", "cube 2 on top of sphere 2"],
    ),
    "a cube on a table. A lamp behind the cube": (
        ["cube", "table", "lamp"],
        ["cube on top of table", "lamp behind cube"],
    ),
    "a big red cube. The cube is under a cone": (["big red cube", "cone"], ["big red cube under cone"]),
    "two cubes. The cubes are behind a cone": (
        ["cube 1", "cube 2", "cone"],
        ["cube 1 behind cone", "cube 2 behind cone"],
    ),
    "a cube on a red cube": (["cube", "red cube"], ["cube on top of red cube"]),
    "a red cube on a red cube": (["red cube", "red cube 2"], ["red cube on top of red cube 2"]),
    "a teddy bear; a ball under it": (["teddy bear", "ball"], ["ball under teddy bear"]),
    "a table with a mug on top": (["table", "mug"], ["mug on top of table"]),
    "a cat on a mat, with a lamp behind it": (["cat", "mat", "lamp"], ["cat on top of mat", "lamp behind cat"]),
    "a house with a red roof next to a tree": (
        ["house with a red roof", "tree"],
        ["house with a red roof next to tree"],
    ),
    "a snowman with a hat and a scarf": (["snowman with a hat and a scarf"], []),
    "a glass of water": (["glass of water"], []),
    "two glasses of water on a tray": (
        ["glass of water 1", "glass of water 2", "tray"],
        ["glass of water 1 on top of tray", "glass of water 2 on top of tray"],
    ),
    "a cube on the left and a sphere on the right": (
        ["cube", "sphere"],
        ["cube left of sphere", "sphere right of cube"],
    ),
    "two cubes next to each other": (["cube 1", "cube 2"], ["cube 2 next to cube 1"]),
    "three cubes on top of each other": (
        ["cube 1", "cube 2", "cube 3"],
        ["cube 2 on top of cube 1", "cube 3 on top of cube 2"],
    ),
    "a mug and a lamp on a table": (["mug", "lamp", "table"], ["mug on top of table", "lamp on top of table"]),
    "a cube on a sphere and a cone": (["cube", "sphere", "cone"], ["cube on top of sphere"]),
    "a lamp is behind a table and a chair stands in front of a house": (
        ["lamp", "table", "chair", "house"],
        ["lamp behind table", "chair in front of house"],
    ),
    "On a table there is a mug. Next to it is a lamp": (
        ["table", "mug", "lamp"],
        ["mug on top of table", "lamp next to mug"],
    ),
    "a tree, a car, a dog next to the tree and a cat behind the dog": (
        ["tree", "car", "dog", "cat"],
        ["dog next to tree", "cat behind dog"],
    ),
    "a snowman, a tree and a house": (["snowman", "tree", "house"], []),
    "a red and blue cube, and a cone": (["red and blue cube", "cone"], []),
    "a big, red cube, photorealistic": (["big, red cube"], []),
    "a lamp turned on and a cube": (["lamp turned on", "cube"], []),
    "a photo of a cat sitting on a mat": (["cat", "mat"], ["cat on top of mat"]),
    "a cube right next to a cone": (["cube", "cone"], ["cube next to cone"]),
    "A LAMP UNDERNEATH A TREE": (["LAMP", "TREE"], ["LAMP under TREE"]),
}


@pytest.mark.parametrize("prompt", EXAMPLES)
def test_prompts_are_read(prompt):
    parsed = parse(prompt)
    names = [slot.name for slot in parsed.slots]
    relations = [f"{r.subject} {r.relation} {r.object}" for r in parsed.relations]
    assert (sorted(names), relations) == (sorted(EXAMPLES[prompt][0]), EXAMPLES[prompt][1])


@pytest.mark.parametrize(
    ("words", "relation"),
    [
        ("atop", "on top of"),
        ("upon", "on top of"),
        ("on the top of", "on top of"),
        ("beneath", "under"),
        ("below", "under"),
        ("on the left of", "left of"),
        ("on the right side of", "right of"),
        ("in back of", "behind"),
        ("beside", "next to"),
        ("near", "next to"),
        ("close to", "next to"),
    ],
)
def test_synonyms_mean_the_relation(words, relation):
    assert [r.relation for r in parse(f"a cube {words} a sphere").relations] == [relation]


def test_slot_prompts_have_an_article():
    prompts = [slot.prompt for slot in parse("two red cubes on an old table, apples behind the orange cone").slots]
    assert prompts == ["a red cube", "a red cube", "an old table", "apples", "an orange cone"]


def test_words_of_place_that_are_not_understood_are_reported():
    assert parse("a cube between a sphere and a cone").not_understood == ("between",)


@pytest.mark.parametrize("prompt", ["", "  \n", ". , and", "on top of"])
def test_prompts_without_objects_are_refused(prompt):
    with pytest.raises(RequestError, match="prompt"):
        parse(prompt)


@pytest.mark.parametrize(
    "prompt", ["17 cubes", "9 cubes and 8 cones", "1000000000000 cubes", ", ".join(["a cube"] * 17)]
)
def test_more_than_sixteen_objects_are_refused(prompt):
    with pytest.raises(RequestError, match="more than 16"):
        parse(prompt)


def test_a_prompt_that_contradicts_itself_is_refused():
    with pytest.raises(RequestError, match="contradict"):
        parse("a cube on a sphere, and the sphere on the cube")


def test_any_words_give_a_valid_request_or_a_user_error():
    words = "a the two 3 red cube cubes table , . and with it on under next to left of each other behind top is in ' -"
    choose = random.Random(0)
    read = 0
    for _ in range(1500):
        prompt = " ".join(choose.choices(words.split(), k=choose.randint(1, 14)))
        try:
            parsed = parse(prompt)
        except RequestError:
            continue
        check_request(SceneRequest(prompt=prompt, slots=parsed.slots, relations=parsed.relations))
        read += 1
    assert read > 500
