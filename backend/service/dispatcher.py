"""One job after another goes to the worker process; whatever becomes of that, each ends in a state that says so."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..errors import OutputError, UserError
from .errors import Unavailable
from .folder import LOG, DataFolder, checkpoint_of, log_tail
from .jobs import Jobs
from .kinds import KINDS, kind_of
from .process import WorkerProcess
from .store import Row

CANCEL_S = 60.0  # a worker that has not heeded a cancel by then is killed; the job keeps its last checkpoint
STOP_S = 10.0  # likewise when the service ends
RETRY_S = 2.0  # between two tries to write a job's end on a full disk

logger = logging.getLogger(__name__)


class Dispatcher:
    """The thread that runs the jobs of one device in their order."""

    def __init__(self, jobs: Jobs, data: DataFolder, device: str) -> None:
        self._jobs, self._data, self._configured = jobs, data, device
        self._process: WorkerProcess | None = None
        self._lock, self._awake, self._stopping = threading.Lock(), threading.Event(), threading.Event()
        self._running: str | None = None  # the job's id
        self._stop_asked: float | None = None  # when the running job was told to stop
        self._thread = threading.Thread(target=self._work, name="dispatcher", daemon=True)
        jobs.wake = self._awake.set

    @property
    def device(self) -> str:
        """What jobs run on; the configured name until the worker has looked."""
        return (self._process and self._process.device) or self._configured

    @property
    def busy(self) -> bool:
        """Whether a job runs: not from the moment on at which it is said to have ended."""
        return bool(self._jobs.store.in_state("running", "cancelling"))

    def start(self) -> None:
        self._thread.start()

    def warm_up(self) -> None:
        """Start the worker now, so that the first question need not wait for it."""
        try:
            self._worker()
        except OSError:
            logger.exception("the worker cannot be started; the first job will say why")

    def stop(self) -> None:
        """End the thread and the worker; a running job is interrupted and keeps a checkpoint of where it was."""
        self._stopping.set()
        self._awake.set()
        self._tell_to_stop("shutdown")
        if self._thread.is_alive():
            self._thread.join(STOP_S + 10.0)
        with self._lock:
            if self._process:
                self._process.end(2.0)

    def cancel(self, job_id: str) -> None:
        """Pass on that the job is to end, if it is the one that runs."""
        if job_id == self._running:
            self._tell_to_stop("cancel")

    def ask(self, what: str, arguments: dict[str, Any], timeout_s: float) -> Any:
        """The worker's answer to a question that needs its packages. Raises UserError."""
        try:
            process = self._worker()
        except OSError as error:
            raise Unavailable(f"the worker cannot be started: {error}", where="worker", remedy=_REINSTALL) from error
        return process.ask(what, arguments, timeout_s)

    def unload(self) -> bool:
        """Whether models were freed; never while a job runs."""
        process = self._process
        if self.busy or process is None or process.device is None or not process.alive:
            return False
        return bool(process.ask("unload", {}, 20.0))

    def _worker(self) -> WorkerProcess:
        """The process, a fresh one where the last has ended. Raises OSError."""
        with self._lock:
            if self._process is None or not self._process.alive:
                self._process = WorkerProcess(self._configured, self._data.worker_log)
            return self._process

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._awake.clear()
            try:
                row = self._jobs.take()
            except OutputError as error:
                logger.error("no job can be begun: %s", error)
                self._stopping.wait(RETRY_S)
                continue
            if row is None:
                self._awake.wait(5.0)
                continue
            self._running, self._stop_asked = row.id, None
            try:
                self._run(row)
            except UserError as error:
                self._surely_end(row.id, "failed", error=error)
            except Exception as error:
                logger.exception("job %s", row.id)
                fault = UserError(
                    f"{type(error).__name__}: {error}", where="service", remedy="The service's log says more"
                )
                self._surely_end(row.id, "failed", error=fault)
            finally:
                self._running = None

    def _run(self, row: Row) -> None:
        """Have the worker do the job, and end it as the worker says, or as its death says."""
        self._jobs.loading(row)
        folder = self._data.job(row.id)
        checkpoint, part = checkpoint_of(folder), KINDS[kind_of(row.request)].part
        upload = folder / part.file if part else None
        try:
            process = self._worker()
            while not process.messages.empty():  # of a job that was given up
                process.messages.get_nowait()
            process.send(
                {
                    "do": "run",
                    "job": row.id,
                    "folder": str(folder),
                    "request": row.request,
                    "checkpoint": str(checkpoint) if checkpoint else None,
                    "upload": str(upload) if upload and upload.is_file() else None,
                }
            )
        except OSError as error:
            fault = UserError(f"the worker cannot be started: {error}", where="worker", remedy=_REINSTALL)
            return self._surely_end(row.id, "failed", error=fault)
        if self._stopping.is_set():
            self._tell_to_stop("shutdown")
        elif self._jobs.find(row.id).state == "cancelling":  # asked for in between
            self._tell_to_stop("cancel")
        while True:
            message = self._next_message(process)
            if message is None:
                return self._end_of_dead(row.id, process)
            if message.get("job") == row.id and self._heed(row.id, message):
                return None

    def _next_message(self, process: WorkerProcess) -> dict[str, Any] | None:
        """What the worker says next; None when it has ended, which one that does not stop is made to."""
        while True:
            try:
                return process.messages.get(timeout=0.5)
            except queue.Empty:
                patience_s = STOP_S if self._stopping.is_set() else CANCEL_S
                if self._stop_asked is not None and time.monotonic() - self._stop_asked > patience_s:
                    logger.warning("the worker did not stop in %.0f s and is killed", patience_s)
                    process.kill()

    def _heed(self, job_id: str, message: dict[str, Any]) -> bool:
        """Whether the message was the job's last."""
        kind = message["kind"]
        if kind in ("progress", "log", "warning"):
            try:
                if kind == "progress":
                    self._jobs.progressed(job_id, message["progress"])
                elif kind == "log":
                    self._jobs.logged(job_id, message["text"])
                else:
                    self._jobs.warned(job_id, message["text"])
            except OutputError as error:
                logger.error("%s", error)  # the job goes on; its end is what has to be written
            return False
        fault = UserError(**message["error"]) if message.get("error") else None
        self._surely_end(
            job_id, kind, error=fault, warnings=message.get("warnings"), relations=message.get("relations")
        )
        return True

    def _end_of_dead(self, job_id: str, process: WorkerProcess) -> None:
        """The end of a job whose worker ended in the middle of it."""
        if self._stopping.is_set():
            return self._surely_end(job_id, "interrupted")
        if self._jobs.find(job_id).state == "cancelling":
            return self._surely_end(job_id, "cancelled")
        fault = process.fault
        if fault is None:
            resumable = checkpoint_of(self._data.job(job_id)) is not None
            told = log_tail(self._data.job(job_id) / LOG)  # empty: it ended before it began, and said why elsewhere
            tail = "" if told else log_tail(self._data.worker_log, 1)
            fault = UserError(
                f"the worker process ended {process.how_it_ended()}{': ' + tail if tail else ''}",
                where="worker",
                remedy=f"If the system ran out of memory, close other programs or lower views and final_resolution. "
                f"{'Resuming goes on from the last checkpoint' if resumable else 'Resuming begins anew'}",
            )
        return self._surely_end(job_id, "failed", error=fault)

    def _surely_end(self, job_id: str, state: str, **what: Any) -> None:
        """Write the job's end; on a full disk, try until there is room again or the service ends."""
        self._until_written(lambda: self._jobs.end(job_id, state, **what))

    def _until_written(self, write: Callable[[], Any]) -> None:
        while True:
            try:
                write()
                return
            except OutputError as error:
                logger.error("%s; trying again", error)
                if self._stopping.wait(RETRY_S):
                    return  # the next start finds the job running, and calls it interrupted

    def _tell_to_stop(self, why: str) -> None:
        process, job_id = self._process, self._running
        if process and job_id:
            self._stop_asked = self._stop_asked or time.monotonic()
            with suppress(OSError):  # it has ended, and the dispatcher will see
                process.send({"do": "stop", "job": job_id, "why": why})


_REINSTALL = "Check the backend's environment: python -m backend doctor"
