"""What comes in with a new job: its request, and the user's own meshes or picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from ..errors import RequestError
from ..export.files import output_error
from .guard import MOST_JSON_BYTES
from .kinds import KINDS, read_any
from .requests import AnyJob


async def read_upload(request: Request, inbox: Path) -> tuple[AnyJob, Path | None]:
    """The request in the body, and the file that what came with it was put into, if anything did. Raises RequestError.

    The body is either the request as JSON, or a form with the part "request" (JSON) and the one that jobs of its kind
    may have: "meshes" (GLB) or "picture" (PNG).
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json":
        return _read_json(await request.body()), None
    if kind != "multipart/form-data":
        remedy = "Send application/json, or multipart/form-data with the parts request, and meshes or picture"
        raise RequestError(f"cannot read {kind or 'a body without a type'}", where="Content-Type", remedy=remedy)
    async with request.form(max_files=2, max_fields=2, max_part_size=MOST_JSON_BYTES) as form:
        told = form.get("request")
        text = await told.read(MOST_JSON_BYTES) if isinstance(told, UploadFile) else str(told or "").encode()
        job = _read_json(text, where="request")
        part = KINDS[job.kind].part
        parts = ("request", part.name) if part else ("request",)
        unknown = sorted(set(form) - set(parts))
        if unknown or len(form.multi_items()) != len(form):
            named, remedy = ", ".join(unknown) or "one twice", f"Send {' and '.join(parts)}, once each"
            raise RequestError(f"unknown parts for a job of kind {job.kind!r}: {named}", where="body", remedy=remedy)
        sent = form.get(part.name) if part else None
        if part is None or sent is None:
            return job, None
        if not isinstance(sent, UploadFile):
            raise RequestError("is no file", where=part.name, remedy="Give the part a filename")
        return job, await run_in_threadpool(_keep, sent, inbox)


def _read_json(text: bytes, where: str = "body") -> AnyJob:
    try:
        data: Any = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise RequestError(f"is not JSON: {error}", where=where, remedy="Send the request as JSON") from error
    return read_any(data)


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
