"""The worker process as the service sees it: JSON lines to it and from it."""

from __future__ import annotations

import itertools
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from ..errors import UserError
from .errors import Unavailable

PACKAGE_ROOT = Path(__file__).parents[2]
MOST_LOG_BYTES = 1 << 20  # of worker.log; a longer one is begun anew

logger = logging.getLogger(__name__)


class WorkerProcess:
    """One process. It ends when its input closes, so it never outlives the service, however that ends."""

    def __init__(self, device: str, log: Path) -> None:
        """Starts it. Raises OSError."""
        self.device: str | None = None  # what it found; None until it has said so
        self.fault: UserError | None = None  # why it could not begin
        self.messages: queue.Queue[dict[str, Any] | None] = queue.Queue()  # about the job; None: it has ended
        self._answers: dict[int, queue.Queue[dict[str, Any] | None]] = {}
        self._numbers, self._lock = itertools.count(1), threading.Lock()
        long = log.is_file() and log.stat().st_size > MOST_LOG_BYTES
        with open(log, "wb" if long else "ab") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-m", "backend.service.worker", device],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGE_ROOT), _path()]))},
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # Windows: no console pops up
            )
        self.pid = self._process.pid
        logger.info("worker process %d started", self.pid)
        threading.Thread(target=self._read, name="worker's messages", daemon=True).start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: dict[str, Any]) -> None:
        """Raises OSError when the process is gone."""
        assert self._process.stdin
        with self._lock:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def ask(self, what: str, arguments: dict[str, Any], timeout_s: float) -> Any:
        """The worker's answer. Raises the UserError it answers with, and Unavailable when it gives none in time."""
        number, box = next(self._numbers), queue.Queue[dict[str, Any] | None]()
        self._answers[number] = box
        try:
            self.send({"do": "ask", "number": number, "what": what, **arguments})
            answer = box.get(timeout=timeout_s)
        except (OSError, queue.Empty):
            answer = None
        finally:
            self._answers.pop(number, None)
        if answer is None:
            raise self.fault or Unavailable(
                "the worker process did not answer", where=what, remedy="It may still be starting: try again"
            )
        if "error" in answer:
            raise UserError(**answer["error"]) if not answer["ours"] else Unavailable(**answer["error"])
        return answer["value"]

    def end(self, timeout_s: float) -> None:
        """Close its input, at which it ends; kill it if it does not."""
        try:
            assert self._process.stdin
            self._process.stdin.close()
        except OSError:
            pass
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def how_it_ended(self) -> str:
        """In plain words."""
        status = self._process.wait()
        if status >= 0:
            return f"with exit status {status if status < 256 else hex(status)}"
        try:
            return f"by signal {-status} ({signal.Signals(-status).name})"
        except ValueError:
            return f"by signal {-status}"

    def _read(self) -> None:
        """Sort what it says, until it ends."""
        assert self._process.stdout
        for line in self._process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                logger.warning("not understood: %r", line[:200])
                continue
            if message["kind"] == "hello":
                self.device = message["device"]
            elif message["kind"] == "fault":
                self.fault = UserError(**message["error"])
            elif message["kind"] == "answer":
                if box := self._answers.get(message["number"]):
                    box.put(message)
            else:
                self.messages.put(message)
        self._process.wait()
        logger.info("worker process %d ended %s", self.pid, self.how_it_ended())
        for box in list(self._answers.values()):
            box.put(None)
        self.messages.put(None)


def _path() -> str:
    return os.environ.get("PYTHONPATH", "")
