"""One HTTP exchange that ends: each wait on the socket has a limit and can be stopped. Never imports bpy."""

import contextlib
import errno
import http.client
import io
import os
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .messages import BackendError, Cancelled

SLICE_S = 0.2  # how long a wait on the socket lasts before `stop` is looked at again
SEND_BYTES = 1 << 16  # sent in one go; each has the whole silence_s


class Lost(BackendError):
    """Nothing answers, or the connection broke: trying again may help."""


class Target(NamedTuple):
    """Where a backend listens."""

    scheme: str  # http or https
    host: str
    port: int
    prefix: str  # path before /v1, for a backend behind a proxy; mostly ""

    @property
    def local(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.prefix}"


def read_address(address: str) -> Target:
    """The target that `address` (http://host:port) names. Raises BackendError."""
    try:
        parts = urlsplit(address.strip())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise BackendError(
            f"{address!r} is not the address of a backend", "", "It looks like http://127.0.0.1:8188", "settings"
        )
    port = port or (443 if parts.scheme == "https" else 80)
    return Target(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))


def not_ours(target: Target) -> BackendError:
    """The error that what answers there is not a Diorama backend, or not a sound one."""
    remedy, button = ("Restart the backend", "restart") if target.local else ("Check the address", "settings")
    return BackendError("Something that is not a Diorama backend answers there", target.address, remedy, button)


class _Receiver(io.RawIOBase):
    """A socket's incoming bytes. Waits at most silence_s for the next one, and never past the deadline."""

    def __init__(self, sock: socket.socket, silence_s: float, stop: threading.Event | None) -> None:
        self.sock, self.silence_s, self.stop = sock, silence_s, stop
        self.deadline: float | None = None  # on time.monotonic()'s clock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        limit = time.monotonic() + self.silence_s
        if self.deadline is not None:
            limit = min(limit, self.deadline)
        while True:
            self.sock.settimeout(_slice(limit, self.stop))
            with contextlib.suppress(TimeoutError):
                return self.sock.recv_into(buffer)


class _Socket:
    """As much of a socket as http.client uses; exchange() closes it, because the answer outlives the connection."""

    def __init__(self, receiver: _Receiver) -> None:
        self.receiver = receiver

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(self.receiver)

    def sendall(self, data: bytes) -> None:
        left, limit = memoryview(data), time.monotonic() + self.receiver.silence_s
        while left:
            self.receiver.sock.settimeout(_slice(limit, self.receiver.stop))
            with contextlib.suppress(TimeoutError):
                left = left[self.receiver.sock.send(left[:SEND_BYTES]) :]
                limit = time.monotonic() + self.receiver.silence_s

    def close(self) -> None:
        pass


@contextlib.contextmanager
def exchange(
    target: Target,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes | None = None,
    *,
    silence_s: float,
    total_s: float | None = None,
    stop: threading.Event | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """The answer, its headers read, its body not yet. Raises Lost, BackendError, and Cancelled after `stop`.

    silence_s: the longest pause, and the longest wait for the headers. total_s: the longest wait for the whole answer.
    """
    with translated(target):
        sock = _connect(target, time.monotonic() + silence_s, stop)
        try:
            receiver = _Receiver(sock, silence_s, stop)
            connection = http.client.HTTPConnection(target.host, target.port)
            connection.sock = _Socket(receiver)  # type: ignore[assignment]
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused early: its answer says why
                connection.request(method, target.prefix + path, body, headers)
            receiver.deadline = time.monotonic() + (total_s or silence_s)
            response = connection.getresponse()
            if total_s is None:
                receiver.deadline = None
            yield response
        finally:
            sock.close()


def _slice(limit: float, stop: threading.Event | None) -> float:
    """How long to wait before `stop` is looked at again. Raises Cancelled after it, TimeoutError after the limit."""
    if stop is not None and stop.is_set():
        raise Cancelled
    left = limit - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return min(SLICE_S, left)


def _connect(target: Target, limit: float, stop: threading.Event | None) -> socket.socket:
    """A socket on which the target listens, at the first of its addresses that answers."""
    fault: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            _wait_for_connection(sock, address, limit, stop)
            return sock if target.scheme == "http" else _secured(sock, target, limit, stop)
        except ssl.SSLError:
            sock.close()
            raise
        except OSError as error:
            sock.close()
            fault = error
        except BaseException:
            sock.close()
            raise
    raise fault or OSError("the name has no address")


def _wait_for_connection(sock: socket.socket, address: Any, limit: float, stop: threading.Event | None) -> None:
    sock.setblocking(False)
    code = sock.connect_ex(address)
    if code in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN):
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_WRITE)
            while not selector.select(_slice(limit, stop)):
                pass
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code == errno.ECONNREFUSED:
        raise ConnectionRefusedError(code, os.strerror(code))
    if code:
        raise OSError(code, os.strerror(code))


def _secured(sock: socket.socket, target: Target, limit: float, stop: threading.Event | None) -> socket.socket:
    context = ssl.create_default_context()
    secured = context.wrap_socket(sock, server_hostname=target.host, do_handshake_on_connect=False)
    try:
        while True:
            secured.settimeout(_slice(limit, stop))
            with contextlib.suppress(TimeoutError):
                secured.do_handshake()
                return secured
    except BaseException:
        secured.close()
        raise


@contextlib.contextmanager
def translated(target: Target) -> Iterator[None]:
    """Turns what sockets and http.client raise into BackendError, with the button for a local or a remote backend."""
    where = target.address
    again = "restart" if target.local else "settings"
    try:
        yield
    except (BackendError, Cancelled):
        raise
    except ConnectionRefusedError as error:
        if target.local:
            raise Lost("The backend is not running", where, "Start it", "start") from error
        remedy = "Start it on that machine, with --host, and check the address"
        raise Lost("No backend is running at this address", where, remedy, "settings") from error
    except socket.gaierror as error:
        remedy = "Check the address and the network"
        raise Lost(f"There is no machine named {target.host}", where, remedy, "settings") from error
    except ssl.SSLError as error:
        remedy = "Check the address (http or https) and the certificate"
        raise BackendError(f"No secure connection: {error.reason or error}", where, remedy, "settings") from error
    except TimeoutError as error:
        remedy = "Restart it" if target.local else "Check the network and whether it is running"
        raise Lost("The backend does not answer in time", where, remedy, again) from error
    except (http.client.IncompleteRead, ConnectionError) as error:  # ConnectionError: RemoteDisconnected too
        raise Lost(
            "The connection to the backend was cut", where, "Try again, or restart the backend", again
        ) from error
    except http.client.HTTPException as error:
        raise not_ours(target) from error
    except OSError as error:
        remedy = "Check the address and the network"
        raise Lost(f"The backend cannot be reached: {error.strerror or error}", where, remedy, again) from error
