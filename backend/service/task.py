"""What the worker is given to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple


class Task(NamedTuple):
    """One run of a job."""

    job: str  # its id
    request: dict[str, Any]  # as it was sent
    folder: Path  # where its files go
    upload: Path | None  # the user's own meshes or picture
    checkpoint: Path | None  # to go on from


def read_task(message: dict[str, Any]) -> Task:
    """The task in a message of the dispatcher's."""
    upload, checkpoint = (Path(message[key]) if message[key] else None for key in ("upload", "checkpoint"))
    return Task(message["job"], message["request"], Path(message["folder"]), upload, checkpoint)
