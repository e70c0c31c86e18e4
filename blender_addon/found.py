"""The backend that runs on a data folder, as its service.json and its health tell. Blocks; never imports bpy."""

import json
import threading
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .client import Client
from .messages import BackendError
from .processes import began, command_line, is_running

HEALTH_S = 3.0  # for the answer of a backend that is already there
CLOCK_S = 2.0  # by which the system's two clocks may differ


class Found(NamedTuple):
    """A process of ours."""

    address: str
    pid: int
    version: str
    written: float  # when its service.json was, in seconds since 1970
    health: dict[str, Any] | None  # its answer; None: it runs, and gives none


def look(data: Path, stop: threading.Event | None = None) -> Found | None:
    """What runs on the data folder; None for nothing, a stale service.json or one that is garbage.

    Raises Cancelled after `stop`.
    """
    file = data / "service.json"
    try:
        told, written = json.loads(file.read_text("utf-8")), file.stat().st_mtime
        address, pid, version = told["address"], told["pid"], str(told.get("version"))
        local = urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if not isinstance(pid, int) or isinstance(pid, bool) or not local or not is_running(pid):
        return None
    try:
        health = Client(address, token_of(data), HEALTH_S, stop).health()
    except BackendError:
        # The id of a dead backend may belong to any other program by now: only a backend's process counts.
        return Found(address, pid, version, written, None) if is_backend(pid, written) else None
    return Found(address, pid, health["version"], written, health)


def token_of(data: Path) -> str:
    """What the backend of the data folder wants to be told, "" where there is none."""
    try:
        return (data / "token").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def is_backend(pid: int, written: float) -> bool:
    """True for the process that wrote this id into a service.json, as far as the system tells. written: when."""
    command = command_line(pid)
    if command:
        return "backend" in command and "serve" in command
    since = began(pid)  # a process that has got the id of a dead one is younger than what that one wrote
    return since is not None and since <= written + CLOCK_S
