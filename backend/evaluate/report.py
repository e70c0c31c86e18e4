"""The report of an evaluation: tables in Markdown, numbers in JSON, a sheet of pictures for each seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import OutputError
from ..export.files import atomic_write, output_error
from ..export.pictures import write_contact_sheet
from .making import PICTURE, PICTURE_PX
from .methods import titles
from .statistics import Estimate
from .summary import (
    BASELINE,
    LOG_ODDS,
    MEANS,
    SHARES,
    Result,
    by_relation,
    check_comparable,
    differences,
    mean_log_odds,
    method_of,
    summarise,
)
from .trials import Trial, write_json

REPORT, RESULTS = "report.md", "results.json"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def write_report(trials: Sequence[Trial], results: Sequence[Result], out: Path) -> list[Path]:
    """Write report.md, results.json and the sheets into `out`; returns their paths.

    trials: all that the report is about. results: of those that are done. Raises RequestError for results that cannot
    be compared, OutputError where nothing can be written.
    """
    check_comparable(results)
    sheets = write_sheets(trials, out)
    pictures = [f"![Seed {seed}: a row for each prompt, a column for each method]({p.name})" for seed, p in sheets]
    text = "\n\n".join(["# Evaluation", tables(trials, results), *pictures]) + "\n"
    with atomic_write(out / REPORT) as file:
        file.write(text.encode())
    summary = {
        "methods": summarise(results),
        f"over_{BASELINE}": differences(results),
        "log_odds": mean_log_odds(results),
        f"log_odds_over_{BASELINE}": differences(results, LOG_ODDS),
        "runs": results,
    }
    write_json(summary, out / RESULTS)
    return [out / REPORT, out / RESULTS, *(path for _, path in sheets)]


def tables(trials: Sequence[Trial], results: Sequence[Result]) -> str:
    """The tables in Markdown, with what they are about."""
    if not results:
        return f"0 of {len(trials)} runs are done."
    methods = [m for m in dict.fromkeys(trial.method for trial in trials) if m in set(map(method_of, results))]
    summary, over = summarise(results), differences(results)
    shares = _table(["method", *SHARES], methods, lambda m: [_share(summary[m][name]) for name in SHARES])
    costs = _table(
        ["method", *MEANS, "failed"],
        methods,
        lambda m: [*(_mean(summary[m][name]) for name in MEANS), _failed(summary[m]["failed"])],
    )
    parts = [
        _about(trials, results),
        "Share that is right, in per cent, with 95 % intervals (Wilson):\n\n" + shares,
        "A run's seconds of optimisation and forward passes of the networks, means with 95 % intervals "
        "(bootstrap):\n\n" + costs,
    ]
    if over:
        rows = [m for m in methods if m in over]
        table = _table(["method", *SHARES], rows, lambda m: [_points(over[m][name]) for name in SHARES])
        parts.append(
            f"Difference to `{BASELINE}` on the same prompts and seeds, in percentage points, with 95 % intervals "
            f"(bootstrap over the prompts):\n\n{table}"
        )
    parts.append(_log_odds_table(methods, results))
    relations = by_relation(results)
    held = _table(
        ["relation", *methods],
        list(relations),
        lambda name: ["{}/{}".format(*relations[name][m]) if m in relations[name] else "" for m in methods],
    )
    parts += ["Relations that hold at the end, of how many runs:\n\n" + held]
    parts += ["What the methods set:\n\n" + "\n".join(titles(methods))]
    return "\n\n".join(parts)


def _log_odds_table(methods: Sequence[str], results: Sequence[Result]) -> str:
    over = differences(results, LOG_ODDS)
    shown = {"": mean_log_odds(results)} | ({f", over `{BASELINE}`": over} if over else {})
    table = _table(
        ["method", *(name + what for what in shown for name in LOG_ODDS)],
        methods,
        lambda m: [_signed(rows.get(m, {}).get(name)) for rows in shown.values() for name in LOG_ODDS],
    )
    about = "The judge's log-odds of Yes for an object, means with 95 % intervals (bootstrap over the prompts)"
    return f"{about}:\n\n{table}"


def _about(trials: Sequence[Trial], results: Sequence[Result]) -> str:
    """How many runs of what, with which weights, on what."""
    first, prompts, seeds = results[0], len({trial.number for trial in trials}), len({trial.seed for trial in trials})
    machines = sorted({f"{r['made']['device']}, {r['made']['threads']} threads" for r in results})
    return (
        f"{len(results)} of {len(trials)} runs are done: {prompts} prompts, {seeds} seeds, "
        f"{first['asked']['settings']['steps']} steps for each object. Weights {first['asked']['weights']}, "
        f"judge {first['judge']}{_own_judge(results)}. Run on: {'; '.join(machines)}."
    )


def _own_judge(results: Sequence[Result]) -> str:
    own = any(result.get("judged_by_reward") for result in results)
    return " (**the reward's own weights**: noun by sight, content and whole favour the methods it rewards)" * own


def write_sheets(trials: Sequence[Trial], out: Path) -> list[tuple[int, Path]]:
    """A sheet for each seed of which there are pictures: a row for each prompt, a column for each method."""
    methods = list(dict.fromkeys(trial.method for trial in trials))
    sheets = []
    for seed in sorted({trial.seed for trial in trials}):
        own = {(trial.number, trial.method): trial for trial in trials if trial.seed == seed}
        numbers = sorted({number for number, _ in own})
        paths = [own[number, method].folder(out) / PICTURE for number in numbers for method in methods]
        if not any(path.is_file() for path in paths):
            continue
        captions = [f"{number} {method}" for number in numbers for method in methods]
        path = out / f"sheet_{seed}.png"
        write_contact_sheet([_picture(p) for p in paths], path, captions, columns=len(methods))
        sheets.append((seed, path))
    return sheets


def _picture(path: Path) -> np.ndarray:
    """(PICTURE_PX, PICTURE_PX, 3) in [0, 1]; grey where there is none."""
    if not path.is_file():
        return np.full((PICTURE_PX, PICTURE_PX, 3), 0.8)
    return np.asarray(Image.open(path).convert("RGB"), np.float64) / 255.0


def put_into(document: Path, text: str) -> None:
    """Replace what stands between the two marks of a Markdown file by `text`. Raises OutputError without the marks."""
    try:
        before, mark, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    except OSError as error:
        raise output_error(error, document) from error
    _, end, after = rest.partition(END)
    if not (mark and end):
        raise OutputError(
            "has no place for the tables", where=str(document), remedy=f"Put the lines {BEGIN} and {END} into it"
        )
    with atomic_write(document) as file:
        file.write(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}".encode())


def _table(head: Sequence[str], rows: Iterable[str], cells: Callable[[str], list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([row, *cells(row)] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _share(e: Estimate | None) -> str:
    """Such as `58 (39-75), n 24`."""
    if e is None:
        return ""
    return f"{100 * e.value:.0f} ({100 * (e.low or 0):.0f}-{100 * (e.high or 0):.0f}), n {e.observations}"


def _points(e: Estimate | None) -> str:
    """Such as `+12 (-3 to +26)`."""
    if e is None:
        return ""
    interval = "" if e.low is None or e.high is None else f" ({100 * e.low:+.0f} to {100 * e.high:+.0f})"
    return f"{100 * e.value:+.0f}{interval}"


def _signed(e: Estimate | None) -> str:
    """Such as `+1.20 (-0.31 to +2.60)`."""
    if e is None:
        return ""
    return f"{e.value:+.2f}" + ("" if e.low is None else f" ({e.low:+.2f} to {e.high:+.2f})")


def _mean(e: Estimate | None) -> str:
    if e is None:
        return ""
    return f"{e.value:.0f}" + ("" if e.low is None else f" ({e.low:.0f}-{e.high:.0f})")


def _failed(e: Estimate | None) -> str:
    return "" if e is None else f"{round(e.value * e.observations)}/{e.observations}"
