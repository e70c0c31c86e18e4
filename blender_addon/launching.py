"""A backend's process from its command to its ready line. Blocks, so call it from a thread; never imports bpy."""

import os
import subprocess
import threading
import time
from pathlib import Path

from .backend_copy import backend_version, remove_unused, unpacked
from .first_words import early_end, keep_newest, ready_line
from .messages import BackendError, Cancelled
from .processes import end_tree, launch

LOGS_KEPT = 6  # starts whose log is kept
POLL_S = 0.05


def launched(
    python: Path,
    source: Path,
    home: Path,
    options: list[str],
    log: Path,
    timeout_s: float,
    cancel: threading.Event,
) -> tuple[subprocess.Popen, str]:
    """A process that is ready, and its address. It ends with this one, unless others have joined it.

    Raises BackendError, and Cancelled soon after `cancel` is set; then nothing runs.
    """
    if not python.is_file():
        raise BackendError("There is no Python for the backend", str(python), "Install it", "install")
    folder = unpacked(source, home)
    command = [str(python), "-m", "backend", "serve", *options, "--parent-pid", str(os.getpid())]
    said = log.with_suffix(".out")
    try:
        keep_newest(log.parent, LOGS_KEPT)
        with log.open("wb") as stderr, said.open("wb") as stdout:
            process = launch(command, folder, stdout, stderr)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BackendError(f"The backend cannot be started: {reason}", str(python), "", "settings") from error
    try:
        address = _address_when_ready(process, source, log, timeout_s, cancel)
    except BaseException:
        end_tree(process)
        raise
    remove_unused(home, folder)
    return process, address


def _address_when_ready(
    process: subprocess.Popen, source: Path, log: Path, timeout_s: float, cancel: threading.Event
) -> str:
    """The address in the ready line. Raises BackendError when the process ends or the time is over first."""
    limit = time.monotonic() + timeout_s
    while (told := ready_line(log.with_suffix(".out"))) is None:
        if process.poll() is not None:
            raise early_end(process.returncode, log)
        if time.monotonic() > limit:
            what = f"The backend was not ready after {timeout_s:.0f} s"
            raise BackendError(what, str(log), "See its log, or try again", "log")
        if cancel.wait(POLL_S):
            raise Cancelled
    version = backend_version(source)
    if told.get("version") != version:
        what = f"The backend is of version {told.get('version')}, the add-on of {version}"
        raise BackendError(what, str(source), "Install the extension again from its zip")
    return told["address"]
