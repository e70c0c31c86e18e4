"""What a starting backend says: its ready line, or its last words. Never imports bpy."""

import contextlib
import json
from pathlib import Path
from typing import Any

from .messages import BackendError

LOG_TAIL_BYTES = 4096


class AlreadyRunning(BackendError):
    """Another backend took the data folder in the meantime."""


def ready_line(said: Path) -> dict[str, Any] | None:
    """The object that the backend prints when it is ready, None before. A file, not a pipe: no pipe breaks or fills."""
    with contextlib.suppress(OSError):
        for line in said.read_bytes().splitlines(keepends=True):
            with contextlib.suppress(ValueError, RecursionError):
                told = json.loads(line) if line.endswith(b"\n") else None
                if isinstance(told, dict) and isinstance(told.get("address"), str):
                    return told
    return None


def early_end(status: int | None, log: Path) -> BackendError:
    """The error of a backend that ended before it was ready, from the end of its log."""
    tail = end_of(log)
    last = next((line.strip() for line in reversed(tail.splitlines()) if line.strip()), "")
    if "ModuleNotFoundError" in tail or "ImportError" in last:
        what = f"The backend's environment is not complete: {last}"
        return BackendError(what, str(log), "Install it again", "install")
    if status == 2 and last:  # the backend's own words for what the user can mend
        kind = AlreadyRunning if "already running" in last else BackendError
        return kind(last.removeprefix("error: "), str(log), "", "log")
    ended = f"ended at once (status {status})"
    return BackendError(f"The backend {ended}{': ' + last if last else ''}", str(log), "See its log", "log")


def keep_newest(folder: Path, count: int) -> None:
    """Makes the folder of logs, and removes all but the newest so many of each kind."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("*.log", "*.out"):
        with contextlib.suppress(OSError):
            for old in sorted(folder.glob(kind), key=lambda path: path.stat().st_mtime)[:-count]:
                old.unlink()


def end_of(log: Path) -> str:
    """The last few kilobytes of a log, "" where there is none."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
        return file.read().decode(errors="replace")
    return ""
