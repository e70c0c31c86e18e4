"""The procedural objects: closed parts, right size, colours told apart, faults that differ from the whole."""

import numpy as np
import pytest

from backend.starter.faults import FAULTS, broken_parts
from backend.starter.shapes import COLOURS, NOUNS, assemble, part_colours, parts_of, phrase


@pytest.mark.parametrize("noun", NOUNS)
def test_every_part_is_closed_and_faces_outwards(noun) -> None:
    for part in parts_of(noun, np.random.default_rng(0)):
        assert part.mesh.is_watertight, noun
        assert part.mesh.volume > 0, noun


@pytest.mark.parametrize("noun", NOUNS)
def test_shapes_are_centred_with_longest_edge_one(noun) -> None:
    for seed in range(3):
        vertices = assemble(parts_of(noun, np.random.default_rng(seed))).vertices
        low, high = vertices.min(0), vertices.max(0)
        np.testing.assert_allclose(low + high, 0, atol=1e-5)
        assert (high - low).max() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_change_every_noun_and_keep_it_finite(fault) -> None:
    for noun in NOUNS:
        whole = assemble(parts_of(noun, np.random.default_rng(1)))
        broken = assemble(broken_parts(noun, fault, np.random.default_rng(1)))
        assert np.isfinite(broken.vertices).all() and len(broken.faces)
        assert broken.vertices.shape != whole.vertices.shape or not np.allclose(broken.vertices, whole.vertices)


def test_equal_seeds_give_equal_shapes() -> None:
    one, two = (assemble(parts_of("chair", np.random.default_rng(4))) for _ in range(2))
    np.testing.assert_array_equal(one.vertices, two.vertices)


def test_varied_colours_stay_nearest_to_their_name() -> None:
    rng = np.random.default_rng(0)
    names, table = list(COLOURS), np.array(list(COLOURS.values()))
    shape = assemble(parts_of("cube", rng))
    for name in names:
        for _ in range(20):
            colour = part_colours(shape, name, rng)[0]
            assert names[np.linalg.norm(table - colour, axis=1).argmin()] == name


def test_accents_keep_their_colour() -> None:
    rng = np.random.default_rng(0)
    shape = assemble(parts_of("mushroom", rng))
    colours = part_colours(shape, "blue", rng)
    for colour, accent in zip(colours, shape.accents, strict=True):
        if accent is not None:
            np.testing.assert_allclose(colour, accent, atol=1e-6)
    assert any(accent is not None for accent in shape.accents)


def test_phrase_has_the_right_article() -> None:
    assert phrase("orange", "cone") == "an orange cone"
    assert phrase("red", "cube") == "a red cube"
