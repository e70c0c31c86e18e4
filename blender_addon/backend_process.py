"""The backend as a process: copied out of the extension, started, adopted, stopped. Never imports bpy."""

from pathlib import Path

from .messages import BackendError

__all__ = ["Backend", "BackendError", "bundled_source"]


def bundled_source(addon: Path) -> Path:
    """The folder that holds backend/ and requirements/: the installed extension's own, or a checkout's root."""
    return addon if (addon / "backend").is_dir() else addon.parent


class Backend:
    """The local backend of one data folder. Methods raise BackendError; all but alive() and log_path block (use a thread).

    python: interpreter of the backend's environment. source: folder with backend/ and requirements/ (see bundled_source).
    data: the service's data folder (jobs, models, token). home: user folder that the backend is copied into and logs to.
    device: auto, cpu, cuda or mps.
    """

    def __init__(self, python: Path, source: Path, data: Path, home: Path, device: str = "auto") -> None: ...

    def start(self, timeout_s: float = 120.0) -> tuple[str, str]:
        """(address, token) of a backend that answers: adopted, or started. An idle one of another version is replaced."""
        ...

    def restart(self, timeout_s: float = 120.0) -> tuple[str, str]:
        """(address, token) of a fresh backend; whatever ran on this data folder is ended first."""
        ...

    def adopt(self) -> tuple[str, str] | None:
        """(address, token) of a running backend of this version on this data folder, None where there is none."""
        ...

    def stop(self) -> None:
        """Nothing; the backend, started or adopted, has ended. A running job becomes interrupted."""
        ...

    def alive(self) -> bool:
        """True while the process that was started or adopted runs. Asks the system only; quick enough for the main thread."""
        ...

    @property
    def log_path(self) -> Path:
        """The log to show the user; it may not exist yet."""
        ...
