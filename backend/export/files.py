"""Files that are whole or not there: every result is written beside its final name and then moved onto it."""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..errors import OutputError

UNFINISHED = ".unfinished"  # in a result's folder, while it is being written
_REMEDIES = {
    errno.ENOSPC: "Free some disk space or choose another output folder",
    errno.EDQUOT: "Free some of your disk quota or choose another output folder",
    errno.EACCES: "Choose a folder you may write to, or change its permissions",
    errno.EPERM: "Choose a folder you may write to, or change its permissions",
    errno.EROFS: "The disk is read-only; choose another output folder",
    errno.ENOTDIR: "A part of this path is a file; choose another output folder",
    errno.EEXIST: "A file of this name is in the way; choose another output folder",
    errno.EISDIR: "A folder of this name is in the way; choose another name",
}


def output_error(error: OSError, path: Path) -> OutputError:
    """The UserError that says in plain words why `path` could not be written."""
    remedy = _REMEDIES.get(error.errno or 0, "Choose another output folder")
    reason = (error.strerror or str(error)).lower()
    return OutputError(f"could not be written: {reason}", where=str(path), remedy=remedy)


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` when the block ends well, and vanishes when it does not.

    The bytes are on the disk before the name appears. Raises OutputError where the system refuses to write; a file
    that stood under that name before is then still there, untouched.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Opened by hand, not by mkstemp: that would give the result mode 0600 whatever the user's umask is.
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise output_error(error, path) from error
    except BaseException:
        _remove(temporary)
        raise


@contextmanager
def written_together(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """A folder for files of these names, which move into `folder` when the block ends well and vanish when it does not.

    So files that belong together are never of two runs: where one of them cannot take its place, all that stood there
    before is put back. They move in the order of `names`. What a killed process left is removed first. Raises
    OutputError, naming the place where the file was to be.
    """
    stage = folder / UNFINISHED
    try:
        shutil.rmtree(stage, ignore_errors=True)
        try:
            yield stage
        except OutputError as error:
            where = error.where.replace(str(stage), str(folder))
            raise OutputError(error.what, where=where, remedy=error.remedy) from error
        _move_all(stage, folder, names)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _move_all(stage: Path, folder: Path, names: Sequence[str]) -> None:
    """Every file of the stage onto its place in the folder, or none: on a failure the earlier ones are put back."""
    earlier, moved = stage / "earlier", list[str]()
    earlier.mkdir(parents=True, exist_ok=True)
    try:
        for name in names:
            try:
                if (folder / name).exists():
                    shutil.copy2(folder / name, earlier / name)
                moved.append(name)
                os.replace(stage / name, folder / name)
            except OSError as error:
                raise output_error(error, folder / name) from error
    except BaseException:
        for name in moved:
            with suppress(OSError):
                if (earlier / name).exists():
                    os.replace(earlier / name, folder / name)
                elif not (stage / name).exists():  # it had moved to where nothing was
                    (folder / name).unlink(missing_ok=True)
        raise


def check_writable(folder: Path, names: Sequence[str] = ()) -> None:
    """Nothing, when files can be written in `folder` (made if it is missing); OutputError when they cannot.

    names: of the files to come, none of which may be a folder.

    Called before a long run, so that the fault shows in its first second.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"diorama")
            file.flush()
        for name in names:
            if (folder / name).is_dir():
                raise output_error(IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)), folder / name)
    except OSError as error:
        raise output_error(error, folder) from error


def jsonable(value: Any) -> Any:
    """`value` in JSON's own types: arrays become lists, paths text, and NaN or infinity null."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if hasattr(value, "_asdict"):
        return jsonable(value._asdict())
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if hasattr(value, "tolist"):  # numpy and torch, scalars and arrays
        return jsonable(value.tolist())
    return str(value)


def _remove(path: Path | None) -> None:
    with suppress(OSError):  # the folder itself is gone or not a folder: nothing was left there either
        if path is not None:
            path.unlink(missing_ok=True)
