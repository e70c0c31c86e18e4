"""HTTP to the backend: jobs, their events, their files. Blocks, so call it from a thread; never imports bpy."""

import contextlib
import http.client
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from .messages import BackendError, Cancelled
from .parts import Part
from .replies import read_events, read_json, read_list, refusal, save_body
from .wire import Lost, exchange, not_ours, read_address

__all__ = ["BackendError", "Cancelled", "Client", "Lost"]

ENDED = ("done", "failed", "cancelled", "interrupted")  # states of a job whose events have ended
SLOW_ANSWER = 3  # x timeout_s: routes that may have to read model files first
EVENTS_SILENCE_S = 30.0  # the service sends a heartbeat every 10 s
RECONNECTS = 6  # in a row without an event between them; the pauses grow from 0.5 s to 5 s


class Client:
    """A backend at `address` (http://host:port). Every method raises BackendError, and none blocks for ever.

    timeout_s bounds one whole exchange of JSON; of uploads, downloads and events it bounds only the silence in between.
    After `stop` every method raises Cancelled, at once.
    No connection is kept between calls: one Client may be used by several threads.
    """

    def __init__(self, address: str, token: str, timeout_s: float = 10.0, stop: threading.Event | None = None) -> None:
        self.target = read_address(address)
        self.token = token.strip()
        self.timeout_s, self.stop = timeout_s, stop
        if not (self.token.isascii() and self.token.isprintable()):
            raise BackendError("The token holds characters that no token has", "", "Copy it again", "settings")

    def health(self) -> dict[str, Any]:
        """{"version", "api", "state", "device", "token_ok"}; answers without a good token too."""
        answer = self._json("GET", "/v1/health")
        if not isinstance(answer.get("version"), str):
            raise not_ours(self.target)
        return answer

    def presets(self) -> list[dict[str, Any]]:
        """[{"name", "description", "settings"}]."""
        return read_list(self._json("GET", "/v1/presets", patience=SLOW_ANSWER), "presets", self.target)

    def models(self) -> list[dict[str, Any]]:
        """[{"name", "kind", "folder", "present", "licence", "size_mb"}]."""
        return read_list(self._json("GET", "/v1/models", patience=SLOW_ANSWER), "models", self.target)

    def vocabulary(self, preset: str) -> dict[str, Any]:
        """{"limited", "nouns", "colours", "relations", "words"} of the preset's models."""
        return self._json("GET", "/v1/vocabulary?" + urlencode({"preset": preset}), patience=SLOW_ANSWER)

    def parse(self, prompt: str, preset: str) -> dict[str, Any]:
        """{"slots", "relations", "warnings"} that the backend reads from the prompt."""
        return self._json("POST", "/v1/parse", {"prompt": prompt, "preset": preset}, patience=SLOW_ANSWER)

    def submit(self, request: dict[str, Any], part: Part | None = None) -> dict[str, Any]:
        """The accepted Job. part: the file that belongs to the request."""
        if part is None:
            return self._json("POST", "/v1/jobs", request, patience=SLOW_ANSWER)
        content_type, body = _multipart(request, part)
        return self._exchange_json("POST", "/v1/jobs", body, content_type, patience=SLOW_ANSWER)

    def jobs(self, limit: int = 50, before: str | None = None) -> dict[str, Any]:
        """{"jobs": [Job...] newest first, "next": id for `before` or None}."""
        query = {"limit": str(limit)} | ({} if before is None else {"before": before})
        answer = self._json("GET", "/v1/jobs?" + urlencode(query))
        read_list(answer, "jobs", self.target)
        return answer

    def job(self, id: str) -> dict[str, Any]:
        """The Job."""
        return self._json("GET", _path(id))

    def cancel(self, id: str) -> dict[str, Any]:
        """The Job, cancelling or cancelled."""
        return self._json("POST", _path(id, "cancel"))

    def resume(self, id: str, steps: int | None = None) -> dict[str, Any]:
        """The Job, queued again; steps: so many more steps of a finished one."""
        return self._json("POST", _path(id, "resume"), {"steps": steps}, patience=SLOW_ANSWER)

    def delete(self, id: str) -> None:
        """Nothing; the job and its files are gone from the backend."""
        self._json("DELETE", _path(id))

    def events(
        self,
        id: str,
        last_id: int | None = None,
        stop: threading.Event | None = None,
        gone: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """(event id, event, data) as they come: "state" (data: Job), "progress" (Progress), "log", "done" (Job).

        Reconnects after the last event when the connection is lost, but once only to a backend that is `gone`; ends
        after "done", or half a second after `stop`.
        """
        failures = 0
        stop = stop or threading.Event()
        while not stop.is_set():
            try:
                for event in self._events_once(id, last_id, stop):
                    failures, last_id = 0, event[0]
                    yield event
                    if event[1] == "done":
                        return
                job = self.job(id)
                if job.get("state") in ENDED:
                    yield last_id or 0, "done", job
                    return
                raise Lost("The backend ended the job's events too early", self.target.address, "Try again", "restart")
            except Cancelled:
                return
            except Lost:
                failures += 1
                if failures > (1 if gone() else RECONNECTS):
                    raise
                stop.wait(min(0.5 * 2 ** (failures - 1), 5.0))

    def download(
        self, id: str, name: str, path: Path, on_progress: Callable[[int, int | None], None] | None = None
    ) -> Path:
        """`path`, which now holds the job's file `name` ("result.glb", "preview.jpg", ...) to its last byte.

        Until then nothing stands at `path` (or what stood there before). on_progress(bytes so far, bytes or None).
        """
        with self._answer("GET", _path(id, name), silence_s=self.timeout_s) as response:
            return save_body(response, self.target, Path(path), on_progress)

    def users(self) -> list[int]:
        """The ids of the processes that need the backend, which runs on their machine."""
        return self._pids("GET", "/v1/clients")

    def join(self, pid: int) -> list[int]:
        """Those, this process now among them: until it ends or leaves, only idleness ends the backend."""
        return self._pids("POST", "/v1/clients", {"pid": pid})

    def leave(self, pid: int) -> list[int]:
        """Those that are left; without any, the backend ends, unless it was started by hand."""
        return self._pids("DELETE", f"/v1/clients/{pid}")

    def shutdown(self) -> None:
        """Nothing; the backend is ending."""
        self._json("POST", "/v1/shutdown")

    def unload(self) -> bool:
        """True when models were freed."""
        return self._json("POST", "/v1/unload").get("freed") is True

    def _events_once(
        self, id: str, last_id: int | None, stop: threading.Event
    ) -> Iterator[tuple[int, str, dict[str, Any]]]:
        headers = {"Accept": "text/event-stream"} | ({} if last_id is None else {"Last-Event-ID": str(last_id)})
        # The wait for the headers is bounded by silence_s too, which is longer here than the usual timeout_s.
        silence_s = max(EVENTS_SILENCE_S, self.timeout_s)
        with self._answer("GET", _path(id, "events"), headers=headers, silence_s=silence_s, stop=stop) as response:
            yield from read_events(response, self.target, last_id or 0)

    def _pids(self, method: str, path: str, body: dict[str, Any] | None = None) -> list[int]:
        pids = self._json(method, path, body).get("pids")
        if not isinstance(pids, list) or not all(isinstance(pid, int) for pid in pids):
            raise not_ours(self.target)
        return pids

    def _json(self, method: str, path: str, body: dict[str, Any] | None = None, *, patience: int = 1) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        return self._exchange_json(method, path, data, "application/json", patience=patience)

    def _exchange_json(
        self, method: str, path: str, body: bytes | None, content_type: str, *, patience: int
    ) -> dict[str, Any]:
        headers = {} if body is None else {"Content-Type": content_type}
        limit_s = patience * self.timeout_s
        with self._answer(method, path, body, headers, silence_s=limit_s, total_s=limit_s) as response:
            return read_json(response, self.target)

    @contextlib.contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        silence_s: float,
        total_s: float | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request with our token, its body not yet read. Raises BackendError for a bad status."""
        headers = {**(headers or {}), **({"Authorization": f"Bearer {self.token}"} if self.token else {})}
        with exchange(
            self.target, method, path, headers, body, silence_s=silence_s, total_s=total_s, stop=stop or self.stop
        ) as response:
            if not 200 <= response.status < 300:
                raise refusal(response, self.target)
            yield response


def _path(id: str, *rest: str) -> str:
    return "/".join(["/v1/jobs", *(quote(part, safe="") for part in (id, *rest))])


def _multipart(request: dict[str, Any], part: Part) -> tuple[str, bytes]:
    """Content type and body of a form with the part "request" (JSON) and the other part."""
    boundary = uuid.uuid4().hex
    disposition = f'form-data; name="{part.name}"; filename="{part.filename}"'
    body = b"".join(
        [
            f'--{boundary}\r\nContent-Disposition: form-data; name="request"\r\n'.encode(),
            b"Content-Type: application/json\r\n\r\n" + json.dumps(request).encode() + b"\r\n",
            f"--{boundary}\r\nContent-Disposition: {disposition}\r\n".encode(),
            f"Content-Type: {part.media_type}\r\n\r\n".encode() + part.data() + b"\r\n",
            f"--{boundary}--\r\n".encode(),
        ]
    )
    return f"multipart/form-data; boundary={boundary}", body
