"""Schedules over the progress of a run."""

import pytest

from backend.schedules import annealed, between


@pytest.mark.parametrize(
    ("progress", "value"), [(0.0, 0.0), (0.4, 0.0), (0.45, 0.25), (0.5, 0.5), (0.6, 1.0), (1.0, 1.0)]
)
def test_between_rises_from_start_to_end(progress, value) -> None:
    assert between(0.4, 0.6, progress) == pytest.approx(value)


def test_between_is_a_jump_where_start_is_end() -> None:
    assert [between(0.5, 0.5, progress) for progress in (0.0, 0.49, 0.5, 1.0)] == [0.0, 0.0, 1.0, 1.0]
    assert between(0.0, 0.0, 0.0) == 1.0


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("none", [1.0, 1.0, 1.0, 1.0]),
        ("two stages", [1.0, 1.0, 0.2, 0.2]),
        ("linear", [1.0, 0.8, 0.6, 0.2]),
        ("square root", [1.0, 0.6, 1 - 0.8 * 0.5**0.5, 0.2]),
        ("cosine", [1.0, 1 - 0.4 * (1 - 0.5**0.5), 0.6, 0.2]),
    ],
)
def test_annealing_goes_from_start_to_end_in_its_own_way(name, values) -> None:
    assert [annealed(name, 1.0, 0.2, p) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(values)


@pytest.mark.parametrize("name", ["two stages", "linear", "square root", "cosine"])
def test_annealing_stays_at_the_end_beyond_the_run(name) -> None:
    assert annealed(name, 0.98, 0.5, 1.7) == pytest.approx(0.5)
    assert annealed(name, 0.98, 0.5, -1.0) == pytest.approx(0.98)
