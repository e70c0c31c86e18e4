"""`blender --command diorama generate|status|install`."""

import argparse
import threading
from pathlib import Path

import bpy

from . import headless, link, preferences
from .collect import LayoutError
from .install import Installer
from .messages import BackendError, Cancelled
from .whole import PlaceError


def run(arguments: list[str]) -> int:
    """The exit status: 0 on success, 2 for what the user can mend, 130 on Ctrl-C."""
    try:
        parsed = _parser().parse_args(arguments)
    except SystemExit as leave:  # argparse has said what is wrong
        return leave.code if isinstance(leave.code, int) else 2
    try:
        with headless.heeding_ctrl_c():
            return {"generate": _generate, "status": _status, "install": _install}[parsed.command](parsed)
    except (LayoutError, BackendError, PlaceError) as error:
        headless.say(f"error: {error}")
        return 2
    except (KeyboardInterrupt, Cancelled):
        headless.say("stopped")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="blender -b FILE --command diorama", description="Diorama without a window.")
    commands = parser.add_subparsers(dest="command", required=True)
    generate = commands.add_parser("generate", help="generate the file's slots, or the prompt")
    generate.add_argument("--prompt", help="the whole scene; default: the file's")
    generate.add_argument("--preset", help="default: the file's")
    generate.add_argument("--seed", type=int, help="default: the file's")
    generate.add_argument("--steps", type=int, help="optimisation steps; default: the file's, or the preset's")
    generate.add_argument("--save", type=Path, metavar="OUT.blend", help="save the scene with the result there")
    generate.add_argument("--glb", type=Path, metavar="OUT.glb", help="copy the result there")
    commands.add_parser("status", help="say what is installed and what runs")
    commands.add_parser("install", help="install the backend")
    return parser


def _generate(parsed: argparse.Namespace) -> int:
    scene = bpy.context.scene
    for name in ("prompt", "preset", "seed", "steps"):
        value = getattr(parsed, name)
        if value is None:
            continue
        try:
            setattr(scene.diorama, name, value)
        except (OverflowError, ValueError) as error:
            raise BackendError(f"{value} is no possible value", f"--{name}", str(error)) from error
        if name in ("seed", "steps") and getattr(scene.diorama, name) != value:
            raise BackendError(f"{value} is no possible value", f"--{name}", "Give a number from 0 up")
    collection = headless.generate(scene, bpy.context.view_layer, parsed.glb)
    headless.say(f"{collection.name}: {', '.join(thing.name for thing in collection.objects)}")
    if parsed.save is not None:
        _save(parsed.save)
    return 0


def _save(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        bpy.ops.wm.save_as_mainfile(filepath=str(path.resolve()))
    except (OSError, RuntimeError) as error:
        raise BackendError("The file cannot be saved", str(path), str(error).strip()) from error
    headless.say(str(path))


def _status(parsed: argparse.Namespace) -> int:
    config = preferences.config()
    headless.say(f"user folder: {config.home}")
    running = link.adopt(config)
    if running is None:
        if not config.remote:
            link.backend_for(config)  # raises, where it is not installed
        headless.say("backend: not running")
        return 0
    client, _ = running
    health = client.health()
    headless.say(f"backend: {client.target.address}, version {health['version']}, {health.get('device', '')}")
    for job in client.jobs(5)["jobs"]:
        headless.say(f"{job.get('id')}: {job.get('state')}")
    return 0


def _install(parsed: argparse.Namespace) -> int:
    if not bpy.app.online_access:
        remedy = "Start Blender with --online-mode, or allow online access in its preferences"
        raise BackendError("Blender is set to stay offline", "", remedy, "settings")
    config = preferences.config()
    link.free_environment(config)
    python = Installer(
        config.source, config.home, headless.say, threading.Event(), config.cuda, config.torch_index
    ).run()
    headless.say(f"installed: {python}")
    return 0


_handle = None  # Blender wants it back to remove the command


def start() -> None:
    global _handle
    _handle = bpy.utils.register_cli_command("diorama", run)


def stop() -> None:
    global _handle
    if _handle is not None:
        bpy.utils.unregister_cli_command(_handle)
        _handle = None
