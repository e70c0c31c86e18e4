"""`python -m backend evaluate`: arguments, and wiring to the package evaluate."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..progress import ProgressBar
from .shared import named_values, warn


def add_commands(commands: Any, devices: tuple[str, ...]) -> None:
    """Add the command to the parser's subparsers."""
    evaluate = commands.add_parser("evaluate", help="compare methods over prompts and seeds, with numbers and pictures")
    evaluate.add_argument("--suite", default="starter", choices=("starter",), help="default: %(default)s")
    evaluate.add_argument("--methods", metavar="A,B,...", help="default: the six that the papers suggest")
    evaluate.add_argument("--prompts", type=int, default=12, help="how many of the suite (default: %(default)s)")
    evaluate.add_argument("--seeds", type=int, default=3, help="runs of each prompt (default: %(default)s)")
    evaluate.add_argument("--steps", type=int, help="optimisation steps for each object (default: the preset's)")
    evaluate.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="another setting, for all methods alike"
    )
    evaluate.add_argument("--judge", type=Path, metavar="FOLDER", help="VLM that judges (default: weights/judge)")
    evaluate.add_argument("--part", default="1/1", metavar="K/N", help="make only this share; the report is of all")
    evaluate.add_argument("--fresh", action="store_true", help="make runs again that are there: after changes of code")
    evaluate.add_argument("--report-only", action="store_true", help="make nothing, write the report of what is there")
    evaluate.add_argument(
        "--into", type=Path, metavar="FILE.md", help="put the tables between the marks in this file, too"
    )
    evaluate.add_argument("--out", type=Path, default=Path("out/evaluation"), help="default: %(default)s")
    evaluate.add_argument("--device", choices=devices, default="auto", help="default: %(default)s")
    evaluate.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from ..device import choose_device  # imports torch, as do the next: seconds, not for --help
    from ..evaluate.making import JUDGE, Maker, known_results
    from ..evaluate.methods import DEFAULT, read_methods
    from ..evaluate.report import put_into, tables, write_report
    from ..evaluate.trials import part_of, plan
    from ..export.files import check_writable

    a = arguments
    methods = DEFAULT if a.methods is None else read_methods(a.methods)
    trials = plan(a.suite, methods, a.prompts, a.seeds)
    own = part_of(trials, a.part)
    if not a.report_only:
        maker = Maker(a.out, choose_device(a.device), _changes(a), a.judge or JUDGE)
        for trial in trials:
            maker.asked(trial)  # a fault in a setting shows before the first run, not after hours
        check_writable(a.out)
        if maker.judges_itself:
            warn("the judge has the reward's own weights")
        for number, trial in enumerate(own, start=1):
            bar = ProgressBar(sys.stderr)
            try:
                result, made = maker.result(trial, bar.show, a.fresh)
            finally:
                bar.close()
            print(f"{number}/{len(own)} {_line(trial, result, made)}", flush=True)
    results = known_results(trials, a.out)
    for path in write_report(trials, results, a.out):
        print(path)
    if a.into:
        put_into(a.into, tables(trials, results))
        print(a.into)
    return 0


def _line(trial: Any, result: dict[str, Any], made: bool) -> str:
    """What came of one run."""
    told, shows = result["made"], result["shows"]
    if "failed" in told:
        outcome = f"failed: {told['failed']}"
    else:
        right = [f"{name} {sum(t[key] for t in shows['objects'])}/2" for name, key in _COUNTED.items()]
        holds = "holds" if shows["relation_holds"] else "does NOT hold"
        outcome = f"relation {holds}, {', '.join(right)}, {told['seconds']:.0f} s"
    return f"{trial.method}, {trial.case.prompt}, seed {trial.seed}: {outcome}{'' if made else ' (was there)'}"


_COUNTED = {"colours": "colour_right", "nouns": "noun_right", "content": "content_right"}


def _changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that the arguments change for all methods."""
    changes: dict[str, Any] = {} if arguments.steps is None else {"steps": arguments.steps}
    for name, value in named_values(arguments.set, "views=2"):
        try:
            changes[name] = json.loads(value)
        except ValueError:
            changes[name] = value  # text, such as a folder
    return changes
