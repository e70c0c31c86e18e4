"""The command line: reading arguments and wiring, nothing else."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import Interrupted, RequestError, UserError
from .presets import PRESETS
from .progress import ProgressBar
from .schema import SceneRequest, read_request

DEVICES = ("auto", "cpu", "cuda", "mps")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 on success, 1 when the doctor finds a fault, 2 for the user's errors, 130 on Ctrl-C."""
    parsed = _parser().parse_args(arguments)
    try:
        return parsed.command(parsed)
    except Interrupted as stop:
        print(f"\n{stop}", file=sys.stderr)
        return 130
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m backend", description="Diorama: text and boxes to textured scenes."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    generate = commands.add_parser("generate", help="generate a scene and write scene.glb, pictures and a report")
    generate.add_argument("prompt", nargs="?", metavar="PROMPT", help='such as "a red cube on top of a blue sphere"')
    generate.add_argument("--layout", type=Path, help="JSON with slots, relations and settings, joined to the prompt")
    generate.add_argument("--request", type=Path, help="JSON with a whole scene request, instead of a prompt")
    generate.add_argument("--resume", type=Path, metavar="CHECKPOINT", help="go on from a run's checkpoint")
    generate.add_argument("--preset", help=f"{', '.join(sorted(PRESETS))} (default: starter)")
    generate.add_argument("--seed", type=int, help="random seed (default: 0)")
    generate.add_argument("--steps", type=int, help="optimisation steps (default: the preset's)")
    generate.add_argument(
        "--out", type=Path, default=Path("out/scene"), help="folder for the result (default: %(default)s)"
    )
    generate.add_argument("--device", choices=DEVICES, default="auto", help="default: %(default)s")
    generate.set_defaults(command=_generate)
    doctor = commands.add_parser("doctor", help="say what is installed, what is missing, and what to do about it")
    doctor.set_defaults(command=_doctor)
    return parser


def _generate(arguments: argparse.Namespace) -> int:
    from .checkpoint import Checkpoint
    from .device import choose_device
    from .run import CHECKPOINT, run  # torch and the models' libraries take seconds to import: not for --help

    device = choose_device(arguments.device)
    checkpoint = Checkpoint(arguments.resume) if arguments.resume else None
    request = read_request(checkpoint.request) if checkpoint else _request(arguments)
    bar = ProgressBar(sys.stderr)
    try:
        written = run(
            request,
            arguments.out,
            device,
            bar.show,
            lambda text: print(f"warning: {text}", file=sys.stderr),
            checkpoint,
        )
    except KeyboardInterrupt:
        path = arguments.out / CHECKPOINT
        remedy = f"Go on with: python -m backend generate --resume {path} --out {arguments.out}"
        raise Interrupted("stopped", remedy=remedy if path.is_file() else "No checkpoint was written yet") from None
    bar.close()
    for relation, holds in written.checks.relations:
        print(f"{relation.subject} {relation.relation} {relation.object}: {'yes' if holds else 'NO'}")
    for path in written.files:
        print(path)
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from .doctor import print_report

    return print_report()


def _request(arguments: argparse.Namespace) -> SceneRequest:
    """The request the arguments describe. Raises RequestError."""
    if arguments.request and (arguments.prompt or arguments.layout):
        raise RequestError("takes the place of PROMPT and --layout", where="--request", remedy="Give one or the other")
    data: dict[str, Any] = {}
    for path in (arguments.request, arguments.layout):
        if path:
            data = _read_json(path)
    if arguments.prompt is not None:
        if not arguments.prompt.strip():
            raise RequestError("is empty", where="PROMPT", remedy='Describe a scene, such as "a mug on a table"')
        data = data | {"prompt": arguments.prompt}
    for key in ("preset", "seed"):
        if getattr(arguments, key) is not None:
            data = data | {key: getattr(arguments, key)}
    if arguments.steps is not None:
        data = data | {"settings": {**data.get("settings", {}), "steps": arguments.steps}}
    return read_request(data)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=str(path), remedy="Check the path") from error
    except ValueError as error:
        raise RequestError(f"is not JSON: {error}", where=str(path), remedy="Mend the file") from error
    if not isinstance(data, dict):
        raise RequestError("expected a JSON object", where=str(path), remedy="See the README's example")
    return data
