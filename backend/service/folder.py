"""The data folder: where it is, what stands in it, and that only one service at a time uses it."""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from ..errors import UserError
from ..export.files import atomic_write, check_writable, output_error

CHECKPOINT, FINAL = "checkpoint.safetensors", "final.safetensors"  # of an unfinished run; of the last finished one
LOG, PREVIEW = "log.txt", "preview.jpg"
ID_PATTERN = r"^[0-9]{8}-[0-9]{6}-[0-9a-f]{6}$"
TOKEN_BYTES = 32


class AlreadyRunning(UserError):
    """Another service uses the data folder."""


def default_data() -> Path:
    """The platform's folder for a program's data of one user."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "Diorama"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "Diorama"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "diorama"


def new_id() -> str:
    """A job's name: when it was accepted, and six random digits."""
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


class DataFolder:
    """The service's files. Held by one process at a time, from `hold` until `release` or its death."""

    def __init__(self, path: Path) -> None:
        """Makes the folder. Raises OutputError when it cannot be written."""
        self.path = path.expanduser().resolve()
        check_writable(self.path)
        check_writable(self.path / "jobs")
        self.database, self.log = self.path / "jobs.sqlite", self.path / "service.log"
        self.worker_log, self.inbox = self.path / "worker.log", self.path / "inbox"
        self._lock: IO[bytes] | None = None

    def hold(self) -> None:
        """Take the folder for this process. Raises AlreadyRunning, naming the address of the one that has it."""
        try:
            self._lock = open(self.path / "service.lock", "ab")  # noqa: SIM115 - closing it would give it back
        except OSError as error:
            raise output_error(error, self.path / "service.lock") from error
        if not _lock(self._lock):
            raise AlreadyRunning(
                f"a service is already running at {self._address()}",
                where=str(self.path),
                remedy="Use that one, end it, or choose another folder with --data",
            )
        with suppress(OSError):  # of a process that died without tidying up
            (self.path / "service.json").unlink(missing_ok=True)

    def release(self) -> None:
        """Take service.json away and give the folder back."""
        with suppress(OSError):
            (self.path / "service.json").unlink(missing_ok=True)
        if self._lock:
            self._lock.close()

    def announce(self, about: dict[str, Any]) -> None:
        """Write service.json. Raises OutputError."""
        with atomic_write(self.path / "service.json") as file:
            file.write(json.dumps(about).encode())

    def token(self) -> str:
        """The token that clients send, made at the first start; in a file that only the user can read.

        Raises OutputError.
        """
        path = self.path / "token"
        try:
            known = path.read_text("ascii").strip() if path.is_file() else ""
            if len(known) >= TOKEN_BYTES:
                os.chmod(path, 0o600)
                return known
            token = secrets.token_urlsafe(TOKEN_BYTES)
            path.unlink(missing_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(token)
        except (OSError, UnicodeDecodeError) as error:
            fault = error if isinstance(error, OSError) else OSError(0, "is not a token")
            raise output_error(fault, path) from error
        return token

    def job(self, job_id: str) -> Path:
        """The folder of the job. The id is one that the store gave, never one that came over the wire."""
        assert re.match(ID_PATTERN, job_id), job_id
        return self.path / "jobs" / job_id

    def _address(self) -> str:
        try:
            return str(json.loads((self.path / "service.json").read_bytes())["address"])
        except (OSError, ValueError, LookupError, TypeError):
            return "an address that it has not told yet"


def checkpoint_of(folder: Path) -> Path | None:
    """The checkpoint a job goes on from: the newest one there is."""
    there = [path for path in (folder / CHECKPOINT, folder / FINAL) if path.is_file()]
    return max(there, key=lambda path: path.stat().st_mtime_ns, default=None)


def log_tail(path: Path, lines: int = 30) -> str:
    """The end of a log file, "" where there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _lock(file: IO[bytes]) -> bool:
    """Whether this process now has the file to itself; the system gives it back when the process ends, however."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
