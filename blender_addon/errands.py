"""What the network thread does: a method for each thing that can be asked for. No bpy."""

import contextlib
import json
import queue
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from . import link
from .answers import Job, read_job
from .client import Client
from .connection import Connection
from .install import Installer
from .link import Config
from .messages import BackendError, Cancelled
from .parts import Part

HISTORY_PAGE = 20
FILES = ("result.glb", "result.png", "report.json", "preview.png", "turntable.gif", "log")  # what "show files" fetches
OTHERS_S = 5.0  # between two looks at jobs that somebody else sent


class Command(NamedTuple):
    """Something for the thread."""

    name: str  # of a method of Network, without its leading "do_"
    config: Config
    arguments: dict[str, Any]


class Errands(Connection):
    """What is done with a connection; answers go into `messages`."""

    def __init__(self) -> None:
        super().__init__()
        self._commands: queue.Queue[Command | None] = queue.Queue()
        self._cancel_install = threading.Event()
        self._followed: str | None = None  # id of the job whose events are listened to
        self._last_event: int | None = None
        self._mute = False  # that the followed job cannot be heard has been said
        self._preview = 0
        self._retry_at = 0.0
        self._missing: list[tuple[str, str]] = []  # job and file of pictures to fetch when there is nothing else to do
        self._unended: dict[str, str] = {}  # id and state of jobs that had not ended when the history was asked for
        self._unended_due = 0.0

    def do_adopt(self) -> None:
        """Use a backend that runs already."""
        running = link.adopt(self._settings(), self._asking())
        if running is None:
            self._post("backend", {"state": "none"})
            return
        self._take(running)
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
            self._backend = link.backend_for(config, self._asking())
            self._client = Client(*self._backend.restart(link.START_S, self._give_up), stop=self._closing)
            self._announce()
        self.do_connect()

    def do_stop(self) -> None:
        config = self._settings()
        if not config.remote:
            (self._backend or link.backend_for(config, self._asking())).stop()
        self._client, self._followed = None, None
        self._post("stopped")
        self._post("backend", {"state": "none"})

    def do_unload(self) -> None:
        self._post("unloaded", self._client is not None and self._client.unload())

    def do_submit(self, request: dict[str, Any], part: Part | None, ticket: int) -> None:
        self._begin(lambda: self._connected().submit(request, part), ticket)

    def do_follow(self, id: str) -> None:
        self._connected()
        self._followed, self._last_event, self._mute = id, None, False
        self._preview, self._retry_at = 0, 0.0

    def do_unfollow(self) -> None:
        self._followed = None

    def do_cancel(self, id: str) -> None:
        self._heard_job(read_job(self._connected().cancel(id)))

    def do_resume(self, id: str, steps: int | None, ticket: int) -> None:
        self._begin(lambda: self._connected().resume(id, steps), ticket)

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
        if before is None:
            self._unended = {job.id: job.state for job in jobs if not job.ended}
        for job in jobs:
            self._want_picture(job)

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
        client = self._connected()
        self._post("parsed", (prompt, self._patiently(lambda: client.parse(prompt, preset))))

    def do_result(self, id: str) -> None:
        """Fetch a result; whoever gets it finds a whole file."""
        client, folder = self._connected(), self._folder(id)
        job = read_job(client.job(id))
        try:
            path = client.download(id, job.result.name, folder / job.result.name)
            self._post("result", (job, job.result.check(path)))
        except BackendError as error:
            if error.mend in ("", "log"):  # nothing else is to be mended, so that it may well come the next time
                error.mend, error.job = "import", id
            raise

    def do_files(self, id: str) -> None:
        client, folder = self._connected(), self._folder(id)
        for name in FILES:
            try:
                client.download(id, name, folder / ("log.txt" if name == "log" else name))
            except BackendError:  # a job that did not end has only some of them
                continue
        self._post("files", folder)

    def do_install(self) -> None:
        config = self._settings()
        self._cancel_install.clear()
        link.free_environment(config, self._asking())
        self._client = None
        self._post("backend", {"state": "installing"})

        def say(line: str) -> None:
            self._post("install_line", line)

        Installer(config.source, config.home, say, self._cancel_install, config.cuda, config.torch_index).run()
        self._post("installed")
        self.do_connect()

    def _begin(self, send: Callable[[], dict[str, Any]], ticket: int) -> None:
        """Send what begins a run, and follow it. The ticket comes back with the answer, also with a refusal."""
        try:
            job = read_job(send())
        except BackendError as error:
            error.ticket = ticket
            raise
        self._post("submitted", (job, ticket))
        self.do_follow(job.id)

    def _heard_job(self, job: Job) -> None:
        self._post("job", job)
        if job.ended:
            self._followed = None
            self._unended.pop(job.id, None)

    def _look_at_others(self) -> None:
        """Say what has become of jobs that are not followed: a new one waits for them."""
        if self._client is None or time.monotonic() < self._unended_due:
            return
        self._unended_due = time.monotonic() + OTHERS_S
        for id, state in list(self._unended.items()):
            if id == self._followed:
                continue
            try:
                job = read_job(self._aside().job(id))
            except Cancelled:
                return
            except BackendError as error:
                if error.mend == "":  # it was deleted
                    self._unended.pop(id)
                    self._post("deleted", id)
                continue
            if job.state != state:
                self._unended[id] = job.state
                self._post("other", job)
            if job.ended:
                self._unended.pop(id)
                self._want_picture(job)

    def _want_picture(self, job: Job) -> None:
        """Show the picture of a job that has ended, or fetch it when there is nothing else to do."""
        if not job.ended or not job.has_preview:
            return
        name = f"after_{job.seconds or 0.0:.1f}_s.jpg"  # another one once it has gone on
        path = self._settings().cache / job.id / name
        if path.is_file():
            self._post("thumbnail", (job.id, path))
        elif (job.id, name) not in self._missing:
            self._missing.append((job.id, name))

    def _fetch_preview(self, id: str, kind: str, name: str) -> None:
        """Fetch a job's picture; a job without one is none the worse."""
        assert self._client is not None
        path = self._folder(id) / name
        try:
            self._client.download(id, "preview.jpg", path)
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
