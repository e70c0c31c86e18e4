"""The backend's installed environment: where it stands, whether it is whole and up to date. Never imports bpy."""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from .processes import WINDOWS

STAMP = "installed.json"  # in the environment, written last: its presence means that the installation is complete
BEGUN = "begun.txt"  # in the environment, written first: what it was begun for
WINDOWS_PATH = 260  # characters, unless long paths are turned on
LONGEST_INSIDE = 190  # of a path inside an environment: torch's licence files


def environment_folder(home: Path, windows: bool = WINDOWS, long_paths: bool | None = None) -> Path:
    """Where the environment is made: under `home`, or in a short place where Windows would not take its long paths."""
    folder = Path(home) / "env"
    if not windows or len(str(folder)) + 1 + LONGEST_INSIDE < WINDOWS_PATH:
        return folder
    if _long_paths_are_on() if long_paths is None else long_paths:
        return folder
    local = os.environ.get("LOCALAPPDATA")
    return Path(local) / "Diorama" / "env" if local else folder


def python_of(folder: Path) -> Path:
    """Where an environment has its interpreter."""
    return folder / "Scripts" / "python.exe" if WINDOWS else folder / "bin" / "python"


def installed_python(home: Path) -> Path | None:
    """The interpreter of the environment that was installed for `home` to its end and still works, else None. Quick."""
    folder = environment_folder(home)
    python = python_of(folder)
    try:
        read_stamp(folder)
        lines = (folder / "pyvenv.cfg").read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return None
    bases = [line.partition("=")[2].strip() for line in lines if line.partition("=")[0].strip() == "home"]
    whole = python.is_file() and len(bases) == 1 and Path(bases[0]).is_dir()  # a base goes when its Blender is removed
    return python if whole else None


def outdated(home: Path, source: Path) -> bool:
    """True when the installed environment was made from other requirements than those in `source`. Quick."""
    try:
        stamp = read_stamp(environment_folder(home))
        return stamp.get("digest") != digest(Path(source) / "requirements" / f"{stamp.get('build')}.txt")
    except (OSError, ValueError):
        return True


def read_stamp(folder: Path) -> dict[str, Any]:
    """What write_stamp wrote. Raises OSError, ValueError."""
    stamp = json.loads((folder / STAMP).read_text("utf-8"))
    if not isinstance(stamp, dict):
        raise ValueError(stamp)
    return stamp


def write_stamp(folder: Path, build: str, requirements: Path) -> None:
    """Nothing; the environment counts as installed from now on."""
    part = folder / (STAMP + ".part")
    part.write_text(json.dumps({"build": build, "digest": digest(requirements)}), "utf-8")
    os.replace(part, folder / STAMP)


def digest(requirements: Path) -> str:
    """Changes with what a requirements file asks for; comments and empty lines do not count."""
    lines = (line.partition(" #")[0].strip() for line in requirements.read_text("utf-8").splitlines())
    asked = "\n".join(line for line in lines if line and not line.startswith("#"))
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def _long_paths_are_on() -> bool:
    """True when Windows takes paths of more than 260 characters."""
    with contextlib.suppress(ImportError, OSError):
        import winreg

        key = r"SYSTEM\CurrentControlSet\Control\FileSystem"
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as folder:  # type: ignore[attr-defined]
            return winreg.QueryValueEx(folder, "LongPathsEnabled")[0] == 1  # type: ignore[attr-defined]
    return False
