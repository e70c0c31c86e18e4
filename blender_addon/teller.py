"""What a run without a window says while it goes on, never silent for long. Never imports bpy."""

import threading
import time
from collections.abc import Callable

from .answers import duration

QUIET_S = 15.0  # the longest time without a line


class Teller:
    """Passes on what is said, and says again what goes on after QUIET_S without news, from a thread until its end."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._lock = threading.Lock()  # over the line and what goes on, so that lines come in their order
        self._doing, self._counts, self._since = "", False, 0.0
        self._news, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="diorama-teller", daemon=True)

    def __enter__(self) -> "Teller":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._news.set()
        self._thread.join()

    def say(self, line: str) -> None:
        """Say this once, now."""
        with self._lock:
            self._on_line(line)
        self._news.set()

    def goes_on(self, doing: str, *, counts: bool = False) -> None:
        """This is what is said after a while without news. counts: with how long it has gone on by then."""
        with self._lock:
            if doing != self._doing:
                self._since = time.monotonic()
            self._doing, self._counts = doing, counts

    def _repeat(self) -> None:
        while not self._ended.is_set():
            if self._news.wait(QUIET_S):
                self._news.clear()
                continue
            with self._lock:
                passed = f", {duration(time.monotonic() - self._since)}" if self._counts else ""
                if self._doing:
                    self._on_line(f"{self._doing}{passed}")
