"""Reward-weighted search over placements."""

import pytest
import torch

from backend.arrange.relations import RELATIONS, box_bounds
from backend.arrange.search import search


def relation_score(name, sizes):
    """Minus the loss that slot 0 stands in the relation to slot 1."""

    def score(centres):
        return -RELATIONS[name].loss(*(box_bounds(c, s) for c, s in zip(centres.unbind(1), sizes, strict=True)))

    return score


@pytest.mark.parametrize("name", list(RELATIONS))
def test_search_finds_the_relation_from_random_starts(name):
    generator = torch.Generator().manual_seed(0)
    found = 0
    for _ in range(20):
        start = torch.randn(2, 3, generator=generator)
        sizes = torch.rand(2, 3, generator=generator) + 0.3
        placed = search(
            relation_score(name, sizes),
            start,
            torch.tensor([False, True]),
            generator,
            rounds=25,
            samples=64,
            spread=1.0,
        )
        found += bool(RELATIONS[name].check(box_bounds(placed[0], sizes[0]), box_bounds(placed[1], sizes[1])))
    assert found >= 19


def test_locked_slots_stay_where_they_are():
    start = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    locked = torch.tensor([True, False, True])
    placed = search(lambda c: -c.square().sum((1, 2)), start, locked, torch.Generator().manual_seed(2))
    assert torch.equal(placed[locked], start[locked])
    assert placed[1].norm() < 0.2 * start[1].norm()


def test_search_never_ends_worse_than_it_began():
    start = torch.zeros(2, 3)
    placed = search(
        lambda c: -c.square().sum((1, 2)), start, torch.zeros(2, dtype=torch.bool), torch.Generator().manual_seed(3)
    )
    assert torch.equal(placed, start)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_scale_of_the_rewards_does_not_matter(factor):
    start = torch.ones(1, 3)
    free = torch.tensor([False])
    one, other = (
        search(lambda c, k=k: -k * c.square().sum((1, 2)), start, free, torch.Generator().manual_seed(4))
        for k in (1.0, factor)
    )
    torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


def test_scores_that_are_not_finite_are_ignored():
    def score(centres):
        value = -centres.square().sum((1, 2))
        return torch.where(centres[:, 0, 0] > 1.2, torch.nan, value)

    placed = search(score, torch.ones(1, 3), torch.tensor([False]), torch.Generator().manual_seed(5))
    assert placed.norm() < 0.3


def test_a_seed_gives_the_same_placement_again():
    runs = [
        search(lambda c: c[:, 0, 0], torch.zeros(1, 3), torch.tensor([False]), torch.Generator().manual_seed(6))
        for _ in range(2)
    ]
    assert torch.equal(*runs)
