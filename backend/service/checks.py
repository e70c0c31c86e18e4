"""What can be said against a new job before it is accepted, one check for each kind of job."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..arrange.consistency import check_consistent
from ..errors import RequestError
from ..image.size import check_size
from ..presets import settings_for
from .errors import Unavailable
from .requests import EditJob, ImageJob, SceneJob

CHECK_S = 5.0  # a prompt that the worker has not looked through by then is looked through when the job runs
MOST_HEADER_BYTES = 16 << 20  # of a GLB's JSON chunk
_GLB_MAGIC, _JSON_CHUNK = 0x46546C67, 0x4E4F534A
_PNG_HEAD, _PNG_END = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\0\0\0\0IEND\xaeB`\x82"

Ask = Callable[[str, dict[str, Any], float], Any]  # puts a question to the worker; see Dispatcher.ask


def check_scene(request: SceneJob, meshes: Path | None, ask: Ask) -> None:
    """Raise RequestError for settings, relations and slots that cannot be, and for meshes that are not there."""
    settings_for(request.preset, request.settings)
    check_consistent(request.relations)
    names = glb_names(meshes) if meshes else ()
    for index, slot in enumerate(request.slots):
        if slot.kind != "generate" and slot.name not in names:
            what = f"there is no mesh for {slot.name!r}, which is of kind {slot.kind!r}"
            remedy = 'Send a GLB whose node has the slot\'s name, or make it "generate"'
            raise RequestError(what, where=f"slots[{index}].kind", remedy=remedy)
    if not request.slots:
        try:
            ask("check", {"prompt": request.prompt}, CHECK_S)
        except Unavailable:
            return


def check_image(request: ImageJob, picture: Path | None, ask: Ask) -> None:
    """Nothing is left to say: the request was read, and nothing comes with it."""
    assert picture is None


def check_edit(request: EditJob, picture: Path | None, ask: Ask) -> None:
    """Raise RequestError where there is no picture, or none that can be edited."""
    if picture is None:
        remedy = "Send multipart/form-data with the parts request and picture, a PNG"
        raise RequestError("there is no picture to edit", where="picture", remedy=remedy)
    check_size(*png_size(picture), where="picture")


def png_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG. Raises RequestError for a file that is none, or is cut off."""
    with open(path, "rb") as file:
        head = file.read(len(_PNG_HEAD) + 8)
        file.seek(max(0, path.stat().st_size - len(_PNG_END)))
        end = file.read()
    if len(head) < len(_PNG_HEAD) + 8 or not head.startswith(_PNG_HEAD):
        raise RequestError("is no PNG", where="picture", remedy="Send the picture as PNG")
    if end != _PNG_END:
        raise RequestError("is cut off", where="picture", remedy="Send the whole PNG")
    width, height = struct.unpack(">II", head[-8:])
    return width, height


def glb_names(path: Path) -> tuple[str, ...]:
    """The names of the nodes in a GLB. Raises RequestError for a file that is none, or is cut off."""
    remedy = "Export the meshes as binary glTF again"
    try:
        with open(path, "rb") as file:
            magic, version, length = struct.unpack("<III", file.read(12))
            size, kind = struct.unpack("<II", file.read(8))
            if magic != _GLB_MAGIC or version != 2 or kind != _JSON_CHUNK:
                raise ValueError("is no binary glTF 2.0")
            if length != path.stat().st_size or not 0 < size <= min(length - 20, MOST_HEADER_BYTES):
                raise ValueError("is cut off")
            nodes = json.loads(file.read(size)).get("nodes", [])
            return tuple(str(node.get("name", "")) for node in nodes)
    except (OSError, struct.error, ValueError, RecursionError, AttributeError, TypeError) as error:
        told = error if type(error) is ValueError else "is no binary glTF"
        raise RequestError(f"{told}", where="meshes", remedy=remedy) from error
