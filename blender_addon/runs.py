"""What the buttons for scenes and for pictures have in common: a run is begun, its result is put into the file."""

from collections.abc import Iterable
from pathlib import Path

import bpy
from bpy.props import BoolProperty, StringProperty

from . import jobs
from .answers import Job
from .collect import LayoutError, Problem
from .messages import BackendError
from .results import AGAIN
from .whole import PlaceError

RUNNING = "A generation is running: wait for it, or cancel it"
WATCHING = "The panel shows a run that was sent from elsewhere: stop watching it first"
STOPPED = "The run was stopped"


class Begins:
    """An operator that begins a run."""

    @classmethod
    def may_begin(cls, problems: Iterable[Problem | str] = ()) -> bool:
        """Whether it can begin; where it cannot, the button says why."""
        session, why = jobs.session(), next(map(str, problems), "")
        if session.busy():
            why = WATCHING if session.watching() else RUNNING
        if why:
            cls.poll_message_set(why)
        return not why

    def begin(self, context: bpy.types.Context) -> None:
        """Send the request; without a window, wait for its result. Raises LayoutError, BackendError or PlaceError."""
        raise NotImplementedError

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            self.begin(context)
        except (LayoutError, BackendError, PlaceError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        except KeyboardInterrupt:  # Blender would tell it as a fault of the operator's
            self.report({"ERROR"}, STOPPED)
            return {"CANCELLED"}
        return {"FINISHED"}


class Places:
    """An operator that puts a result, which has been fetched, into the file."""

    job: StringProperty()
    filepath: StringProperty()
    select: BoolProperty(description="The user asked for it here; else it goes to where it was sent from")

    def put(self, context: bpy.types.Context, path: Path, job: Job, scene: bpy.types.Scene) -> str:
        """Put the result into the file; what is told of it. Raises PlaceError."""
        raise NotImplementedError

    def execute(self, context: bpy.types.Context) -> set[str]:
        session = jobs.session()
        job = session.job_called(self.job)
        if job is None:
            self.report({"ERROR"}, "This result is not known any more")
            return {"CANCELLED"}
        scene = context.scene if self.select else (session.scene_of(job) or context.scene)
        session.say("")
        try:
            session.say(self.put(context, Path(self.filepath), job, scene))
        except PlaceError as error:
            session.fail(BackendError(str(error), self.filepath, AGAIN, "import", job.id))
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}
