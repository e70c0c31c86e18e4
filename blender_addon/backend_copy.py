"""The backend's copy outside the extension, which Blender may replace while it runs. Never imports bpy."""

import contextlib
import hashlib
import os
import re
import shutil
import time
import uuid
from pathlib import Path

from .messages import BackendError

COPIED = ("backend", "requirements")
NOT_COPIED = ("__pycache__", "*.pyc", ".DS_Store")
RENAMES, RENAME_PAUSE_S = 20, 0.25  # on Windows a virus scanner holds new files for a moment
OTHER_ZIP = "Install the extension from diorama-VERSION.zip: GitHub's 'Source code (zip)' is without it"
KEPT_S = 14 * 24 * 3600.0  # copies that were not started for so long are removed


def bundled_source(addon: Path) -> Path:
    """The folder that holds backend/ and requirements/: the installed extension's own, or a checkout's root."""
    return addon if (addon / "backend").is_dir() else addon.parent


def backend_version(source: Path) -> str:
    """The version of the backend in `source`. Raises BackendError where there is none."""
    file = source / "backend" / "__init__.py"
    try:
        found = re.search(r'^__version__ = "([0-9A-Za-z.+-]{1,40})"', file.read_text("utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        found = None
    if not found:
        raise BackendError("The extension came without its backend", str(file), OTHER_ZIP)
    return found[1]


def unpacked(source: Path, home: Path) -> Path:
    """The folder under `home` that holds this very backend; made, whole or not at all, where it is missing."""
    folder = home / "backends" / f"{backend_version(source)}-{fingerprint(source)}"
    try:
        if not folder.is_dir():
            _copy(source, folder)
        os.utime(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "Check the free space and the rights of this folder"
        raise BackendError(f"Cannot copy the backend: {reason}", str(folder), remedy) from error
    return folder


def remove_unused(home: Path, keep: Path, kept_s: float = KEPT_S) -> None:
    """Nothing; copies of other versions that were not started for long, and half-made ones, are gone."""
    limit = time.time() - kept_s
    with contextlib.suppress(OSError):
        for folder in (home / "backends").iterdir():
            if folder != keep and folder.stat().st_mtime < limit:
                shutil.rmtree(folder, ignore_errors=True)


def fingerprint(source: Path) -> str:
    """Eight digits that change with the name or the bytes of any copied file."""
    digest = hashlib.sha256()
    for file in _files(source):
        data = file.read_bytes()
        digest.update(f"{file.relative_to(source).as_posix()} {len(data)}\n".encode() + data)
    return digest.hexdigest()[:8]


def _files(source: Path) -> list[Path]:
    paths = (path for name in COPIED for path in (source / name).rglob("*"))
    return sorted(
        path for path in paths if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    )


def _copy(source: Path, folder: Path) -> None:
    """Copies beside `folder` and renames, so that a copy is whole. Another process may do the same at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    half = folder.parent / f".half-{uuid.uuid4().hex[:8]}"
    try:
        for name in COPIED:
            if (source / name).is_dir():
                shutil.copytree(source / name, half / name, ignore=shutil.ignore_patterns(*NOT_COPIED))
        _rename(half, folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _rename(half: Path, folder: Path) -> None:
    """Puts the copy in its place, unless another process was first: its copy is as good."""
    for left in reversed(range(RENAMES)):
        try:
            half.rename(folder)
            return
        except OSError:
            if folder.is_dir():
                return
            if not left:
                raise
            time.sleep(RENAME_PAUSE_S)
