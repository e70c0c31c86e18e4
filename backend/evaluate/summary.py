"""What the results of many runs come to, by method."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from ..errors import RequestError
from .methods import SET_BY_METHODS
from .statistics import Estimate, bootstrap_mean, mean_of_groups, wilson

Result = dict[str, Any]  # of one run, as making.Maker leaves it
Table = dict[str, dict[str, Estimate | None]]  # method -> measure -> estimate


def _of_objects(right: Callable[[dict[str, Any]], bool | None]) -> Callable[[Result], list[bool]]:
    """A measure of single objects; `right` gives None for one that it does not concern."""

    def measure(result: Result) -> list[bool]:
        verdicts = [right(thing) for thing in result["shows"]["objects"]]
        return [verdict for verdict in verdicts if verdict is not None]

    return measure


def _noun(thing: dict[str, Any]) -> str:
    return thing["asked"].split()[-1]


def _log_odds(key: str) -> Callable[[Result], list[float]]:
    """A measure of single objects, of those that a run came to."""
    return lambda result: [thing[key] for thing in result["shows"]["objects"] if key in thing]


# What is right or wrong, as often as a run shows it
SHARES: dict[str, Callable[[Result], list[bool]]] = {
    "relation": lambda result: [result["shows"]["relation_holds"]],
    "colour": _of_objects(lambda thing: thing["colour_right"]),
    "noun by shape": _of_objects(lambda thing: thing["shaped_as"] == _noun(thing) if "shaped_as" in thing else None),
    "noun by sight": _of_objects(lambda thing: thing["seen_as"] == _noun(thing)),
    "content": _of_objects(lambda thing: thing["content_right"]),
    "whole": _of_objects(lambda thing: thing["whole"]),
}
# The judge's log-odds of Yes: they tell apart what is all right, or all wrong, as shares do not
LOG_ODDS: dict[str, Callable[[Result], list[float]]] = {
    "content": _log_odds("content_log_odds"),
    "whole": _log_odds("whole_log_odds"),
}
MEANS: dict[str, Callable[[Result], float]] = {
    "seconds": lambda result: result["made"]["seconds"],
    "UNet": lambda result: _forwards(result, "denoiser"),
    "VAE": lambda result: _forwards(result, "encoder", "decoder"),
    "VLM": lambda result: _forwards(result, "vision", "language"),
}
BASELINE = "sds"


def _forwards(result: Result, *networks: str) -> int:
    return sum(result["made"]["calls"][network]["forwards"] for network in networks)


def method_of(result: Result) -> str:
    """The method that the run was made by."""
    return result["asked"]["trial"]["method"]


def check_comparable(results: Iterable[Result]) -> None:
    """Raise RequestError for results of different weights, judges, or settings that no method sets."""
    seen: dict[str, Any] = {}
    for result in results:
        told = {key: v for key, v in result["asked"]["settings"].items() if key not in SET_BY_METHODS}
        told |= {"weights": result["asked"]["weights"], "judge": result["judge"]}
        for key, value in told.items():
            if seen.setdefault(key, value) != value:
                raise RequestError(
                    f"results of different {key} lie together here",
                    where="--out",
                    remedy="Run without --report-only, which makes the outdated ones again, or take another folder",
                )


def summarise(results: Sequence[Result]) -> Table:
    """Shares with Wilson's intervals, means with bootstrapped ones. A failed run has all wrong, and no means."""
    table: Table = {}
    for name, own in _by_method(results).items():
        finished = [result for result in own if "failed" not in result["made"]]
        row: dict[str, Estimate | None] = {}
        for measure, judge in SHARES.items():
            verdicts = [verdict for result in own for verdict in judge(result)]
            row[measure] = wilson(sum(verdicts), len(verdicts))
        for measure, number in MEANS.items():
            row[measure] = bootstrap_mean([float(number(result)) for result in finished])
        table[name] = row | {"failed": wilson(len(own) - len(finished), len(own))}
    return table


def mean_log_odds(results: Sequence[Result]) -> Table:
    """The judge's log-odds of the runs that did not fail, with intervals bootstrapped over the prompts."""
    return {
        name: {measure: mean_of_groups((_scene(r)[0], judge(r)) for r in own) for measure, judge in LOG_ODDS.items()}
        for name, own in _by_method(results).items()
    }


def differences(
    results: Sequence[Result],
    measures: Mapping[str, Callable[[Result], Sequence[float]]] = SHARES,
    baseline: str = BASELINE,
) -> Table:
    """How much higher each measure is than the baseline's, of the same prompt and seed; empty without the baseline.

    The seeds of a prompt are no independent observations, so the interval is bootstrapped over the prompts.
    """
    by_method = _by_method(results)
    base = {_scene(result): result for result in by_method.pop(baseline, [])}
    table: Table = {}
    for name, own in by_method.items():
        paired = [(result, base[_scene(result)]) for result in own if _scene(result) in base]
        table[name] = {measure: _difference(paired, judge) for measure, judge in measures.items()}
    return {name: row for name, row in table.items() if any(row.values())}


def _difference(paired: list[tuple[Result, Result]], judge: Callable[[Result], Sequence[float]]) -> Estimate | None:
    both = [(_scene(one)[0], judge(one), judge(other)) for one, other in paired]
    return mean_of_groups((prompt, [fmean(mine) - fmean(others)]) for prompt, mine, others in both if mine and others)


def by_relation(results: Sequence[Result]) -> dict[str, dict[str, tuple[int, int]]]:
    """How often each relation holds, and of how many: relation -> method -> counts."""
    counts: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for result in results:
        own, name = counts[result["shows"]["relation"]], method_of(result)
        holds, runs = own.get(name, (0, 0))
        own[name] = holds + result["shows"]["relation_holds"], runs + 1
    return dict(counts)


def _by_method(results: Iterable[Result]) -> dict[str, list[Result]]:
    grouped: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        grouped[method_of(result)].append(result)
    return dict(grouped)


def _scene(result: Result) -> tuple[int, int]:
    """Prompt's number and seed."""
    return result["asked"]["trial"]["number"], result["asked"]["trial"]["seed"]
