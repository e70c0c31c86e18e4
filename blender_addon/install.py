"""The backend's own Python environment, made with the standard library. Never imports bpy; blocks: use a thread."""

import threading
from collections.abc import Callable
from pathlib import Path

from .messages import BackendError, Cancelled

__all__ = ["BackendError", "Cancelled", "Installer", "check_python", "has_nvidia_gpu", "installed_python", "outdated"]


def installed_python(home: Path) -> Path | None:
    """The interpreter of the environment that was installed under `home` to its end and still works, else None. Quick."""
    ...


def outdated(home: Path, source: Path) -> bool:
    """True when the installed environment was made from other requirements than those in `source`. Quick."""
    ...


def check_python(python: Path, timeout_s: float = 60.0) -> str:
    """Its version, when `python` can run the backend; else raises BackendError. For a Python that the user chose. Blocks."""
    ...


def has_nvidia_gpu() -> bool:
    """True when nvidia-smi lists a GPU. Blocks for a second or so."""
    ...


class Installer:
    """Makes the environment under `home` from `source`/requirements; run it in a thread.

    source: folder with backend/ and requirements/. on_line(text) is called from the running thread, for each line of progress.
    cancel: set it and run() raises Cancelled within a second, its children killed. cuda: True, False, or None: what is there.
    torch_index: the address that pytorch.org's selector shows for another build of torch, or "".
    """

    def __init__(
        self,
        source: Path,
        home: Path,
        on_line: Callable[[str], None],
        cancel: threading.Event,
        cuda: bool | None = None,
        torch_index: str = "",
    ) -> None: ...

    def run(self) -> Path:
        """The environment's interpreter. Can be repeated: goes on where it stopped, starts over when that is no use."""
        ...

    @property
    def log_path(self) -> Path:
        """Everything pip said."""
        ...
