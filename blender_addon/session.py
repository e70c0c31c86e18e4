"""What the add-on knows and asks for on the main thread, outside of Blender's data."""

import math
import time
from typing import Any, NamedTuple

import bpy

from . import mirror, preferences
from .answers import Job
from .arrivals import Arrived, Read
from .backend_process import Backend
from .collect import Collected
from .collect_picture import CollectedPicture
from .messages import BackendError
from .network import Network
from .parts import meshes_part
from .pictures import Pictures
from .place_picture import Editor

WORDS_S = 3.0  # until a vocabulary that was not there is asked for again


class Origin(NamedTuple):
    """Where a job was sent from, as long as this file stays open; undo does not forget it."""

    scene: str
    editor: Editor | None = None  # that is to show the picture


class Session:
    """Everything the add-on holds outside of Blender's data, from register() to unregister()."""

    def __init__(self) -> None:
        self.network = Network()
        self.local: Backend | None = None  # that was used without a window, when the network thread is asked nothing
        self.pictures = Pictures()
        self.backend = {"state": "unknown"}
        self.fault: BackendError | None = None
        self.install_line = ""
        self.reading: tuple[str, str] | None = None  # a prompt that is being read, and the scene it is read for
        self.job: Job | None = None  # the run that the Generate panel shows
        self.sending = False  # a request is on its way
        self.ticket = 0  # of the request sent last; one that was cancelled meanwhile has an older one
        self.begun = False  # the timer has run
        self.history: list[Job] = []
        self.history_more = False
        self.vocabulary: dict[str, dict[str, Any]] = {}  # by preset
        self.asked: set[str] = set()  # presets whose vocabulary was asked for
        self.words_due = math.inf  # when they are asked for again, on time.monotonic()'s clock
        self.presets: list[dict[str, Any]] = []
        self.origins: dict[str, Origin] = {}
        self.sent: set[str] = set()  # jobs that were sent from here, for whichever file
        self.watched = ""  # a run that the panel shows though it may be none of ours
        self.sender: Origin | None = None  # of the job that is being sent
        self.read: Read | None = None  # what was made of it
        self.fetching: list[str] = []  # jobs whose results are on their way, in the order in which they come
        self.wanted: set[str] = set()  # those of them that the user asked to import into the open file
        self.left: set[str] = set()  # those of them that were asked for in a file that is closed now
        self.waiting: list[Arrived] = []

    def ask(self, name: str, **arguments: Any) -> None:
        """Have the network thread do something."""
        if name == "result":
            self.fetching.append(arguments["id"])
        self.network.ask(name, preferences.config(), **arguments)

    def generate(self, scene: bpy.types.Scene, collected: Collected) -> None:
        """Send a request; from now on the panel shows its run."""
        part = None if collected.meshes is None else meshes_part(collected.meshes)
        self._begin(Origin(scene.name))
        self.ask("submit", request=collected.request, part=part, ticket=self.ticket)

    def make_picture(self, scene: bpy.types.Scene, collected: CollectedPicture, editor: Editor | None) -> None:
        """Send a request for a picture, which is to be shown in that editor."""
        self._begin(Origin(scene.name, editor))
        self.ask("submit", request=collected.request, part=collected.part, ticket=self.ticket)

    def resume(self, scene: bpy.types.Scene, id: str, steps: int | None, editor: Editor | None = None) -> None:
        """Let a stopped run go on, or refine a finished one."""
        self._begin(Origin(scene.name, editor))
        self.ask("resume", id=id, steps=steps, ticket=self.ticket)

    def cancel(self) -> None:
        """Stop the run, or the sending of it."""
        status = mirror.status()
        if status.state == "sending":
            self.ticket, self.sending = self.ticket + 1, False
            self.network.give_up()
            mirror.show_idle(status)
        elif status.job:
            status.state = "cancelling"
            self.ask("cancel", id=status.job)

    def show_run(self, job: Job) -> None:
        """From now on the panel shows this run, whoever sent it."""
        self.job, self.watched = job, job.id
        mirror.show_job(mirror.status(), job)
        self.ask("follow", id=job.id)

    def look_away(self) -> None:
        """Show the run no longer; it goes on."""
        self.job, self.watched = None, ""
        mirror.show_idle(mirror.status())
        self.ask("unfollow")

    def fail(self, error: BackendError) -> None:
        """Show an error until something else is tried."""
        self.fault = error
        mirror.show_fault(mirror.status(), error, self.job)

    def clear_fault(self) -> None:
        self.fault = None
        mirror.clear_fault(mirror.status())

    def import_result(self, id: str) -> None:
        """Fetch a result and place it into the scene that is open when it arrives."""
        self.wanted.add(id)
        self.ask("result", id=id)

    def fetched(self, id: str) -> bool:
        """Whether a result that came, or failed to, was the last one asked for of this job."""
        if id in self.fetching:
            del self.fetching[: self.fetching.index(id) + 1]  # one before it that is missing will not come
        return id not in self.fetching

    def job_called(self, id: str) -> Job | None:
        """A job whose result waits, one of the history, or the one that is followed."""
        known = [*(arrived.job for arrived in self.waiting), *self.history, self.job]
        return next((job for job in known if job is not None and job.id == id), None)

    def scene_of(self, job: Job) -> bpy.types.Scene | None:
        """The scene of the open file that the job was sent from."""
        asked = [scene for scene in bpy.data.scenes if scene.diorama.last_job == job.id and scene.is_editable]
        origin = self.origins.get(job.id)
        sent = bpy.data.scenes.get(origin.scene) if origin is not None else None
        if sent is not None and (sent in asked or not asked):  # undo may have made it forget the job
            return sent
        # A copy of a scene says that it asked too, but not under its own name.
        named = (scene for scene in asked if scene.diorama.last_job_scene == scene.name)
        return next(named, asked[0] if asked else None)

    def own(self, job: Job) -> bool:
        """Whether it was sent from here, or from a scene of the open file."""
        return job.id in self.sent or self.scene_of(job) is not None

    def watching(self) -> bool:
        """Whether the run that the panel shows was sent by somebody else."""
        return self.job is not None and not self.own(self.job)

    def other_run(self) -> Job | None:
        """A run of somebody else's that the backend is busy with."""
        return next((job for job in self.history if not job.ended and not self.own(job)), None)

    def say(self, notice: str) -> None:
        """Show good news."""
        mirror.status().notice = notice

    def read_prompt(self, scene: bpy.types.Scene, preset: str) -> None:
        """Have slots and relations made from the scene's prompt."""
        self.clear_fault()
        prompt = scene.diorama.prompt.strip()
        self.reading = (prompt, scene.name)
        self.ask("parse", prompt=prompt, preset=preset)

    def want_vocabulary(self, preset: str) -> None:
        """Ask for the words that a preset's models know, once."""
        if preset not in self.asked:
            self.asked.add(preset)
            self.ask("vocabulary", preset=preset)

    def want_words(self) -> None:
        """Ask for the words of every preset that the open file has chosen."""
        self.words_due = math.inf
        for scene in bpy.data.scenes:
            self.want_vocabulary(scene.diorama.preset)
            self.want_vocabulary(scene.diorama.picture.preset)

    def ask_words_again(self) -> None:
        """The backend does not know them yet, as while it starts: ask in a while."""
        self.asked.clear()
        self.words_due = time.monotonic() + WORDS_S

    def _begin(self, origin: Origin) -> None:
        self.clear_fault()
        self.sending, self.ticket, self.sender = True, self.ticket + 1, origin
        mirror.show_sending(mirror.status())

    def busy(self) -> bool:
        """True while a run is being sent, waits or runs."""
        return mirror.status().state in ("sending", "queued", "running", "cancelling")
