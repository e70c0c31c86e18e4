"""What jobs of each kind make: the file that is fetched, and whether it came whole. Never imports bpy."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from .messages import BackendError

AGAIN = "Import it again, here or from Results"  # what is said of a result that could not be taken


class Result(NamedTuple):
    """One row."""

    name: str  # on the wire, and in the folder of what was fetched
    check: Callable[[Path], Path]  # its argument; raises BackendError where the file is not whole
    resumes: bool  # a stopped run goes on from where it was, and a finished one can be refined; else it begins anew


def check_glb(path: Path) -> Path:
    """`path`, which holds a whole GLB by its header. Raises BackendError where it does not."""
    with _readable(path), path.open("rb") as file:
        header = file.read(12)
        length = path.stat().st_size
    if len(header) < 12 or header[:4] != b"glTF" or int.from_bytes(header[8:12], "little") != length:
        raise BackendError("The result is not a whole GLB file", str(path), AGAIN)
    return path


def check_png(path: Path) -> Path:
    """`path`, which holds a whole PNG by its first and last bytes. Raises BackendError where it does not."""
    with _readable(path):
        data = path.read_bytes()
    if not (data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xaeB`\x82")):
        raise BackendError("The result is not a whole PNG file", str(path), AGAIN)
    return path


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackendError("The result cannot be read", str(path), error.strerror or str(error)) from error


RESULTS = {  # by the kind of the job
    "scene": Result("result.glb", check_glb, True),
    "image": Result("result.png", check_png, False),
    "edit": Result("result.png", check_png, False),
}
