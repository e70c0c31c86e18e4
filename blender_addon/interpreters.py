"""Python interpreters: which can be the base of an environment, which can run the backend. Never imports bpy."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .messages import BackendError
from .processes import WINDOWS, look

OLDEST = (3, 11)
WANTED = ".".join(map(str, OLDEST))
NEEDED = (  # by the names they are imported by; found, not imported, so that looking is quick
    *("torch", "diffusers", "transformers", "tokenizers", "safetensors", "warp", "xatlas", "trimesh", "pydantic"),
    *("numpy", "scipy", "PIL", "fast_simplification", "fastapi", "starlette", "uvicorn", "python_multipart", "peft"),
    "huggingface_hub",
)
COMMAND_NAMES = ("python3.13", "python3.12", "python3.11", "python3.14", "python3", "python")
USUAL_FOLDERS = (
    "/opt/homebrew/bin",
    "/usr/local/bin",
    "/usr/bin",
)  # a Blender started from the desktop has a bare PATH
PROBE = """
import importlib.util, json, struct, sys
def there(name):
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
told = {"version": list(sys.version_info[:3]), "bits": struct.calcsize("P") * 8}
told["missing"] = [name for name in sys.argv[1:] if not there(name)]
told["venv"] = there("venv") and there("ensurepip")
print(json.dumps(told))
"""


class Probe(NamedTuple):
    """What an interpreter tells about itself."""

    python: Path
    version: tuple[int, int, int]
    bits: int
    venv: bool  # can make environments with pip in them
    missing: tuple[str, ...]  # of the names that were asked for

    @property
    def text(self) -> str:
        """The version, as people write it."""
        return ".".join(map(str, self.version))

    @property
    def fault(self) -> str:
        """Why it cannot be the base of an environment; "" where it can."""
        if self.version < OLDEST:
            return f"is Python {self.text}, and {WANTED} or newer is needed"
        if self.bits != 64:
            return f"is a {self.bits}-bit Python, and PyTorch needs 64 bits"
        return (
            ""
            if self.venv
            else f"is Python {self.text} without venv or ensurepip (Debian, Ubuntu: apt install python3-venv)"
        )


def probe(python: Path, names: tuple[str, ...] = (), timeout_s: float = 30.0) -> Probe | None:
    """What `python` tells, None where it cannot be run or is no Python. Never starts a Blender."""
    if "blender" in python.name.lower():
        return None
    try:
        told = json.loads(look([str(python), "-c", PROBE, *names], timeout_s))
        major, minor, patch = (int(part) for part in told["version"])
        return Probe(python, (major, minor, patch), int(told["bits"]), told["venv"] is True, tuple(told["missing"]))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, KeyError):
        return None


def candidates() -> Iterator[Path]:
    """Interpreters that may serve as a base, the best first: Blender's own, then what the system has."""
    seen = set()
    for path in _candidates():
        with contextlib.suppress(OSError):
            if path.is_file() and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def check_python(python: Path, timeout_s: float = 60.0) -> str:
    """Its version when `python`, chosen by the user, can run the backend; else raises BackendError. Blocks."""
    where, choose = str(python), "Choose another Python, or let one be installed"
    if "blender" in python.name.lower():
        raise BackendError("This is Blender, not a Python", where, choose, "settings")
    if not python.is_file():
        raise BackendError("There is no such Python", where, choose, "settings")
    told = probe(python, NEEDED, timeout_s)
    if told is None:
        raise BackendError("This cannot be run as a Python", where, choose, "settings")
    if told.version < OLDEST or told.bits != 64:
        what = f"Python {told.text} ({told.bits} bits) is too old: the backend needs {WANTED} or newer, 64 bits"
        raise BackendError(what, where, choose, "settings")
    if told.missing:
        names = ", ".join(told.missing[:4]) + (", ..." if len(told.missing) > 4 else "")
        remedy = "Install requirements/cpu.txt into it, or let one be installed"
        raise BackendError(f"This Python lacks what the backend needs: {names}", where, remedy, "install")
    return told.text


def _candidates() -> Iterator[Path]:
    own = Path(sys.executable or "")
    if own.name.lower().startswith("python"):
        yield own
    if WINDOWS:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            for line in look(["py", "-0p"]).splitlines():
                if found := re.search(r"[A-Za-z]:\\.*python\.exe", line):
                    yield Path(found[0])
    search = os.pathsep.join([os.environ.get("PATH", ""), *(() if WINDOWS else USUAL_FOLDERS)])
    for name in COMMAND_NAMES:
        if found_at := shutil.which(name, path=search):
            yield Path(found_at)
