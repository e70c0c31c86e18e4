"""The worker process, `python -m backend.service.worker DEVICE`: one job at a time, models kept between jobs.

JSON lines come in: run, stop, ask. JSON lines go out: hello, progress, log, warning, one of done, failed, cancelled,
interrupted, and answer. Where the input ends, so does the process, at once: the service is gone, and checkpoints are
whole at any moment.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any, BinaryIO

from ..errors import RequestError, UserError
from .errors import as_body

IDLE_S = 600.0  # models that nobody used for so long are freed

Message = dict[str, Any]


class Line:
    """The way to the service; any thread may speak."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def tell(self, kind: str, **what: Any) -> None:
        with self._lock:
            self._stream.write(json.dumps({"kind": kind, **what}).encode() + b"\n")
            self._stream.flush()


class Inbox:
    """What the service asked for, sorted by a thread of its own."""

    def __init__(self, stream: BinaryIO) -> None:
        self.jobs: queue.Queue[Message] = queue.Queue()  # and whatever must not happen during one
        self.questions: queue.Queue[Message] = queue.Queue()
        self.stops: dict[str, str] = {}  # job -> why it is to stop
        self._stream = stream
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def _read(self) -> None:
        for line in self._stream:
            message = json.loads(line)
            if message["do"] == "stop":
                self.stops[message["job"]] = message["why"]
            elif message["do"] == "ask" and message["what"] != "unload":
                self.questions.put(message)
            else:
                self.stops.pop(message.get("job", ""), None)  # of an earlier run of the job
                self.jobs.put(message)
        os._exit(0)


def main(device_name: str) -> None:
    """Serve until the input ends."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # they reach the whole group; the service says what to do
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    line, inbox = Line(_taken_stdout()), Inbox(sys.stdin.buffer)
    try:
        from ..device import choose_device

        device = choose_device(device_name)
    except UserError as error:
        line.tell("fault", **as_body(error))
        return
    line.tell("hello", device=str(device))
    threading.Thread(target=_answer_questions, args=(inbox, line), name="answers", daemon=True).start()
    _work(inbox, line, device)


def _work(inbox: Inbox, line: Line, device: Any) -> None:
    """Jobs, one after another, for ever."""
    models = None
    while True:
        try:
            message = inbox.jobs.get(timeout=IDLE_S)
        except queue.Empty:
            if models:
                models.free()
            continue
        if message["do"] == "ask":  # unload
            line.tell("answer", number=message["number"], value=models.free() if models else False)
            continue
        from .loaded import Loaded  # imports torch, and the next what only a run needs
        from .running import run_job

        models = models or Loaded(device)
        run_job(message, models, inbox.stops, line.tell)


def _answer_questions(inbox: Inbox, line: Line) -> None:
    """Questions, one after another, beside the jobs."""
    while True:
        message = inbox.questions.get()
        number, answer = message["number"], {}
        try:
            from .answers import answer_question

            answer = {"value": answer_question(message)}
        except UserError as error:
            answer = {**as_body(error), "ours": not isinstance(error, RequestError)}
        except Exception as error:
            traceback.print_exc()
            fault = UserError(f"{type(error).__name__}: {error}", where=message["what"], remedy="worker.log says more")
            answer = {**as_body(fault), "ours": True}
        line.tell("answer", number=number, **answer)


def _taken_stdout() -> BinaryIO:
    """The process's standard output, for messages alone: whatever a library prints goes to the log from now on."""
    ours = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return ours


if __name__ == "__main__":
    main(sys.argv[1])
