"""The command line: reading arguments and wiring, nothing else."""

from __future__ import annotations

import argparse
import json
import math
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .commands import evaluate, images, models
from .commands.shared import warn
from .errors import Interrupted, OutputError, RequestError, UserError
from .presets import PRESETS, settings_for
from .progress import ProgressBar
from .schema import SceneRequest, read_request

DEVICES = ("auto", "cpu", "cuda", "mps")
OUT = Path("out/scene")
NOT_WITH_RESUME = ("prompt", "layout", "request", "meshes", "preset", "seed", "steps")  # the run's own are kept


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 on success, 1 when the doctor finds a fault, 2 for the user's errors, 130 on Ctrl-C."""
    parsed = _parser().parse_args(arguments)
    try:
        return parsed.command(parsed)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        from .out_of_memory import is_memory_error

        if not is_memory_error(error):
            raise
        remedy = "Close other programs, or lower settings as docs/performance.md says"
        print(f"error: the machine has too little memory. {remedy}", file=sys.stderr)
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
    generate.add_argument(
        "--meshes", type=Path, metavar="FILE.glb", help="meshes of slots of kind start or context, by node name"
    )
    generate.add_argument("--resume", type=Path, metavar="CHECKPOINT", help="go on from a run's checkpoint, as it was")
    generate.add_argument("--preset", help=f"{', '.join(sorted(PRESETS))} (default: starter)")
    generate.add_argument("--seed", type=int, help="random seed (default: 0)")
    generate.add_argument("--steps", type=int, help="optimisation steps for each object (default: the preset's)")
    generate.add_argument(
        "--out", type=Path, help=f"folder for the result (default: {OUT}, or the folder of the checkpoint)"
    )
    generate.add_argument("--device", choices=DEVICES, default="auto", help="default: %(default)s")
    generate.set_defaults(command=_generate)
    serve = commands.add_parser("serve", help="run the local service that the Blender add-on talks to")
    serve.add_argument("--host", default="127.0.0.1", help="name or address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    serve.add_argument("--data", type=Path, metavar="DIR", help="folder for jobs and token (default: the user's own)")
    serve.add_argument("--parent-pid", type=int, metavar="N", help="end with that process and those that joined it")
    serve.add_argument("--device", choices=DEVICES, default="auto", help="default: %(default)s")
    serve.add_argument(
        "--idle-s", type=float, default=1800.0, help="end after so long without job or client, 0: never (default: 1800)"
    )
    serve.set_defaults(command=_serve)
    images.add_commands(commands, DEVICES)
    models.add_commands(commands)
    evaluate.add_commands(commands, DEVICES)
    doctor = commands.add_parser("doctor", help="say what is installed, what is missing, and what to do about it")
    doctor.set_defaults(command=_doctor)
    return parser


def _generate(arguments: argparse.Namespace) -> int:
    request = None if arguments.resume else _request(arguments)
    _check_resume(arguments)

    from .checkpoint import Checkpoint  # imports torch, as do the next: seconds, not for --help or a faulty request
    from .device import choose_device
    from .out_of_memory import explain_memory, is_memory_error, suggest
    from .run import CHECKPOINT, run

    device = choose_device(arguments.device)
    checkpoint = Checkpoint(arguments.resume) if arguments.resume else None
    if checkpoint:
        request = read_request(checkpoint.request)
    assert request is not None
    out: Path = arguments.out or (arguments.resume.parent if checkpoint else OUT)
    before, bar = _stamp(out / CHECKPOINT), ProgressBar(sys.stderr)

    def go_on() -> str:
        own = _stamp(out / CHECKPOINT) not in (None, before)  # an earlier run's is of another scene
        return _go_on(out, out / CHECKPOINT if own else arguments.resume)

    try:
        written = run(request, out, device, bar.show, warn, checkpoint, meshes=arguments.meshes)
    except KeyboardInterrupt:
        raise Interrupted("stopped", remedy=go_on()) from None
    except OutputError as error:
        raise OutputError(error.what, where=error.where, remedy=f"{error.remedy}. {go_on()}") from error
    except Exception as error:
        if not is_memory_error(error):
            raise
        settings = settings_for(request.preset, request.settings)
        raise explain_memory(error, lambda share: suggest(settings, share), device) from error
    finally:
        bar.close()
    for relation, holds in written.checks.relations:
        print(f"{relation}: {'yes' if holds else 'NO'}")
    for path in written.files:
        print(path)
    return 0


def _check_resume(arguments: argparse.Namespace) -> None:
    """Raise RequestError for arguments that a resumed run would silently not heed."""
    given = [name for name in NOT_WITH_RESUME if getattr(arguments, name) is not None]
    if arguments.resume and given:
        names = ", ".join("PROMPT" if name == "prompt" else f"--{name}" for name in given)
        raise RequestError(
            f"goes on with the run's own request, and cannot change it by {names}",
            where="--resume",
            remedy="Leave those out, or start anew without --resume",
        )


def _stamp(path: Path) -> int | None:
    """When the file was written, None where there is none."""
    return path.stat().st_mtime_ns if path.is_file() else None


def _go_on(out: Path, checkpoint: Path | None) -> str:
    """How to resume a run that was stopped. checkpoint: its own last one, or the one it had begun with."""
    if checkpoint is None:
        return "No checkpoint had been written yet"
    command = ["python", "-m", "backend", "generate", "--resume", str(checkpoint), "--out", str(out)]
    return f"Go on with: {subprocess.list2cmdline(command) if sys.platform == 'win32' else shlex.join(command)}"


def _serve(arguments: argparse.Namespace) -> int:
    from .service.server import serve

    a = arguments
    if not 0 <= a.idle_s < math.inf:
        raise RequestError(f"must be 0 or more seconds, got {a.idle_s:g}", where="--idle-s", remedy="0 is for ever")
    if a.parent_pid is not None and not 0 < a.parent_pid < 2**31:
        raise RequestError(f"is no process: {a.parent_pid}", where="--parent-pid", remedy="Give a process's number")
    return serve(a.host, a.port, a.data, a.parent_pid, a.device, a.idle_s)


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
        settings = data.get("settings", {})
        if isinstance(settings, dict):  # else read_request says what is wrong with it
            data = data | {"settings": {**settings, "steps": arguments.steps}}
    return read_request(data)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))  # Windows editors put a mark before the text
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=str(path), remedy="Check the path") from error
    except (ValueError, RecursionError) as error:
        raise RequestError(f"is not JSON: {error}", where=str(path), remedy="Mend the file") from error
    if not isinstance(data, dict):
        raise RequestError("expected a JSON object", where=str(path), remedy="See the README's example")
    return data
