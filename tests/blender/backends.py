"""Backends for the add-on: the real one, and false ones that are dead, slow or send garbage. Waiting on the timer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NamedTuple

import bpy

from .conftest import BACKEND_PYTHON

SMALL = '{"views": 2, "resolution": 8, "final_resolution": 8, "preview_px": 32, "checkpoint_every_s": 0.5}'
QUICK = {"steps": 2, "texture_px": 64, "overrides": SMALL}
HEALTH = {"version": "0.1.0", "api": 1, "state": "ready", "device": "cpu", "token_ok": True}
LIMIT_S = 0.02  # that a callback may take of the main thread
WAIT_S = 240.0  # for anything that the real backend does; the machine may be busy


class Cost(NamedTuple):
    """What a callback took of the main thread."""

    name: str
    wall_s: float
    cpu_s: float


def use_local(addon: ModuleType) -> None:
    """The preferences of a user who chose the Python of this repository's environment."""
    chosen = addon.preferences.preferences()
    chosen.python, chosen.device, chosen.location = BACKEND_PYTHON, "cpu", "PYTHON"


def adopt(addon: ModuleType) -> None:
    """Use the real backend, which runs already."""
    use_local(addon)
    wait_for(addon, lambda: status().backend == "ready")


def use_remote(addon: ModuleType, address: str, token: str = "token") -> None:
    chosen = addon.preferences.preferences()
    chosen.address, chosen.token, chosen.location = address, token, "REMOTE"


def status() -> object:
    return bpy.context.window_manager.diorama


def timed(name: str, callback: Callable[[], object]) -> Cost:
    wall, cpu = time.perf_counter(), time.thread_time()
    callback()
    return Cost(name, time.perf_counter() - wall, time.thread_time() - cpu)


def tick(addon: ModuleType) -> Cost:
    """One call of the timer, which Blender makes when it has a window."""
    return timed("timer", addon.jobs._timer)


def wait_for(addon: ModuleType, condition: Callable[[], object], wait_s: float = WAIT_S) -> list[Cost]:
    """The costs of the timer's calls until the condition holds. Fails, with what the panel says, after wait_s."""
    costs, limit = [], time.monotonic() + wait_s
    while not condition():
        costs.append(tick(addon))
        said = status()
        assert time.monotonic() < limit, f"still {said.state!r}, backend {said.backend!r}, fault {said.fault!r}"
        time.sleep(0.02)
    return costs


def settle(addon: ModuleType) -> None:
    """Time for what must not come."""
    for _ in range(20):
        tick(addon)
        time.sleep(0.02)


@contextmanager
def false_backend(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that does `answer` with every connection."""
    server = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=_guarded, args=(answer, connection, ended), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    ended.set()
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5.0)


def _guarded(answer: Callable[[socket.socket], None], connection: socket.socket, ended: threading.Event) -> None:
    with connection:
        try:
            answer(connection)
            ended.wait(0.05)
        except OSError:
            pass  # the add-on hung up


def path_of(connection: socket.socket, flags: int = 0) -> str:
    """What is asked for, read from the connection. Raises ConnectionError where the add-on has hung up already."""
    request = connection.recv(65536, flags)
    if not request:
        raise ConnectionError("nothing was asked")
    return request.split(b" ")[1].decode().split("?")[0]


def http(body: bytes, status_line: str = "200 OK", content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status_line}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


def closed_port() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"
