"""Writes pictures of the add-on in a real Blender window: `python -m tests.blender.gui.take_pictures --out docs`.

Builds the zip, has Blender validate and install it from the command line, then opens a window under Xvfb, in which
story.py fills the Diorama tab and generates with the starter models to the end. Exit status 0: every picture is there.
Needs Xvfb, ImageMagick and a Blender. One in a chroot: `--blender "chroot DIR blender" --work W`, where W is the same
folder on both sides.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import shlex
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[3]
PICTURES = {  # that story.py has to take, by chapter
    "preferences": ("preferences",),
    "scene": ("empty", "layout", "running", "result", "results", "error"),
    "image": ("image_running", "image"),
}
WINDOW_PX = (1240, 1120)
COLOURS = 256  # of the palette: an interface needs no more, and the files stay small
COMMAND_S, SERVICE_S = 240.0, 240.0
WAIT_BEFORE_KILL_S, LOOK_S = 10.0, 0.2


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 when the zip was installed and every picture was taken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "gui", help="folder for the pictures")
    parser.add_argument("--blender", default="blender", help="command that starts Blender")
    parser.add_argument("--work", type=Path, help="empty folder for everything else (default: a temporary one)")
    parser.add_argument("--chapters", nargs="+", choices=PICTURES, default=list(PICTURES), help="default: all")
    parser.add_argument("--steps", type=int, default=40, help="optimisation steps of the run")
    parser.add_argument("--overrides", default="", help="other settings of the run, as JSON")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for the window")
    parsed = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        work = parsed.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="diorama-gui-")))
        blender = _wrapper(work, shlex.split(parsed.blender))
        install(blender, work)
        ready = stack.enter_context(service(work / "data"))
        token = (work / "data" / "token").read_text("utf-8").strip()
        task = {
            "address": ready["address"],
            "token": token,
            "out": str(work),
            "steps": parsed.steps,
            "overrides": parsed.overrides,
            "chapters": parsed.chapters,
        }
        (work / "task.json").write_text(json.dumps(task), encoding="utf-8")
        display = stack.enter_context(screen(work))
        show(blender, work, display, parsed.limit)
        return collect(work, parsed.out, [name for chapter in parsed.chapters for name in PICTURES[chapter]])


def _wrapper(work: Path, command: list[str]) -> Path:
    """One file that starts Blender, with a home and user folder of its own. build_addon.py wants a file."""
    home = work / "home"
    home.mkdir(parents=True, exist_ok=True)
    lines = ["#!/bin/sh", f"export HOME={shlex.quote(str(home))} XDG_RUNTIME_DIR={shlex.quote(str(home))}"]
    lines += [f"export BLENDER_USER_RESOURCES={shlex.quote(str(home))}", f'exec {shlex.join(command)} "$@"', ""]
    path = work / "blender.sh"
    path.write_text("\n".join(lines), encoding="utf-8")
    path.chmod(0o755)
    return path


def install(blender: Path, work: Path) -> None:
    """Build the zip, check it, and install it as a user does from the command line."""
    checked = {**os.environ, "BLENDER_BINARY": str(blender)}
    build = [sys.executable, str(ROOT / "build_addon.py"), "--check", "--out", str(work)]
    _run(build, checked)
    path = next(work.glob("diorama-*.zip"))
    _run([str(blender), "--command", "extension", "validate", str(path)])
    _run([str(blender), "--command", "extension", "install-file", "-r", "user_default", "--enable", str(path)])
    _run([str(blender), "--command", "extension", "list"])
    build_with_blender(blender, path, work)


def build_with_blender(blender: Path, path: Path, work: Path) -> None:
    """Blender's own packing of what the zip holds gives a zip of the same files."""
    unpacked, packed = work / "unpacked", work / "packed"
    packed.mkdir(exist_ok=True)
    with zipfile.ZipFile(path) as ours:
        ours.extractall(unpacked)
        names = {name.split("/", 1)[1] for name in ours.namelist() if not name.endswith("/")}
    (source,) = unpacked.iterdir()
    command = ["--command", "extension", "build", "--source-dir", str(source), "--output-dir", str(packed)]
    _run([str(blender), *command])
    with zipfile.ZipFile(next(packed.glob("*.zip"))) as theirs:
        found = {name for name in theirs.namelist() if not name.endswith("/")}
    if names - found:
        raise SystemExit(f"Blender's own build leaves out {sorted(names - found)}")


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    print("$", shlex.join(command), flush=True)
    subprocess.run(command, check=True, timeout=COMMAND_S, env=environment)


@contextlib.contextmanager
def service(data: Path) -> Iterator[dict[str, str]]:
    """The line a running backend printed when it was ready; it ends with the block."""
    command = [sys.executable, "-m", "backend", "serve", "--data", str(data), "--device", "cpu"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], SERVICE_S)
        line = process.stdout.readline() if readable else ""
        if not line:
            raise SystemExit("the backend did not start")
        yield json.loads(line)
    finally:
        _end(process)


@contextlib.contextmanager
def screen(work: Path) -> Iterator[str]:
    """The name of a display without a monitor."""
    size = f"{WINDOW_PX[0]}x{WINDOW_PX[1]}x24"
    with (work / "xvfb.log").open("wb") as log:
        command = ["Xvfb", "-displayfd", "1", "-screen", "0", size, "-nolisten", "tcp"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        yield f":{process.stdout.readline().strip()}"
    finally:
        _end(process)


def show(blender: Path, work: Path, display: str, limit_s: float) -> None:
    """Let story.py run in a window to its end."""
    script = work / "story.py"
    script.write_text((Path(__file__).parent / "story.py").read_text("utf-8"), encoding="utf-8")
    software = {"LIBGL_ALWAYS_SOFTWARE": "1", "GALLIUM_DRIVER": "llvmpipe"}
    command = [str(blender), "--window-geometry", "0", "0", *map(str, WINDOW_PX), "--no-window-focus", "--python"]
    command += [str(script), "--", str(work / "task.json")]
    process = subprocess.Popen(command, env={**os.environ, **software, "DISPLAY": display})
    until = time.monotonic() + limit_s
    try:
        while process.poll() is None:
            if time.monotonic() > until:
                raise SystemExit(f"the window is not done after {limit_s:.0f} s")
            grant(work, display)
            time.sleep(LOOK_S)
        if process.returncode != 0:
            raise SystemExit(f"the window ended with status {process.returncode}")
    finally:
        _end(process)


def grant(work: Path, display: str) -> None:
    """Take each picture that story.py wishes for; the wish is then gone."""
    for wish in work.glob("wish_*.json"):
        path = work / f"{wish.stem.replace('wish', 'shot')}.png"
        subprocess.run(["import", "-display", display, "-window", "root", str(path)], check=True, timeout=COMMAND_S)
        with Image.open(path) as screen_now:
            part = screen_now.convert("RGB").crop(json.loads(wish.read_text("utf-8")))
        part.save(path)
        print(f"picture {path.name}", flush=True)
        wish.unlink()


def collect(work: Path, out: Path, names: list[str]) -> int:
    """0 when every picture was taken; they are in `out`, with a palette, as blender_NAME.png."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(work.glob("shot_*.png")):
        target = out / path.name.replace("shot_", "blender_")
        with Image.open(path) as picture:
            picture.convert("RGB").quantize(COLOURS).save(target, optimize=True)
        print(f"{target}  {target.stat().st_size / 1e3:.0f} kB")
    missing = [name for name in names if not (work / f"shot_{name}.png").is_file()]
    if missing:
        print(f"missing: {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


def _end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    started = time.monotonic()
    while process.poll() is None and time.monotonic() - started < WAIT_BEFORE_KILL_S:
        time.sleep(0.1)
    if process.poll() is None:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
