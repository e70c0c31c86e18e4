"""The backend as a process: started, adopted, shared with other Blenders, replaced, stopped. Never imports bpy."""

import contextlib
import os
import subprocess
import threading
import time
import uuid
from pathlib import Path

from .backend_copy import backend_version, bundled_source
from .client import Client
from .first_words import AlreadyRunning
from .found import HEALTH_S, Found, is_backend, look, token_of
from .launching import POLL_S, launched
from .messages import BackendError, Cancelled
from .processes import end_tree, is_running, kill, wait_for_end

__all__ = ["API", "Backend", "BackendError", "bundled_source"]

API = 1  # of the service's routes
LEAVE_S = 2.0  # for its answer when this Blender needs it no longer
SHUTDOWN_S = 20.0  # to write a checkpoint and end
AGAIN_S = 2.0  # until a start that another process was in the way of is tried again


class Backend:
    """The local backend of one data folder. Methods but alive() and log_path block (use a thread), raise BackendError.

    python: the environment's interpreter. source: folder with backend/ and requirements/, see bundled_source.
    data: the service's folder (jobs, token). home: user folder that the backend is copied into and logs to.
    device: auto, cpu, cuda or mps. port: 0 for any free one. stop: when set, what waits for an answer raises Cancelled.
    """

    def __init__(
        self,
        python: Path,
        source: Path,
        data: Path,
        home: Path,
        device: str = "auto",
        port: int = 0,
        stop: threading.Event | None = None,
    ) -> None:
        self.python, self.source, self.data, self.home = Path(python), Path(source), Path(data), Path(home)
        self.device, self.port, self.stop_event = device, port, stop
        self._process: subprocess.Popen | None = None  # started by us
        self._pid, self._address = 0, ""  # started or adopted
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

    def inherit(self, before: "Backend") -> None:
        """Look after the process that another object of this data folder had started or adopted."""
        self._process, self._pid, self._address, self._log = before._process, before._pid, before._address, before._log

    def adopt(self) -> tuple[str, str] | None:
        """(address, token) of a running backend of this version, data folder and device, None where there is none."""
        with self._lock:
            return self._adopt(look(self.data, self.stop_event))

    def start(self, timeout_s: float = 120.0, cancel: threading.Event | None = None) -> tuple[str, str]:
        """(address, token) of a backend that answers, adopted or started. An idle one that does not fit is replaced,
        one that ends is waited for.

        Raises Cancelled soon after `cancel` is set.
        """
        cancel, limit = cancel or threading.Event(), time.monotonic() + timeout_s
        with self._lock:
            while True:
                running = self._look_patiently(cancel)
                adopted = self._adopt(running)
                if adopted:
                    return adopted
                if running is not None and not self._fits(running):
                    self._replace_idle(running)
                if running is None or not is_running(running.pid):
                    with contextlib.suppress(AlreadyRunning):
                        return self._launch(timeout_s, cancel)
                self._pause(limit, cancel)

    def restart(self, timeout_s: float = 120.0, cancel: threading.Event | None = None) -> tuple[str, str]:
        """(address, token) of a fresh backend; whatever ran on this data folder is ended first."""
        with self._lock:
            self._end(look(self.data, self.stop_event))
            return self._launch(timeout_s, cancel or threading.Event())

    def stop(self) -> None:
        """Nothing; the backend, started or adopted, has ended. A running job becomes interrupted."""
        with self._lock:
            self._end(look(self.data, self.stop_event))

    def leave(self) -> None:
        """Nothing; this Blender needs the backend no longer: it goes on for others that do, else it ends.

        One that was started here and does not go on has ended then. `stop` no longer counts.
        """
        with self._lock:
            others = self._leave() if self.alive() else []
            if self._process is not None and not others:
                if others is not None:
                    wait_for_end(self._pid, SHUTDOWN_S)
                end_tree(self._process, LEAVE_S)
            self._process, self._pid = None, 0

    def used_by_others(self) -> bool:
        """True where a backend runs on the data folder that other processes need too."""
        running = look(self.data, self.stop_event)
        if running is None:
            return False
        try:
            return bool({*self._client(running.address).users()} - {os.getpid()})
        except BackendError:  # one that hangs or is of an older version: nobody can be asked
            return False

    def _client(self, address: str) -> Client:
        return Client(address, token_of(self.data), HEALTH_S, self.stop_event)

    def _leave(self) -> list[int] | None:
        """The others that need the backend; None where it does not answer."""
        try:
            return Client(self._address, token_of(self.data), LEAVE_S).leave(os.getpid())
        except BackendError:
            return None

    def _fits(self, running: Found) -> bool:
        """Whether it is one to use: of our version, with our token, on the chosen device."""
        health = running.health
        if health is None or health["version"] != self._wanted() or health.get("api") != API:
            return False
        return health.get("token_ok") is True and self._is_chosen(running)

    def _is_chosen(self, running: Found) -> bool:
        """Whether a backend on its device will do; "auto" is one that has not found out yet."""
        device = str((running.health or {}).get("device", ""))
        return self.device == "auto" or device.split(":")[0] in ("", "auto", self.device)

    def _adopt(self, running: Found | None) -> tuple[str, str] | None:
        """(address, token), after it was told that we need it. None where it is none to use, or about to end."""
        if running is None or not self._fits(running):
            return None
        try:
            self._client(running.address).join(os.getpid())
        except BackendError:
            return None
        # One that lives is `running`, whatever its id: on Windows an environment's Python is the real one's parent.
        if self._process is not None and self._process.poll() is not None:
            self._process = None
        self._pid, self._address = running.pid, running.address
        return running.address, token_of(self.data)

    def _wanted(self) -> str:
        """The add-on's own version; "" while Blender replaces or after it removed the extension's files."""
        try:
            return backend_version(self.source)
        except BackendError:
            return ""

    def _look_patiently(self, cancel: threading.Event) -> Found | None:
        """What runs, once it answers or has ended: one that ends writes a checkpoint first. Raises Cancelled."""
        limit = time.monotonic() + SHUTDOWN_S
        while (running := look(self.data, self.stop_event)) and running.health is None and time.monotonic() < limit:
            if cancel.wait(POLL_S):
                raise Cancelled
        return running

    def _pause(self, limit: float, cancel: threading.Event) -> None:
        """Until there may be something to adopt, or nothing in the way. Raises BackendError after the limit."""
        until = time.monotonic() + AGAIN_S
        while time.monotonic() < until and look(self.data, self.stop_event) is None:
            if cancel.wait(POLL_S):
                raise Cancelled
        if time.monotonic() > limit:
            what = "A backend holds the data folder but does not become ready"
            raise BackendError(what, str(self.data), "Restart it", "restart")
        if cancel.wait(POLL_S):
            raise Cancelled

    def _replace_idle(self, running: Found) -> None:
        """Ends a backend that is not ours to use. Raises BackendError when it is at work or does not answer."""
        where = running.address
        if running.health is None:
            what = f"A backend (process {running.pid}) is running but does not answer"
            raise BackendError(what, where, "Wait a moment, or restart it", "restart")
        try:
            jobs = self._client(running.address).jobs(limit=50)["jobs"]
        except BackendError as error:
            what = f"A backend of version {running.version} is running and cannot be asked whether it is at work"
            raise BackendError(what, where, "Restart it; a job it runs can be resumed", "restart") from error
        if any(job.get("state") in ("running", "queued", "cancelling") for job in jobs):
            what = f"A backend of version {running.version} is at work, this add-on needs {self._wanted()}"
            if not self._is_chosen(running):
                device = running.health.get("device")
                what = f"A backend on the device {device} is at work, the preferences choose {self.device}"
            raise BackendError(what, where, "Wait for its jobs, or restart it: they can be resumed", "restart")
        self._end(running)

    def _end(self, running: Found | None) -> None:
        """Asks the backend to end, and ends it where it does not."""
        if running is not None:
            with contextlib.suppress(BackendError):
                self._client(running.address).shutdown()
                wait_for_end(running.pid, SHUTDOWN_S)
            if is_running(running.pid) and is_backend(running.pid, running.written):
                kill(running.pid)
            if not wait_for_end(running.pid, 5.0):
                what = f"The backend (process {running.pid}) does not end"
                raise BackendError(what, running.address, "End it in the system's task manager")
        if self._process is not None:
            end_tree(self._process)
        self._process, self._pid = None, 0

    def _launch(self, timeout_s: float, cancel: threading.Event) -> tuple[str, str]:
        if self._process is not None:  # died, or never became ready
            end_tree(self._process)
        options = ["--data", str(self.data), "--device", self.device, "--port", str(self.port)]
        self._process, self._address = launched(
            self.python, self.source, self.home, options, self._log, timeout_s, cancel
        )
        self._pid = self._process.pid
        return self._address, token_of(self.data)
