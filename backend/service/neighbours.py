"""Other processes, of which this one only wants to know whether they still run."""

from __future__ import annotations

import os
import sys
from pathlib import Path


class Neighbour:
    """A process, known by its id."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._is_parent = sys.platform != "win32" and os.getppid() == pid
        self._handle = _open_process(pid) if sys.platform == "win32" else None
        self._began = _began(pid)

    @property
    def alive(self) -> bool:
        if sys.platform == "win32":
            return _is_running(self._handle)
        if self._is_parent:  # an orphan has another parent; a dead one that nobody waited for still has its number
            return os.getppid() == self._pid
        if self._began:  # its number may have been given to another program since
            return _began(self._pid) == self._began
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def _began(pid: int) -> str:
    """When the process began, in Linux' own count; "" for one that has ended, and on other systems."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()
    except (OSError, IndexError):
        return ""
    return "" if fields[0] == b"Z" else fields[19].decode()


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
