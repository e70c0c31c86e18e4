"""When the service ends by itself: its parent died, or nobody has needed it for long."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable

WATCH_S = 1.0

logger = logging.getLogger(__name__)


class Lifetime:
    """Watches from a thread, and calls `end` once."""

    def __init__(
        self, parent_pid: int | None, idle_s: float, busy: Callable[[], bool], end: Callable[[], None]
    ) -> None:
        """idle_s: seconds without a client or a job; 0 for ever. busy: whether there are jobs to run."""
        self._parent = Parent(parent_pid) if parent_pid else None
        self._idle_s, self._busy, self._end = idle_s, busy, end
        self._last = time.monotonic()

    def seen(self) -> None:
        """Somebody needs the service."""
        self._last = time.monotonic()

    def start(self) -> None:
        threading.Thread(target=self._watch, name="lifetime", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(min(WATCH_S, self._idle_s / 4 or WATCH_S))
            if self._parent and not self._parent.alive:
                logger.info("the parent process has ended")
                break
            if self._busy():
                self.seen()
            if self._idle_s and time.monotonic() - self._last > self._idle_s:
                logger.info("idle for %.0f s", self._idle_s)
                break
        self._end()


class Parent:
    """The process this one is not to outlive."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._is_ours = sys.platform != "win32" and os.getppid() == pid
        self._handle = _open_process(pid) if sys.platform == "win32" else None

    @property
    def alive(self) -> bool:
        if sys.platform == "win32":
            return _is_running(self._handle)
        if self._is_ours:  # an orphan has another parent; a dead one that nobody waited for still has its number
            return os.getppid() == self._pid
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def _open_process(pid: int) -> int:
    """A handle of the process, which keeps its number from being given to another; 0 where it is gone. Windows only."""
    import ctypes

    synchronize = 0x0010_0000
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    kernel.OpenProcess.restype = ctypes.c_void_p
    return kernel.OpenProcess(synchronize, False, pid) or 0


def _is_running(handle: int | None) -> bool:
    """Whether the process of the handle has not ended. Windows only."""
    import ctypes

    timed_out = 0x102
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    return bool(handle) and kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == timed_out
