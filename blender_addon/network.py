"""The one thread that talks to the backend: commands in, messages out, nothing else shared. Never imports bpy."""

import queue
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from .answers import read_job, read_progress
from .errands import Command, Errands
from .link import Config
from .messages import BackendError, Cancelled
from .processes import wait_for_end

ENDING_S = 0.5  # that a process which was killed may take to be gone
RETRY_S = 5.0  # between attempts to follow a job of a backend that does not answer


class Network(Errands):
    """The thread, from its construction to close(). Its public methods, and `messages`, are for the main thread."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.Thread(target=self._run, name="diorama-network", daemon=True)
        self._thread.start()

    def ask(self, name: str, config: Config, **arguments: Any) -> None:
        """Have the thread do `name`; its answer comes as a message."""
        self._commands.put(Command(name, config, arguments))
        self._interrupt.set()

    def cancel_install(self) -> None:
        self._cancel_install.set()

    def give_up(self) -> None:
        """Wait no longer for a backend that is starting."""
        self._give_up.set()

    def close(self, wait_s: float) -> bool:
        """True when the thread has ended within wait_s, and with it a backend that nobody else needs.

        Else both end a little later.
        """
        self._closing.set()
        self._interrupt.set()
        self._give_up.set()
        self._cancel_install.set()
        self._commands.put(None)
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._guarded("follow", self._follow)
            try:
                command = self._commands.get(timeout=0.0 if self._missing else 0.2)
            except queue.Empty:
                self._look_around()
                continue
            if command is None:  # from close()
                break
            if not self._closing.is_set():
                self._give_up.clear()
            self._use(command.config)
            method = getattr(self, f"do_{command.name}")
            self._guarded(command.name, lambda: method(**command.arguments))  # noqa: B023 - called at once
        if self._backend is not None:
            self._guarded("close", self._backend.leave)

    def _look_around(self) -> None:
        """What is to be done while there are no commands."""
        self._look_for_end()
        self._guarded("thumbnail", self._fetch_missing)
        self._guarded("device", self._ask_device)
        self._guarded("others", self._look_at_others)

    def _guarded(self, name: str, action: Callable[[], None]) -> None:
        """Do it; every fault becomes a message."""
        try:
            action()
        except Cancelled:
            self._post("cancelled", name)
        except BackendError as error:
            self._fault(name, error)
        except Exception as error:  # the thread's edge: whatever happens, the next command must be heard
            traceback.print_exc()
            what = f"The add-on met a fault of its own: {type(error).__name__}: {error}"
            self._fault(name, BackendError(what, "", "Please report it, with what Blender's console shows", "log"))

    def _fault(self, name: str, error: BackendError) -> None:
        if name == "follow":
            self._retry_at = time.monotonic() + RETRY_S
            # Connections are cut a moment before a process has ended.
            if self._backend is not None and not self._settings().remote and wait_for_end(self._backend.pid, ENDING_S):
                self._client = None  # it died: wait until the user has it started again
            if self._mute:
                return
            self._mute = True  # the same news every few seconds is none
        if name == "cancel" and self._client is None:  # there is no backend that could still work on it
            self._followed = None
            self._post("stopped")
        self._post("fault", (name, error))

    def _use(self, config: Config) -> None:
        before, self._config = self._config, config
        if before is not None and config.chosen == before.chosen:
            return
        self._client, self._missing, self._unended = None, [], {}
        if self._followed is not None:
            self._followed = None
            self._post("stopped")

    def _follow(self) -> None:
        """Listen to the followed job until it ends, a command comes, or there are pictures to fetch meanwhile."""
        self._interrupt.clear()
        silent = self._followed is None or self._client is None or time.monotonic() < self._retry_at
        if silent or not self._commands.empty() or self._closing.is_set():
            return
        assert self._client is not None and self._followed is not None
        events = self._client.events(self._followed, self._last_event, self._interrupt, self._has_ended)
        for event_id, kind, data in events:
            self._last_event, self._mute = event_id, False
            if kind in ("state", "done"):
                self._heard_job(read_job(data))
            elif kind == "progress":
                progress = read_progress(data)
                self._post("progress", (self._followed, progress))
                if progress.preview != self._preview:
                    self._preview = progress.preview
                    # Blender keeps small pictures by path and second: a new one needs another name.
                    self._fetch_preview(self._followed, "preview", f"live_{progress.preview % 4}.jpg")
            self._guarded("device", self._ask_device)
            if self._missing:  # one after each event, which the stream sends at least every few seconds
                self._guarded("thumbnail", self._fetch_missing)
            if self._followed is None:
                return
