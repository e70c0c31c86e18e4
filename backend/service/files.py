"""What may be fetched of a job, by its name on the wire."""

from __future__ import annotations

from typing import NamedTuple

from .folder import LOG, PREVIEW
from .kinds import KINDS
from .requests import KindName

Kinds = tuple[KindName, ...]


class File(NamedTuple):
    """One row."""

    file: str  # its name in the job's folder
    media_type: str
    awaits: str  # when it is written
    kinds: Kinds  # of the jobs that have one


SCENES: Kinds = ("scene",)
PICTURES: Kinds = ("image", "edit")
ALL: Kinds = tuple(KINDS)
FILES = {
    "preview.jpg": File(PREVIEW, "image/jpeg", "the first step", ALL),
    "result.glb": File("scene.glb", "model/gltf-binary", "the job's end", SCENES),
    "result.png": File("image.png", "image/png", "the job's end", PICTURES),
    "report.json": File("report.json", "application/json", "the job's end", ALL),
    "log": File(LOG, "text/plain", "the job's start", ALL),
    "preview.png": File("preview.png", "image/png", "the job's end", SCENES),
    "turntable.gif": File("turntable.gif", "image/gif", "the job's end", SCENES),
}
