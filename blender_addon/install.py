"""Makes the backend's own Python environment, with the standard library. Never imports bpy; blocks: use a thread."""

import contextlib
import errno
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .backend_copy import OTHER_ZIP
from .environment import BEGUN, STAMP, environment_folder, installed_python, outdated, python_of, write_stamp
from .interpreters import OLDEST, Probe, candidates, check_python, probe
from .messages import BackendError, Cancelled
from .pip_output import PipLines, pip_fault
from .processes import WINDOWS, ProgramLines, lock_file, look
from .torch_build import index_address, pip_brings_cuda

__all__ = ["BackendError", "Cancelled", "Installer", "check_python", "has_nvidia_gpu", "installed_python", "outdated"]

GB = 10**9
EMPTY_ENVIRONMENT = 50 * 10**6  # bytes that one without packages takes, pip's own unpacking included
ROOM = {"cpu": 3 * GB, "cuda": 12 * GB}  # bytes that an environment takes while pip unpacks it
SILENCE_S = 1800.0  # pip says nothing while it unpacks torch, on a slow disk for minutes
TAIL_LINES = 80
OPTIONAL = ("kaolin", "--find-links https://nvidia-kaolin")  # the backend has FlexiCubes of its own
PROGRESS_PIP = (24, 1)  # the first pip that tells its progress to programs
# Wheels only: nothing is ever compiled on the user's machine.
PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--only-binary=:all:")


def has_nvidia_gpu() -> bool:
    """True when nvidia-smi lists a GPU. Blocks for a second or so."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return look(["nvidia-smi", "-L"]).startswith("GPU ")
    return False


class Installer:
    """Makes the environment for `home` from `source`/requirements. Stop the backend first: Windows locks its files.

    source: folder with backend/ and requirements/. on_line(text): called, from run()'s thread, with lines of progress.
    cancel: when set, run() raises Cancelled within seconds, its children killed. cuda: None means what is there.
    torch_index: address of another build of torch, or the command that pytorch.org shows, or "".
    bases: interpreters to try as the environment's base, instead of Blender's own and what the system has.
    """

    def __init__(
        self,
        source: Path,
        home: Path,
        on_line: Callable[[str], None],
        cancel: threading.Event,
        cuda: bool | None = None,
        torch_index: str = "",
        bases: Iterable[Path] | None = None,
    ) -> None:
        self.source, self.home, self.on_line, self.cancel = Path(source), Path(home), on_line, cancel
        self.cuda, self.torch_index, self.bases = cuda, torch_index, bases
        self.folder = environment_folder(self.home)
        self.python = python_of(self.folder)

    @property
    def log_path(self) -> Path:
        """Everything that the last run and its programs said."""
        return self.home / "install.log"

    def run(self) -> Path:
        """The environment's interpreter. Can be repeated: goes on where it stopped, or starts over where it has to."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with lock_file(self.folder.parent / "install.lock") as alone:
                if not alone:
                    what = "Another installation is running"
                    raise BackendError(what, str(self.folder), "Wait for it, or end it in the other Blender")
                self.log_path.write_text("", "utf-8")
                return self._install()
        except OSError as error:
            raise _disk_fault(error, self.folder) from error

    def _install(self) -> Path:
        self.torch_index = index_address(self.torch_index)
        build = self._choose_build()
        requirements = self.source / "requirements" / f"{build}.txt"
        if not requirements.is_file():
            raise BackendError("The extension came without its requirements", str(requirements), OTHER_ZIP)
        self._check_room(build)
        version = self._make_environment(f"{build} {self.torch_index}")
        with contextlib.suppress(FileNotFoundError):
            (self.folder / STAMP).unlink()
        self._renew_pip()
        self._install_packages(requirements.read_text("utf-8").splitlines(), version, build)
        self._look_it_over()
        write_stamp(self.folder, build, requirements)
        self._say("The backend's environment is ready")
        return self.python

    def _choose_build(self) -> str:
        """The name of a requirements file: "cuda" or "cpu"."""
        gpu = has_nvidia_gpu() if self.cuda is None else self.cuda
        if gpu and (pip_brings_cuda() or (WINDOWS and self.torch_index)):
            self._say("Build: CUDA")
            return "cuda"
        if gpu and WINDOWS:
            self._say("For CUDA on Windows enter the index address that pytorch.org shows. Going on for the CPU")
        self._say("Build: CPU")
        return "cpu"

    def _check_room(self, build: str) -> None:
        """Raises BackendError where the disk has not enough room for the build's packages."""
        needed = ROOM[build]
        free = shutil.disk_usage(self.folder.parent).free
        if not self._has_torch() and free < needed:
            what = f"The disk has {free / GB:.1f} GB left, and {needed / GB:.0f} GB are needed"
            raise BackendError(what, str(self.folder.parent), "Make room and install again", "install")

    def _has_torch(self) -> bool:
        """Whether the largest package is there already."""
        return any(self.folder.glob("[Ll]ib/**/site-packages/torch/version.py"))

    def _make_environment(self, purpose: str) -> str:
        """The version of the environment's Python. Made anew where none works, or for another purpose."""
        told = probe(self.python) if self.python.exists() else None
        if told and told.version >= OLDEST and self._begun_for(purpose) and self._pip_version() > (0,):
            self._say("Going on with the environment that is there")
            return told.text
        faults: list[str] = []
        for base in self._bases(faults):
            self._say(f"Making an environment with Python {base.text} ({base.python})")
            if self.folder.exists():
                shutil.rmtree(self.folder)
            status, output = self._call([str(base.python), "-m", "venv", str(self.folder)])
            if status == 0 and self.python.exists():
                (self.folder / BEGUN).write_text(purpose, "utf-8")
                return base.text
            if shutil.disk_usage(self.folder.parent).free < EMPTY_ENVIRONMENT:  # venv keeps to itself why it failed
                raise _full_disk(self.folder)
            faults.append(f"{base.python}: {''.join(output[-1:]) or 'venv failed'}")
        for fault in faults:
            self._say(fault)
        what = "No Python on this machine can make the environment" + (f": {faults[0]}" if faults else "")
        remedy = "Install a 64-bit Python 3.12 from python.org, then install again"
        raise BackendError(what, str(self.log_path), remedy, "install")

    def _bases(self, faults: list[str]) -> Iterator[Probe]:
        """The interpreters that can be a base, one after the other; why the others cannot goes into `faults`."""
        for path in candidates() if self.bases is None else self.bases:
            self._stop_if_cancelled()
            told = probe(Path(path))
            if told and not told.fault:
                yield told
            else:
                faults.append(f"{path} {told.fault if told else 'cannot be run as a Python'}")

    def _begun_for(self, purpose: str) -> bool:
        """False for an environment with another build of torch, which pip would not exchange."""
        with contextlib.suppress(OSError):
            return (self.folder / BEGUN).read_text("utf-8") == purpose
        return False

    def _start_over_next_time(self) -> None:
        """Going on with this environment would end in the same fault; pip keeps what it fetched."""
        with contextlib.suppress(OSError):
            (self.folder / BEGUN).unlink()

    def _renew_pip(self) -> None:
        """Brings a pip that tells its progress where Python came with an older one; does without where that fails."""
        if self._pip_version() < PROGRESS_PIP:
            self._say("Renewing pip")
            self._call([str(self.python), *PIP, "--upgrade", "pip"])

    def _install_packages(self, lines: list[str], version: str, build: str) -> None:
        needed, optional = self.home / "requirements.txt", self.home / "optional.txt"
        needed.write_text("\n".join(line for line in lines if not line.startswith(OPTIONAL)) + "\n", "utf-8")
        optional.write_text("\n".join(line for line in lines if line.startswith(OPTIONAL)) + "\n", "utf-8")
        torch = [line.split()[0] for line in lines if line.startswith("torch==")]
        if self.torch_index:
            self._pip(["--index-url", self.torch_index, *torch], version)
        elif torch and build == "cpu" and pip_brings_cuda():
            self._install_small_torch(torch[0], version)
        self._pip(["-r", str(needed)], version)
        if optional.read_text("utf-8").strip():
            try:
                self._pip(["-r", str(optional), "-c", str(needed)], version)
            except BackendError:
                self._say("There is no Kaolin for this system; the backend's own FlexiCubes serves")

    def _install_small_torch(self, torch: str, version: str) -> None:
        """PyTorch without CUDA, from wherever pip's own settings send it; nothing where that place has none."""
        try:
            self._pip([f"{torch}+cpu"], version)
        except BackendError as error:
            if error.mend != "settings":  # another fault than that there is none
                raise
            self._check_room("cuda")
            self._say("Where pip looks, PyTorch comes with CUDA inside, about 5 GB. An index address avoids that")

    def _pip(self, arguments: list[str], version: str) -> None:
        """Runs `pip install`. Raises BackendError when it fails."""
        bar = "raw" if self._pip_version() >= PROGRESS_PIP else "off"
        lines = PipLines()
        status, output = self._call([str(self.python), *PIP, "--progress-bar", bar, *arguments], lines.read)
        if status != 0:
            fault = pip_fault("\n".join(output), str(self.log_path), version)
            if fault.mend == "log":
                self._start_over_next_time()
            raise fault

    def _pip_version(self) -> tuple[int, ...]:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            found = re.match(r"pip (\d+)\.(\d+)", look([str(self.python), "-m", "pip", "--version"], 60.0))
            return (int(found[1]), int(found[2])) if found else (0,)
        return (0,)

    def _look_it_over(self) -> None:
        """Raises BackendError where the backend's doctor finds that it cannot run, on Windows mostly a missing DLL."""
        if not (self.source / "backend" / "doctor.py").is_file():
            return
        self._say("Looking it over")
        # -B: nothing is written into the extension's folder.
        status, output = self._call([str(self.python), "-B", "-m", "backend", "doctor"], str)
        if status != 0:
            fault = next((line.removeprefix("FAIL").strip() for line in output if line.startswith("FAIL")), "")
            self._start_over_next_time()
            what = f"The environment was installed but cannot run the backend: {' '.join(fault.split())[:160]}"
            raise BackendError(what, str(self.log_path), "See the log, then install again", "log")

    def _call(self, command: list[str], shown: Callable[[str], str] = lambda line: "") -> tuple[int, list[str]]:
        """Exit status and last lines of a program. Each line goes to the log, what `shown` makes of it to on_line."""
        tail: list[str] = []
        with self.log_path.open("a", encoding="utf-8") as log:
            log.write(f"> {subprocess.list2cmdline(command)}\n")
            for line in (lines := ProgramLines(command, self.source, self.cancel, SILENCE_S)):
                if not line.startswith("Progress "):
                    log.write(line + "\n")
                    log.flush()
                    tail = [*tail, line][-TAIL_LINES:]
                if text := shown(line):
                    self.on_line(text)
        return lines.status, tail

    def _say(self, text: str) -> None:
        self._stop_if_cancelled()
        with self.log_path.open("a", encoding="utf-8") as log:
            log.write(text + "\n")
        self.on_line(text)

    def _stop_if_cancelled(self) -> None:
        if self.cancel.is_set():
            raise Cancelled


def _full_disk(where: Path) -> BackendError:
    return BackendError("The disk is full", str(where), "Make room and install again", "install")


def _disk_fault(error: OSError, folder: Path) -> BackendError:
    where = str(error.filename or folder)
    if error.errno == errno.ENOSPC:
        return _full_disk(Path(where))
    if isinstance(error, PermissionError):
        remedy = "Stop the backend, close what uses its files, and install again"
        return BackendError("A file cannot be written or removed", where, remedy, "install")
    return BackendError(f"The installation failed: {error.strerror or error}", where, "See its log", "log")
