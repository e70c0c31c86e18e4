"""Reading what comes back over the wire: JSON, refusals, events, files. Nothing in it is trusted; never imports bpy."""

import contextlib
import errno
import http.client
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .messages import BackendError, NotYet
from .wire import Lost, Target, not_ours

MOST_ANSWER_BYTES = 64 << 20  # of a JSON answer; more is not ours
MOST_LINE_BYTES = 4 << 20  # of one line of an event
MOST_FILE_BYTES = 4 << 30
PIECE_BYTES = 1 << 16
GLB_HEADER_BYTES = 12


def read_json(response: http.client.HTTPResponse, target: Target) -> dict[str, Any]:
    """The JSON object of the answer, {} for an empty one. Raises BackendError."""
    text = b"".join(_pieces(response, target, MOST_ANSWER_BYTES))
    try:
        answer = json.loads(text or b"{}")
    except (ValueError, RecursionError) as error:
        raise not_ours(target) from error
    if not isinstance(answer, dict):
        raise not_ours(target)
    return answer


def read_list(answer: dict[str, Any], key: str, target: Target) -> list[dict[str, Any]]:
    """answer[key], which has to be a list of objects. Raises BackendError."""
    items = answer.get(key)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise not_ours(target)
    return items


def refusal(response: http.client.HTTPResponse, target: Target) -> BackendError:
    """The error that an answer with a bad status tells, with the button that mends it."""
    where, button = target.address, "restart" if target.local else "settings"
    if response.status == 401:
        remedy = "Restart it" if target.local else "Copy the token file's text of that backend again"
        return BackendError("The backend refuses this token", where, remedy, button)
    if response.status == 421:
        remedy = "Start it with --host and the name that stands in the address"
        return BackendError("The backend does not answer to this name", where, remedy, "settings")
    try:
        error = read_json(response, target)["error"]
        what, place, remedy = (error[key] for key in ("what", "where", "remedy"))
    except (BackendError, KeyError, TypeError):
        return not_ours(target)
    if not (isinstance(what, str) and what):
        return not_ours(target)
    if response.status == 503:
        return NotYet(what, str(place or ""), str(remedy or ""), "log")
    return BackendError(what, str(place or ""), str(remedy or ""), "log" if response.status >= 500 else "")


def read_events(
    response: http.client.HTTPResponse, target: Target, last_id: int
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """(id, event, data) of a text/event-stream as they come; an event without an id keeps the one before."""
    if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
        raise not_ours(target)
    name, lines = "", []
    while line := response.readline(MOST_LINE_BYTES):
        if not line.endswith(b"\n"):
            return  # cut off, or far too long: what came of this event is no use
        try:
            field, _, value = line.decode().rstrip("\r\n").partition(":")
            value = value.removeprefix(" ")
            if field == "id":
                last_id = int(value)
            elif field == "event":
                name = value
            elif field == "data":
                lines.append(value)
            data = json.loads("\n".join(lines)) if not line.strip() and lines else None
        except (ValueError, RecursionError) as error:
            raise not_ours(target) from error
        if not line.strip():  # ends the event; ":..." is a heartbeat
            if lines:
                yield last_id, name or "message", data if isinstance(data, dict) else {"text": data}
            name, lines = "", []


def save_body(
    response: http.client.HTTPResponse,
    target: Target,
    path: Path,
    on_progress: Callable[[int, int | None], None] | None,
) -> Path:
    """`path`, holding the whole body. It is written beside `path` and put in its place when its length is right."""
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        _write_pieces(handle, response, target, path, on_progress)
        if path.suffix == ".glb":
            check_glb(part)
        with _disk_errors(path):
            os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return path


def _write_pieces(
    handle: int,
    response: http.client.HTTPResponse,
    target: Target,
    path: Path,
    on_progress: Callable[[int, int | None], None] | None,
) -> None:
    total, done = response.length, 0
    file = open(handle, "wb")  # noqa: SIM115 - closing can fail too, and is a disk error then
    try:
        for piece in _pieces(response, target, MOST_FILE_BYTES):
            with _disk_errors(path):
                file.write(piece)
            done += len(piece)
            if on_progress:
                on_progress(done, total)
        with _disk_errors(path):
            file.flush()
            os.fsync(file.fileno())
    finally:
        with _disk_errors(path):
            file.close()


def check_glb(path: Path) -> None:
    """Nothing; raises BackendError where the file is not a whole GLB (version 2, of the length in its header)."""
    with path.open("rb") as file:
        header = file.read(GLB_HEADER_BYTES)
    whole = header[:8] == b"glTF\x02\x00\x00\x00" and int.from_bytes(header[8:12], "little") == path.stat().st_size
    if not whole:
        raise BackendError(
            "What the backend sent is not a whole GLB file", "", "Try again, or look into the log", "log"
        )


def _pieces(response: http.client.HTTPResponse, target: Target, most_bytes: int) -> Iterator[bytes]:
    """The body in pieces. Raises Lost when it ends before the length that was announced."""
    expected, done = response.length, 0
    while piece := response.read(PIECE_BYTES):
        done += len(piece)
        if done > most_bytes:
            raise not_ours(target)
        yield piece
    if expected is not None and done != expected:
        button = "restart" if target.local else "settings"
        what = f"The connection to the backend was cut after {done} of {expected} bytes"
        raise Lost(what, target.address, "Try again, or restart the backend", button)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BackendError("The disk is full", str(path), "Make room and try again") from error
        reason = error.strerror or str(error)
        raise BackendError(f"Cannot write the file: {reason}", str(path), "Check the folder and its rights") from error
