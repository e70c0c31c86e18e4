"""HTTP to the backend: jobs, their events, their files. Blocks, so call it from a thread; never imports bpy."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .messages import BackendError, Cancelled

__all__ = ["BackendError", "Cancelled", "Client"]


class Client:
    """A backend at `address` (http://host:port). Every method raises BackendError, and none blocks for ever.

    timeout_s bounds one whole exchange of JSON; of uploads, downloads and events it bounds only the silence in between.
    No connection is kept between calls: one Client may be used by several threads.
    """

    def __init__(self, address: str, token: str, timeout_s: float = 10.0) -> None: ...

    def health(self) -> dict[str, Any]:
        """{"version", "api", "state", "device", "token_ok"}; answers without a good token too."""
        ...

    def presets(self) -> list[dict[str, Any]]:
        """[{"name", "description", "settings"}]."""
        ...

    def models(self) -> list[dict[str, Any]]:
        """[{"name", "kind", "folder", "present", "licence", "size_mb"}]."""
        ...

    def vocabulary(self, preset: str) -> dict[str, Any]:
        """{"limited", "nouns", "colours", "relations", "words"} of the preset's models."""
        ...

    def parse(self, prompt: str, preset: str) -> dict[str, Any]:
        """{"slots", "relations", "warnings"} that the backend reads from the prompt."""
        ...

    def submit(self, request: dict[str, Any], meshes: bytes | None = None) -> dict[str, Any]:
        """The accepted Job. meshes: a GLB whose node names are slot names."""
        ...

    def jobs(self, limit: int = 50, before: str | None = None) -> dict[str, Any]:
        """{"jobs": [Job...] newest first, "next": id for `before` or None}."""
        ...

    def job(self, id: str) -> dict[str, Any]:
        """The Job."""
        ...

    def cancel(self, id: str) -> dict[str, Any]:
        """The Job, cancelling or cancelled."""
        ...

    def resume(self, id: str, steps: int | None = None) -> dict[str, Any]:
        """The Job, queued again; steps: so many more steps of a finished one."""
        ...

    def delete(self, id: str) -> None:
        """Nothing; the job and its files are gone from the backend."""
        ...

    def events(
        self, id: str, last_id: int | None = None, stop: threading.Event | None = None
    ) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """(event id, event, data) as they come: "state" (data: Job), "progress" (Progress), "log", "done" (Job).

        Reconnects after the last event when the connection is lost; ends after "done", or within half a second of `stop`.
        """
        ...

    def download(
        self,
        id: str,
        name: str,
        path: Path,
        on_progress: Callable[[int, int | None], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Path:
        """`path`, which now holds the job's file `name` ("result.glb", "preview.jpg", "report.json", ...) to its last byte.

        Until then nothing stands at `path` (or what stood there before). on_progress(bytes so far, bytes or None).
        Raises Cancelled after `stop`.
        """
        ...

    def shutdown(self) -> None:
        """Nothing; the backend is ending."""
        ...

    def unload(self) -> bool:
        """True when models were freed."""
        ...
