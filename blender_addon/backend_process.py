"""The backend as a process: started, adopted, replaced, stopped. Never imports bpy."""

import contextlib
import json
import os
import subprocess
import threading
import time
import uuid
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from .backend_copy import backend_version, bundled_source, remove_unused, unpacked
from .client import Client
from .first_words import AlreadyRunning, early_end, keep_newest, ready_line
from .messages import BackendError, Cancelled
from .processes import command_line, end_tree, is_running, kill, launch, wait_for_end

__all__ = ["Backend", "BackendError", "bundled_source"]

API = 1  # of the service's routes
HEALTH_S = 3.0  # for the answer of a backend that is already there
SHUTDOWN_S = 15.0  # to write a checkpoint and end
LOGS_KEPT = 6  # starts whose log is kept
POLL_S = 0.05


class Running(NamedTuple):
    """What service.json and the health route tell about a process of this data folder."""

    address: str
    pid: int
    version: str
    state: str  # "ours": use it; "other": another version, device or token; "silent": runs, does not answer
    device: str = ""


class Backend:
    """The local backend of one data folder. Methods but alive() and log_path block (use a thread), raise BackendError.

    python: the environment's interpreter. source: folder with backend/ and requirements/, see bundled_source.
    data: the service's folder (jobs, token). home: user folder that the backend is copied into and logs to.
    device: auto, cpu, cuda or mps. port: 0 for any free one.
    """

    def __init__(self, python: Path, source: Path, data: Path, home: Path, device: str = "auto", port: int = 0) -> None:
        self.python, self.source, self.data, self.home = Path(python), Path(source), Path(data), Path(home)
        self.device, self.port = device, port
        self._process: subprocess.Popen | None = None  # started by us
        self._pid = 0  # started or adopted
        self._lock = threading.Lock()  # one start or stop at a time
        # stderr of what we start; its stdout stands beside it, as .out. One pair a start: Blenders may share `home`.
        self._log = self.home / "logs" / f"backend-{uuid.uuid4().hex[:8]}.log"

    @property
    def log_path(self) -> Path:
        """The log to show the user; it may not exist yet."""
        return self._log if self._process or not self._pid else self.data / "service.log"

    @property
    def pid(self) -> int:
        """The process that was started or adopted; 0 where there is none."""
        return self._pid

    def alive(self) -> bool:
        """True while the process that was started or adopted runs. Quick: it only asks the system."""
        if self._process is not None:
            return self._process.poll() is None
        return is_running(self._pid)

    def adopt(self) -> tuple[str, str] | None:
        """(address, token) of a running backend of this version, data folder and device, None where there is none."""
        with self._lock:
            return self._adopt(self._look())

    def start(self, timeout_s: float = 120.0, cancel: threading.Event | None = None) -> tuple[str, str]:
        """(address, token) of a backend that answers, adopted or started. An idle one that does not fit is replaced.

        Raises Cancelled soon after `cancel` is set.
        """
        with self._lock:
            running = self._look()
            adopted = self._adopt(running)
            if adopted:
                return adopted
            if running:
                self._replace_idle(running)
            limit = time.monotonic() + timeout_s
            try:
                return self._launch(timeout_s, cancel)
            except AlreadyRunning:
                return self._adopt_later(limit, cancel or threading.Event())

    def restart(self, timeout_s: float = 120.0, cancel: threading.Event | None = None) -> tuple[str, str]:
        """(address, token) of a fresh backend; whatever ran on this data folder is ended first."""
        with self._lock:
            self._end(self._look())
            return self._launch(timeout_s, cancel)

    def stop(self) -> None:
        """Nothing; the backend, started or adopted, has ended. A running job becomes interrupted."""
        with self._lock:
            self._end(self._look())

    def _look(self) -> Running | None:
        """What runs on the data folder; None for nothing, a stale service.json or one that is garbage."""
        try:
            told = json.loads((self.data / "service.json").read_text("utf-8"))
            address, pid, version = told["address"], told["pid"], str(told.get("version"))
            local = urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1")
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        if not isinstance(pid, int) or isinstance(pid, bool) or not local or not is_running(pid):
            return None
        try:
            health = Client(address, self._token(), HEALTH_S).health()
        except BackendError:
            # The id of a dead backend may belong to any other program by now: only a backend's process counts.
            return Running(address, pid, version, "silent") if _is_backend(pid) else None
        device = str(health.get("device", ""))
        fits = health["version"] == self._wanted() and health.get("api") == API and health.get("token_ok") is True
        fits = fits and self._is_chosen(device)
        return Running(address, pid, health["version"], "ours" if fits else "other", device)

    def _is_chosen(self, device: str) -> bool:
        """Whether a backend on that device will do; "auto" is one that has not found out yet."""
        return self.device == "auto" or device.split(":")[0] in ("", "auto", self.device)

    def _adopt(self, running: Running | None) -> tuple[str, str] | None:
        if running is None or running.state != "ours":
            return None
        if self._process is None or self._process.pid != running.pid:
            self._process = None
        self._pid = running.pid
        return running.address, self._token()

    def _wanted(self) -> str:
        """The add-on's own version; "" while Blender replaces or after it removed the extension's files."""
        try:
            return backend_version(self.source)
        except BackendError:
            return ""

    def _adopt_later(self, limit: float, cancel: threading.Event) -> tuple[str, str]:
        """(address, token) of a backend that another Blender started a moment ago, as soon as it is ready."""
        while (adopted := self._adopt(self._look())) is None:
            if time.monotonic() > limit:
                what = "A backend holds the data folder but does not become ready"
                raise BackendError(what, str(self.data), "Restart it", "restart")
            if cancel.wait(POLL_S):
                raise Cancelled
        return adopted

    def _token(self) -> str:
        try:
            return (self.data / "token").read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def _replace_idle(self, running: Running) -> None:
        """Ends a backend that is not ours to use. Raises BackendError when it is at work or does not answer."""
        where = running.address
        if running.state == "silent":
            what = f"A backend (process {running.pid}) is running but does not answer"
            raise BackendError(what, where, "Wait a moment, or restart it", "restart")
        try:
            jobs = Client(running.address, self._token(), HEALTH_S).jobs(limit=50)["jobs"]
        except BackendError as error:
            what = f"A backend of version {running.version} is running and cannot be asked whether it is at work"
            raise BackendError(what, where, "Restart it; a job it runs can be resumed", "restart") from error
        if any(job.get("state") in ("running", "queued", "cancelling") for job in jobs):
            what = f"A backend of version {running.version} is at work, this add-on needs {self._wanted()}"
            if not self._is_chosen(running.device):
                what = f"A backend on the device {running.device} is at work, the preferences choose {self.device}"
            raise BackendError(what, where, "Wait for its jobs, or restart it: they can be resumed", "restart")
        self._end(running)

    def _end(self, running: Running | None) -> None:
        """Asks the backend to end, and ends it where it does not."""
        if running is not None:
            with contextlib.suppress(BackendError):
                Client(running.address, self._token(), HEALTH_S).shutdown()
                wait_for_end(running.pid, SHUTDOWN_S)
            if is_running(running.pid) and _is_backend(running.pid):
                kill(running.pid)
            if not wait_for_end(running.pid, 5.0):
                what = f"The backend (process {running.pid}) does not end"
                raise BackendError(what, running.address, "End it in the system's task manager")
        if self._process is not None:
            end_tree(self._process)
        self._process, self._pid = None, 0

    def _launch(self, timeout_s: float, cancel: threading.Event | None) -> tuple[str, str]:
        if not self.python.is_file():
            raise BackendError("There is no Python for the backend", str(self.python), "Install it", "install")
        folder = unpacked(self.source, self.home)
        if self._process is not None:  # died, or never became ready
            end_tree(self._process)
        command = [str(self.python), "-m", "backend", "serve", "--data", str(self.data), "--device", self.device]
        command += ["--port", str(self.port), "--parent-pid", str(os.getpid())]
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            keep_newest(self._log.parent, LOGS_KEPT)
            with self._log.open("wb") as log, self._log.with_suffix(".out").open("wb") as said:
                process = launch(command, folder, said, log)
        except OSError as error:
            reason = error.strerror or str(error)
            raise BackendError(f"The backend cannot be started: {reason}", str(self.python), "", "settings") from error
        try:
            ready = self._wait_until_ready(process, timeout_s, cancel or threading.Event())
        except BaseException:
            end_tree(process)
            raise
        self._process, self._pid = process, process.pid
        remove_unused(self.home, folder)
        return ready

    def _wait_until_ready(
        self, process: subprocess.Popen, timeout_s: float, cancel: threading.Event
    ) -> tuple[str, str]:
        """(address, token) from the ready line. Raises BackendError when the process ends or the time is over first."""
        limit = time.monotonic() + timeout_s
        while (told := ready_line(self._log.with_suffix(".out"))) is None:
            if process.poll() is not None:
                raise early_end(process.returncode, self._log)
            if time.monotonic() > limit:
                what = f"The backend was not ready after {timeout_s:.0f} s"
                raise BackendError(what, str(self._log), "See its log, or try again", "log")
            if cancel.wait(POLL_S):
                raise Cancelled
        version = backend_version(self.source)
        if told.get("version") != version:
            what = f"The backend is of version {told.get('version')}, the add-on of {version}"
            raise BackendError(what, str(self.source), "Install the extension again from its zip")
        return told["address"], self._token()


def _is_backend(pid: int) -> bool:
    """True when the process was started as our service, as far as the system tells."""
    command = command_line(pid)
    return "backend" in command and "serve" in command
