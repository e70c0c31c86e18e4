"""When the service ends by itself: the processes it is there for have ended, or nobody has needed it for long."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ..errors import UserError
from .errors import WrongState
from .neighbours import Neighbour

WATCH_S = 1.0

logger = logging.getLogger(__name__)


class Lifetime:
    """Watches from a thread, and calls `end`. Its other methods may be called from any thread."""

    def __init__(
        self, parent_pid: int | None, idle_s: float, busy: Callable[[], bool], end: Callable[[], None]
    ) -> None:
        """parent_pid: the first client; without one the service was started by hand, and outlives all its clients.

        idle_s: seconds without a request or a job; 0 for ever. busy: whether there are jobs to run; where it cannot
        tell and raises a UserError, there may be some.
        """
        self._by_hand = parent_pid is None
        self._clients = {} if parent_pid is None else {parent_pid: Neighbour(parent_pid)}
        self._idle_s, self._busy, self._end = idle_s, busy, end
        self._last = time.monotonic()
        self._lock, self._ending = threading.Lock(), threading.Event()

    def seen(self) -> None:
        """Somebody needs the service."""
        self._last = time.monotonic()

    def start(self) -> None:
        threading.Thread(target=self._watch, name="lifetime", daemon=True).start()

    def clients(self) -> list[int]:
        """The ids of the processes that the service is there for."""
        with self._lock:
            self._forget_the_dead()
            return list(self._clients)

    def join(self, pid: int) -> list[int]:
        """The clients, this process now among them. Raises WrongState when the service ends already."""
        with self._lock:
            if self._ending.is_set():
                raise WrongState("the service ends", where="clients", remedy="Start it again once it has ended")
            self._forget_the_dead()  # first: another process may have got the id of a dead one
            if pid not in self._clients:
                self._clients[pid] = Neighbour(pid)
            return list(self._clients)

    def leave(self, pid: int) -> list[int]:
        """The clients that are left when this process needs the service no longer. After the last one it ends."""
        with self._lock:
            known = self._clients.pop(pid, None) is not None
            self._forget_the_dead()
            if known and not self._clients and not self._by_hand:
                logger.info("the last client has left")
                self._begin_to_end()
            return list(self._clients)

    def end(self) -> None:
        """End now, whoever is there."""
        with self._lock:
            self._begin_to_end()

    def _begin_to_end(self) -> None:
        self._ending.set()
        self._end()

    def _forget_the_dead(self) -> None:
        self._clients = {pid: client for pid, client in self._clients.items() if client.alive}

    def _watch(self) -> None:
        while not self._ending.wait(min(WATCH_S, self._idle_s / 4 or WATCH_S)):
            try:
                busy = self._busy()
            except UserError:
                busy = True
            if busy:
                self.seen()
            with self._lock:
                self._forget_the_dead()
                if not self._clients and not self._by_hand:
                    logger.info("the processes it was there for have ended")
                    self._begin_to_end()
                elif self._idle_s and time.monotonic() - self._last > self._idle_s:
                    logger.info("idle for %.0f s", self._idle_s)
                    self._begin_to_end()
