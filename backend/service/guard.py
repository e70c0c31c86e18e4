"""What is refused before any route is asked: foreign Host headers and bodies that are too large."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import UserError
from .errors import TooLarge, WrongHost, as_body, status_of

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_JSON_BYTES = 1 << 20
MOST_MULTIPART_BYTES = 256 << 20


def is_our_name(header: str, configured: str) -> bool:
    """Whether a Host header names this service: loopback, or the name it was told to listen on.

    A page of another origin that had its name point here would send that name (DNS rebinding). Where the service
    listens to other machines, any address does, as no name can be made to look like one.
    """
    name = header.strip().lower()
    name = name[1:].split("]")[0] if name.startswith("[") else name.rsplit(":", 1)[0] if ":" in name else name
    if name in LOOPBACK or name == configured.lower():
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return configured.lower() not in LOOPBACK


class Guard:
    """The middleware around the app. `seen` is called for every request that was let in."""

    def __init__(self, app: ASGIApp, host: str, seen: Callable[[], None]) -> None:
        self._app, self._host, self._seen = app, host, seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        if len(headers.getlist("host")) != 1 or not is_our_name(headers["host"], self._host):
            remedy = "Use http://127.0.0.1, or start the service with --host and that name"
            return await _refuse(send, WrongHost("the Host header names somebody else", where="Host", remedy=remedy))
        multipart = headers.get("content-type", "").lower().startswith("multipart/")
        most = MOST_MULTIPART_BYTES if multipart else MOST_JSON_BYTES
        told = headers.get("content-length", "0")
        if told.isdigit() and int(told) > most:
            return await _refuse(send, _too_large(most))
        self._seen()
        await self._app(scope, _Counted(receive, most), send)
        return None


class _Counted:
    """Receives a body until it is too large: chunked ones do not say so beforehand."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._left, self._most = receive, most, most

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _too_large(self._most)
        return message


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"more than {most >> 20} MiB", where="body", remedy="Send less: simplify the meshes or the request")


async def _refuse(send: Send, error: UserError) -> None:
    body = json.dumps(as_body(error)).encode()
    headers: Sequence[tuple[bytes, bytes]] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status_of(error), "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})
