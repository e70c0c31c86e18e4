"""Other programs, on Linux, macOS and Windows alike: start, look at, end. Standard library only; never imports bpy."""

import contextlib
import ctypes
import errno
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .messages import Cancelled

WINDOWS = sys.platform == "win32"
PROC = sys.platform.startswith("linux")
CREATE_NO_WINDOW = 0x08000000
CREATE_NEW_PROCESS_GROUP = 0x00000200
QUERY_LIMITED_INFORMATION = 0x1000
SYNCHRONIZE = 0x00100000
WAIT_TIMEOUT = 0x102
UNIX_EPOCH_S = 11644473600  # on Windows' clock, which counts from 1601
LOOK_S = 10.0  # for the system's own tools, which answer at once


def launch(command: list[str], cwd: Path, stdout: int | IO[bytes], stderr: int | IO[bytes]) -> subprocess.Popen:
    """The program, running without a window, in a process group of its own: Ctrl-C in a terminal is not for it."""
    flags = CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP if WINDOWS else 0
    return subprocess.Popen(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=clean_environment(),
        creationflags=flags,
        start_new_session=not WINDOWS,
    )


class ProgramLines:
    """Iterates over the lines that a program prints, both streams; afterwards `status` is its exit status.

    Raises Cancelled after `cancel`, TimeoutError after silence_s without a line; then the program's tree is killed.
    """

    def __init__(self, command: list[str], cwd: Path, cancel: threading.Event, silence_s: float) -> None:
        self.status = -1
        self.command, self.cwd, self.cancel, self.silence_s = command, cwd, cancel, silence_s

    def __iter__(self) -> Iterator[str]:
        process = launch(self.command, self.cwd, subprocess.PIPE, subprocess.STDOUT)
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_put_lines, args=(process.stdout, lines), name="diorama-lines", daemon=True).start()
        try:
            heard = time.monotonic()
            while True:
                if self.cancel.is_set():
                    raise Cancelled
                try:
                    line = lines.get(timeout=0.1)
                except queue.Empty:
                    silence_s = time.monotonic() - heard
                    if process.poll() is not None and silence_s > 2.0:  # a child that lives on holds the stream open
                        break
                    if silence_s > self.silence_s:
                        raise TimeoutError(f"{Path(self.command[0]).name} said nothing for long") from None
                    continue
                if line is None:
                    break
                heard = time.monotonic()
                yield line
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.status = process.wait(10.0)
        finally:
            end_tree(process)


def _put_lines(stream: IO[bytes], lines: "queue.Queue[str | None]") -> None:
    with stream, contextlib.suppress(OSError, ValueError):
        for line in stream:
            lines.put(line.decode(errors="replace").rstrip())
    lines.put(None)


@contextlib.contextmanager
def lock_file(path: Path) -> Iterator[bool]:
    """True while this is the only holder of the lock, among all processes; the system frees it when a holder dies."""
    with path.open("a+b") as file:
        try:
            if WINDOWS:
                import msvcrt

                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except OSError as error:  # EDEADLK, EACCES: Windows' words for "held"; others mean that there are no locks here
            alone = error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
        yield alone


def clean_environment() -> dict[str, str]:
    """Our environment without what would make another Python or its pip use Blender's or the user's packages."""
    dropped = ("PYTHON", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(dropped)}
    return {**kept, "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", "PIP_USER": "0"}


def end_tree(process: subprocess.Popen, wait_s: float = 5.0) -> None:
    """Nothing; the program and its children have ended, killed where they had to be."""
    if process.poll() is not None:
        return  # its number may belong to another program by now
    if WINDOWS:
        kill(process.pid)
    else:
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
        _signal_group(process.pid, signal.SIGKILL)  # children that outlived it too
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(wait_s)


def kill(pid: int) -> None:
    """Nothing; the process, which need not be our child, and its children were told to end at once."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if WINDOWS:
            look(["taskkill", "/T", "/F", "/PID", str(pid)])
        elif os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)


def is_running(pid: int) -> bool:
    """True while a process has this id. (On Windows os.kill(pid, 0) would end it.)"""
    if pid <= 0:
        return False
    if WINDOWS:
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
        kernel.OpenProcess.restype = ctypes.c_void_p
        handle = kernel.OpenProcess(QUERY_LIMITED_INFORMATION | SYNCHRONIZE, False, pid)
        if not handle:
            return ctypes.get_last_error() == 5  # type: ignore[attr-defined] # access denied: it is there
        running = kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == WAIT_TIMEOUT
        kernel.CloseHandle(ctypes.c_void_p(handle))
        return running
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return not _has_ended(pid)


def wait_for_end(pid: int, wait_s: float) -> bool:
    """True when the process has ended within wait_s."""
    limit = time.monotonic() + wait_s
    while is_running(pid):
        if time.monotonic() > limit:
            return False
        time.sleep(0.05)
    return True


def command_line(pid: int) -> str:
    """The command that the process was started with, "" where the system does not tell."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if PROC:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        if WINDOWS:
            query = f"(Get-CimInstance Win32_Process -Filter 'ProcessId={pid}').CommandLine"
            return look(["powershell", "-NoProfile", "-Command", query])
        return look(["ps", "-p", str(pid), "-o", "command="])
    return ""


def began(pid: int) -> float | None:
    """When the process was started, in seconds since 1970; None where the system does not tell."""
    with contextlib.suppress(OSError, IndexError, ValueError, StopIteration):
        return _began_windows(pid) if WINDOWS else _began_linux(pid)
    return None


def _began_linux(pid: int) -> float:
    ticks = int(Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()[19])
    booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    return int(booted.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")


def _began_windows(pid: int) -> float | None:
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(kernel.OpenProcess(QUERY_LIMITED_INFORMATION, False, pid))
    if not handle:
        return None
    times = [ctypes.c_uint64() for _ in range(4)]  # created, ended, in the kernel, in the program
    told = kernel.GetProcessTimes(handle, *(ctypes.byref(each) for each in times))
    kernel.CloseHandle(handle)
    return times[0].value / 1e7 - UNIX_EPOCH_S if told else None


def look(command: list[str], timeout_s: float = LOOK_S) -> str:
    """What a short program prints. Raises OSError, SubprocessError (also for a bad exit status)."""
    flags = CREATE_NO_WINDOW if WINDOWS else 0
    result = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout_s,
        check=True,
        env=clean_environment(),
        creationflags=flags,
    )
    return result.stdout.decode(errors="replace").strip()


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(group, number)


def _has_ended(pid: int) -> bool:
    """True for a process that has ended and waits for its parent to notice; where the system tells."""
    try:
        if PROC:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()
            return fields[0] == b"Z" and int(fields[17]) <= 1  # a thread that still ends holds locks and ports
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except (OSError, IndexError, ValueError):  # ChildProcessError: not ours, so its own parent looks after it
        return False
