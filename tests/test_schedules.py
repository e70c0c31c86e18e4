"""Schedules over the progress of a run."""

import pytest

from backend.schedules import between


@pytest.mark.parametrize(
    ("progress", "value"), [(0.0, 0.0), (0.4, 0.0), (0.45, 0.25), (0.5, 0.5), (0.6, 1.0), (1.0, 1.0)]
)
def test_between_rises_from_start_to_end(progress, value) -> None:
    assert between(0.4, 0.6, progress) == pytest.approx(value)


def test_between_is_a_jump_where_start_is_end() -> None:
    assert [between(0.5, 0.5, progress) for progress in (0.0, 0.49, 0.5, 1.0)] == [0.0, 0.0, 1.0, 1.0]
    assert between(0.0, 0.0, 0.0) == 1.0
