"""What comes in with a new job: its request, and the user's own meshes. Looked through before it is accepted."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from ..arrange.consistency import check_consistent
from ..errors import RequestError
from ..export.files import output_error
from ..presets import settings_for
from ..schema import SceneRequest, read_request
from .dispatcher import Dispatcher
from .errors import Unavailable
from .guard import MOST_JSON_BYTES

CHECK_S = 5.0  # a prompt that the worker has not looked through by then is looked through when the job runs
_MAGIC, _JSON_CHUNK = 0x46546C67, 0x4E4F534A
MOST_HEADER_BYTES = 16 << 20  # of a GLB's JSON chunk


async def read_upload(request: Request, inbox: Path) -> tuple[SceneRequest, Path | None]:
    """The request in the body, and the file its meshes were put into, if there are any. Raises RequestError.

    The body is either the request as JSON, or a form with the parts "request" (JSON) and "meshes" (GLB).
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json":
        return _read_json(await request.body()), None
    if kind != "multipart/form-data":
        remedy = "Send application/json, or multipart/form-data with the parts request and meshes"
        raise RequestError(f"cannot read {kind or 'a body without a type'}", where="Content-Type", remedy=remedy)
    async with request.form(max_files=2, max_fields=2, max_part_size=MOST_JSON_BYTES) as form:
        unknown = sorted(set(form) - {"request", "meshes"})
        if unknown or len(form.multi_items()) != len(form):
            named = ", ".join(unknown) or "one twice"
            raise RequestError(f"unknown parts: {named}", where="body", remedy="Send request and meshes, once each")
        told, meshes = form.get("request"), form.get("meshes")
        text = await told.read(MOST_JSON_BYTES) if isinstance(told, UploadFile) else str(told or "").encode()
        scene = _read_json(text, where="request")
        if meshes is None:
            return scene, None
        if not isinstance(meshes, UploadFile):
            raise RequestError("is no file", where="meshes", remedy="Give the part a filename")
        return scene, await run_in_threadpool(_keep, meshes, inbox)


def check_job(request: SceneRequest, meshes: Path | None, dispatcher: Dispatcher) -> None:
    """Raise RequestError for what a run of the request would refuse at once."""
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
            dispatcher.ask("check", {"prompt": request.prompt}, CHECK_S)
        except Unavailable:
            return


def glb_names(path: Path) -> tuple[str, ...]:
    """The names of the nodes in a GLB. Raises RequestError for a file that is none, or is cut off."""
    remedy = "Export the meshes as binary glTF again"
    try:
        with open(path, "rb") as file:
            magic, version, length = struct.unpack("<III", file.read(12))
            size, kind = struct.unpack("<II", file.read(8))
            if magic != _MAGIC or version != 2 or kind != _JSON_CHUNK:
                raise ValueError("is no binary glTF 2.0")
            if length != path.stat().st_size or not 0 < size <= min(length - 20, MOST_HEADER_BYTES):
                raise ValueError("is cut off")
            nodes = json.loads(file.read(size)).get("nodes", [])
            return tuple(str(node.get("name", "")) for node in nodes)
    except (OSError, struct.error, ValueError, RecursionError, AttributeError, TypeError) as error:
        told = error if type(error) is ValueError else "is no binary glTF"
        raise RequestError(f"{told}", where="meshes", remedy=remedy) from error


def _read_json(text: bytes, where: str = "body") -> SceneRequest:
    try:
        data: Any = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise RequestError(f"is not JSON: {error}", where=where, remedy="Send a SceneRequest as JSON") from error
    return read_request(data)


def _keep(upload: UploadFile, path: Path) -> Path:
    """`path`, which now holds the upload. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            while piece := upload.file.read(1 << 20):
                file.write(piece)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise output_error(error, path) from error
    return path
