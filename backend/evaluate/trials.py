"""The runs of an evaluation, and the files that hold what is known of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import OutputError, RequestError
from ..export.files import atomic_write, jsonable
from .suite import SUITES, Case

RESULT = "result.json"


class Trial(NamedTuple):
    """One run: a case of a suite, a seed, a method."""

    suite: str
    number: int  # of the case, counted from 1
    seed: int
    method: str

    @property
    def case(self) -> Case:
        return SUITES[self.suite][self.number - 1]

    def folder(self, out: Path) -> Path:
        """Where its files lie."""
        return out / "runs" / self.method / f"{self.number:02d}-{self.seed}"


def plan(suite: str, methods: Sequence[str], prompts: int, seeds: int) -> list[Trial]:
    """All runs of the first prompts and seeds: the methods of a scene one after the other, all prompts seed by seed.

    So what is there when a plan is stopped can be compared. Raises RequestError for more prompts than the suite has.
    """
    if not 1 <= prompts <= len(SUITES[suite]):
        raise RequestError(
            f"the suite {suite!r} has {len(SUITES[suite])} prompts, {prompts} were asked for",
            where="--prompts",
            remedy=f"Give 1 to {len(SUITES[suite])}",
        )
    if seeds < 1:
        raise RequestError(f"{seeds} seeds make no run", where="--seeds", remedy="Give 1 or more")
    return [
        Trial(suite, number, seed, method)
        for seed in range(seeds)
        for number in range(1, prompts + 1)
        for method in methods
    ]


def part_of(trials: Sequence[Trial], part: str) -> list[Trial]:
    """The share "K/N" of the runs, the methods of one scene always together. Raises RequestError for another form."""
    number, slash, count = part.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise RequestError(f"expected K/N such as 1/2, got {part!r}", where="--part", remedy="K counts from 1 to N")
    scenes = list(dict.fromkeys((trial.number, trial.seed) for trial in trials))
    mine = set(scenes[int(number) - 1 :: int(count)])
    return [trial for trial in trials if (trial.number, trial.seed) in mine]


def read_result(folder: Path) -> dict[str, Any]:
    """What is known of a run; nothing where it was not begun. Raises OutputError for a file that cannot be read."""
    path = folder / RESULT
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise OutputError(
            f"cannot be read ({error})", where=str(path), remedy="Delete it, and the run is made again"
        ) from error


def write_json(data: Any, path: Path) -> None:
    """Indented JSON, whole or not at all. Raises OutputError."""
    with atomic_write(path) as file:
        file.write(json.dumps(jsonable(data), indent=2, ensure_ascii=False).encode() + b"\n")
