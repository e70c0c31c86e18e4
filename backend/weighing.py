"""How noise levels and candidates are weighed, in names and numbers. No torch: requests are checked without it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from .errors import RequestError

Weighting = Literal["x0", "sigma squared", "uniform", "fantasia"]  # w(t), see distillation.timestep_weight
Strategy = Literal["none", "best", "weighted", "min-max"]
STRATEGIES: tuple[Strategy, ...] = ("none", "best", "weighted", "min-max")


class Weighing(NamedTuple):
    """How scores become weights. The defaults are the paper's recommendation."""

    strategy: Strategy = "min-max"
    extremes: int = 2  # min-max: so many of the best and as many of the worst count
    best_weight: float = 0.9  # min-max: weight of the mean loss of the best
    worst_weight: float = 0.1  # min-max: of the mean loss of the worst, subtracted
    temperature: float = 1.0  # weighted: the scores' standard deviations that make a factor e


def needed(weighing: Weighing) -> int:
    """The fewest candidates the strategy can choose among."""
    return {"none": 1, "best": 2, "weighted": 2, "min-max": 2 * weighing.extremes}[weighing.strategy]


def check_candidates(count: int, weighing: Weighing, where: str = "settings.candidates") -> None:
    """Raise RequestError when there are fewer candidates than the strategy needs, or none of them would count."""
    if weighing.strategy == "min-max" and not weighing.best_weight + weighing.worst_weight:
        raise RequestError(
            "min-max with best_weight 0 and worst_weight 0 leaves no candidate to count",
            where="settings.best_weight",
            remedy="Give one of them more than 0, such as 0.9 and 0.1",
        )
    if count < needed(weighing):
        raise RequestError(
            f"strategy {weighing.strategy!r} needs {needed(weighing)} candidates or more, got {count}",
            where=where,
            remedy=f"Give {needed(weighing)} or more, or take the strategy 'none'",
        )


def check_reward(reward: str, folder: str) -> None:
    """Raise RequestError for a reward model without the folder that holds its weights."""
    if reward != "vlm" and not folder:
        raise RequestError(
            f"the reward {reward!r} needs its weights",
            where="settings.reward_folder",
            remedy="Give the folder that holds them, or take the reward 'vlm'",
        )
