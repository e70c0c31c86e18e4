"""What the network thread does: the connection, and a method for each thing that can be asked for. No bpy."""

import contextlib
import json
import queue
import shutil
import threading
from pathlib import Path
from typing import Any, NamedTuple

from . import link
from .answers import Job, read_job
from .backend_process import Backend
from .client import Client
from .install import Installer
from .link import Config
from .messages import BackendError
from .parts import Part

HISTORY_PAGE = 20
FILES = ("result.glb", "result.png", "report.json", "preview.png", "turntable.gif", "log")  # what "show files" fetches


class Message(NamedTuple):
    """Something for the main thread."""

    kind: str  # backend, submitted, job, progress, preview, thumbnail, result, files, history, deleted, ...
    data: Any = None


class Command(NamedTuple):
    """Something for the thread."""

    name: str  # of a method of Network, without its leading "do_"
    config: Config
    arguments: dict[str, Any]


class Errands:
    """A connection and what is done with it. Every method runs in the network thread; answers go into `messages`."""

    def __init__(self) -> None:
        self.messages: queue.Queue[Message] = queue.Queue()
        self._commands: queue.Queue[Command | None] = queue.Queue()
        self._closing = threading.Event()
        self._give_up = threading.Event()  # the user does not want to wait for the backend's start any longer
        self._cancel_install = threading.Event()
        self._config: Config | None = None
        self._client: Client | None = None
        self._backend: Backend | None = None
        self._owned = False  # the local backend was started here
        self._followed: str | None = None  # id of the job whose events are listened to
        self._last_event: int | None = None
        self._preview = 0
        self._retry_at = 0.0
        self._missing: list[tuple[str, str]] = []  # job and file of pictures to fetch when there is nothing else to do

    def do_adopt(self) -> None:
        """Use a backend that runs already."""
        running = link.adopt(self._settings())
        if running is None:
            self._post("backend", {"state": "none"})
            return
        before = self._backend
        self._client, self._backend = running
        if before is None or self._backend is None or self._backend.pid != before.pid:
            self._owned = False
        self._announce()
        self.do_history(None)

    def do_connect(self) -> None:
        self._connected()
        self._retry_at = 0.0
        self.do_history(None)

    def do_restart(self) -> None:
        config = self._settings()
        self._post("backend", {"state": "starting"})
        if config.remote:
            self._client = None
        else:
            self._backend = link.backend_for(config)
            self._client = Client(*self._backend.restart(link.START_S, self._give_up))
            self._owned = True
            self._announce()
        self.do_connect()

    def do_stop(self) -> None:
        config = self._settings()
        if self._backend is None and not config.remote:
            self._backend = link.backend_for(config)
        if self._backend is not None:
            self._backend.stop()
        self._client, self._backend, self._followed = None, None, None
        self._post("stopped")
        self._post("backend", {"state": "none"})

    def do_unload(self) -> None:
        self._post("unloaded", self._client is not None and self._client.unload())

    def do_submit(self, request: dict[str, Any], part: Part | None, ticket: int) -> None:
        job = read_job(self._connected().submit(request, part))
        self._post("submitted", (job, ticket))
        self.do_follow(job.id)

    def do_follow(self, id: str) -> None:
        self._connected()
        self._followed, self._last_event, self._preview, self._retry_at = id, None, 0, 0.0

    def do_cancel(self, id: str) -> None:
        self._heard_job(read_job(self._connected().cancel(id)))

    def do_resume(self, id: str, steps: int | None, ticket: int) -> None:
        job = read_job(self._connected().resume(id, steps))
        self._post("submitted", (job, ticket))
        self.do_follow(job.id)

    def do_delete(self, id: str) -> None:
        self._connected().delete(id)
        self._missing = [(job, name) for job, name in self._missing if job != id]
        shutil.rmtree(self._settings().cache / id, ignore_errors=True)
        self._post("deleted", id)

    def do_history(self, before: str | None) -> None:
        """A page of jobs, and the pictures of those that have ended; what is not here yet is fetched later."""
        answer = self._connected().jobs(HISTORY_PAGE, before)
        jobs = [read_job(job) for job in answer["jobs"]]
        self._post("history", (jobs, before, answer.get("next") is not None))
        for job in jobs:
            if not job.ended or not job.has_preview:
                continue
            name = f"after_{job.seconds or 0.0:.1f}_s.jpg"  # another one once it has gone on
            path = self._settings().cache / job.id / name
            if path.is_file():
                self._post("thumbnail", (job.id, path))
            elif (job.id, name) not in self._missing:
                self._missing.append((job.id, name))

    def do_vocabulary(self, preset: str) -> None:
        """The words that a preset's models know, from the backend where it runs, else as it said the last time."""
        config = self._settings()
        path = config.cache / "vocabulary.json"
        kept = _read_json(path)
        key = f"{preset} of {config.address}" if config.remote else preset
        if self._client is not None:
            kept[key] = self._client.vocabulary(preset)
            with contextlib.suppress(OSError):  # then it is asked again the next time
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(kept), encoding="utf-8")
        if key in kept:
            self._post("vocabulary", (preset, kept[key]))

    def do_parse(self, prompt: str, preset: str) -> None:
        self._post("parsed", (prompt, self._connected().parse(prompt, preset)))

    def do_result(self, id: str) -> None:
        """Fetch a result; whoever gets it finds a whole file."""
        client, folder = self._connected(), self._folder(id)
        job = read_job(client.job(id))
        try:
            path = client.download(id, job.result.name, folder / job.result.name, stop=self._closing)
            self._post("result", (job, job.result.check(path)))
        except BackendError as error:
            if error.mend in ("", "log"):  # nothing else is to be mended, so that it may well come the next time
                error.mend, error.job = "import", id
            raise

    def do_files(self, id: str) -> None:
        client, folder = self._connected(), self._folder(id)
        for name in FILES:
            try:
                client.download(id, name, folder / ("log.txt" if name == "log" else name), stop=self._closing)
            except BackendError:  # a job that did not end has only some of them
                continue
        self._post("files", folder)

    def do_install(self) -> None:
        config = self._settings()
        self._cancel_install.clear()
        self._post("backend", {"state": "installing"})
        if self._backend is not None:
            self._backend.stop()  # Windows locks the files of what runs
            self._client = self._backend = None

        def say(line: str) -> None:
            self._post("install_line", line)

        Installer(config.source, config.home, say, self._cancel_install, config.cuda, config.torch_index).run()
        self._post("installed")
        self.do_connect()

    def _post(self, kind: str, data: Any = None) -> None:
        self.messages.put(Message(kind, data))

    def _settings(self) -> Config:
        assert self._config is not None
        return self._config

    def _connected(self) -> Client:
        """A client of a backend that runs, started where need be."""
        config = self._settings()
        lost = self._client is None or (self._backend is not None and not config.remote and not self._backend.alive())
        if lost:
            self._post("backend", {"state": "starting"})
            self._client = None
            running = link.adopt(config)
            self._owned = running is None
            self._client, self._backend = running or link.connect(config, self._give_up)
            self._announce()
        assert self._client is not None
        return self._client

    def _announce(self) -> None:
        """Say that the backend is there, and what it has."""
        assert self._client is not None
        health = self._client.health()
        self._post("backend", {"state": "ready", "device": str(health.get("device", ""))})
        self._post("presets", self._client.presets())

    def _look_for_end(self) -> None:
        """Say so once the local backend has ended, as it does by itself when it was idle for long."""
        if self._client is not None and self._backend is not None and not self._backend.alive():
            self._client = None
            self._post("backend", {"state": "none"})

    def _heard_job(self, job: Job) -> None:
        self._post("job", job)
        if job.ended:
            self._followed = None

    def _fetch_preview(self, id: str, kind: str, name: str) -> None:
        """Fetch a job's picture; a job without one is none the worse."""
        assert self._client is not None
        path = self._folder(id) / name
        try:
            self._client.download(id, "preview.jpg", path, stop=self._closing)
        except BackendError:
            return
        self._post(kind, (id, path))

    def _fetch_missing(self) -> None:
        """Fetch one of the missing pictures; without a backend none, the next history names them again."""
        if self._client is None:
            self._missing.clear()
        elif self._missing:
            id, name = self._missing.pop(0)
            self._fetch_preview(id, "thumbnail", name)

    def _folder(self, id: str) -> Path:
        """The folder for what is fetched of a job. `id` has been checked by read_job: it is never a path."""
        folder = self._settings().cache / id
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BackendError(
                "The folder for results cannot be made", str(folder), error.strerror or str(error), "settings"
            ) from error
        return folder


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one where it cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
