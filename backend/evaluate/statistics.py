"""Estimates with 95 % confidence intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from statistics import NormalDist, fmean
from typing import NamedTuple

import numpy as np

LEVEL = 0.95


class Estimate(NamedTuple):
    """A value and its interval; none where there are too few observations for one."""

    value: float
    low: float | None
    high: float | None
    observations: int


def wilson(hits: int, count: int) -> Estimate | None:
    """A share with Wilson's score interval (J. Am. Stat. Assoc. 22, 1927). None without observations."""
    assert 0 <= hits <= count, (hits, count)
    if count == 0:
        return None
    z, share = NormalDist().inv_cdf((1 + LEVEL) / 2), hits / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half), count)


def bootstrap_mean(values: Sequence[float], resamples: int = 10_000) -> Estimate | None:
    """The mean with its percentile bootstrap interval (Efron, 1979). None without values; the same ones give the same.

    One value has no interval.
    """
    if not values:
        return None
    data = np.asarray(values, np.float64)
    if len(data) == 1:
        return Estimate(float(data[0]), None, None, 1)
    drawn = np.random.default_rng(0).integers(len(data), size=(resamples, len(data)))
    low, high = np.quantile(data[drawn].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Estimate(float(data.mean()), low, high, len(data))


def mean_of_groups(values: Iterable[tuple[Hashable, Sequence[float]]]) -> Estimate | None:
    """The mean over groups of each group's mean, with its bootstrap interval over the groups; None without values.

    values: observations that belong together, which count as one by their mean, and the group they are of.
    """
    groups: dict[Hashable, list[float]] = defaultdict(list)
    for group, together in values:
        if together:
            groups[group].append(fmean(together))
    return bootstrap_mean([fmean(means) for means in groups.values()])
