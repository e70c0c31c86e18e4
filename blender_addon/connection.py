"""The backend that is in use, as the network thread knows it: found, started, asked how it is. No bpy."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from . import link
from .backend_process import Backend
from .client import Client
from .found import HEALTH_S
from .link import Asking, Config
from .messages import BackendError, Cancelled, NotYet

DEVICE_S = 3.0  # between two questions which device the backend has found
AGAIN_S = 1.0  # until a question that came too early is put again

Answer = TypeVar("Answer")


class Message(NamedTuple):
    """Something for the main thread."""

    kind: str  # backend, submitted, job, progress, preview, thumbnail, result, files, history, deleted, ...
    data: Any = None


class Connection:
    """Client, local process and what was told of them. Every method runs in the network thread."""

    def __init__(self) -> None:
        self.messages: queue.Queue[Message] = queue.Queue()
        self._closing = threading.Event()
        self._give_up = threading.Event()  # the user does not want to wait for the backend's start any longer
        self._interrupt = threading.Event()  # a command waits: what nobody waits for ends
        self._config: Config | None = None
        self._client: Client | None = None
        self._backend: Backend | None = None  # the local one that was used last
        self._device, self._device_due = "", 0.0

    def _post(self, kind: str, data: Any = None) -> None:
        self.messages.put(Message(kind, data))

    def _settings(self) -> Config:
        assert self._config is not None
        return self._config

    def _asking(self) -> Asking:
        return Asking(self._closing, self._give_up, self._backend)

    def _connected(self) -> Client:
        """A client of a backend that runs, started where need be."""
        if self._client is None or self._has_ended():
            self._post("backend", {"state": "starting"})
            self._client = None
            self._take(link.connect(self._settings(), self._asking()))
            self._announce()
        assert self._client is not None
        return self._client

    def _take(self, running: tuple[Client, Backend | None]) -> None:
        self._client = running[0]
        self._backend = running[1] or self._backend

    def _announce(self) -> None:
        """Say that the backend is there, and what it has."""
        assert self._client is not None
        self._heard_device(self._client.health())
        self._post("presets", self._client.presets())

    def _heard_device(self, health: dict[str, Any]) -> None:
        self._device = str(health.get("device", ""))
        self._post("backend", {"state": "ready", "device": self._device})

    def _has_ended(self) -> bool:
        """Whether a local backend that was in use runs no longer. Quick."""
        return self._backend is not None and not self._settings().remote and not self._backend.alive()

    def _look_for_end(self) -> None:
        """Say so once the local backend has ended, as it does by itself when it was idle for long."""
        if self._client is not None and self._has_ended():
            self._client = None
            self._post("backend", {"state": "none"})

    def _ask_device(self) -> None:
        """Say on which device the backend works, as soon as it knows: its worker process has to look first."""
        if self._client is None or self._device not in ("", "auto") or time.monotonic() < self._device_due:
            return
        self._device_due = time.monotonic() + DEVICE_S
        with contextlib.suppress(BackendError, Cancelled):
            health = self._aside().health()
            if health.get("device") != self._device:
                self._heard_device(health)

    def _aside(self) -> Client:
        """A client for questions that nobody waits for: a command cuts them short."""
        assert self._client is not None
        return Client(self._client.target.address, self._client.token, HEALTH_S, self._interrupt)

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """The answer to a question for which the backend may have to load its packages first."""
        limit, told = time.monotonic() + link.START_S, False
        try:
            while True:
                try:
                    return ask()
                except NotYet:
                    if time.monotonic() > limit:
                        raise
                if not told:
                    self._post("backend", {"state": "loading"})
                told = True
                if self._closing.wait(AGAIN_S):
                    raise Cancelled
        finally:
            if told:
                self._post("backend", {"state": "ready", "device": self._device})
