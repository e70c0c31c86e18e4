"""What the buttons of the Generate panel do, and the import of a result."""

import random
from pathlib import Path
from typing import ClassVar

import bpy
from bpy.props import StringProperty

from . import headless, jobs
from .answers import Job
from .collect import collect, problems
from .place import place
from .runs import Begins, Places
from .slots import slots_seen


class DIORAMA_OT_generate(Begins, bpy.types.Operator):
    """Generate what the prompt and the slots say. Without a window this waits until the result is in the scene"""

    bl_idname = "diorama.generate"
    bl_label = "Generate"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return cls.may_begin(problems(context.scene, context.view_layer, slots_seen(context.scene)))

    def begin(self, context: bpy.types.Context) -> None:
        if bpy.app.background:
            headless.generate(context.scene, context.view_layer)
        else:
            jobs.session().generate(context.scene, collect(context.scene, context.view_layer))


class DIORAMA_OT_cancel(bpy.types.Operator):
    """Stop the run. What it has learnt is kept: it can go on from Results. Asks where somebody else sent it"""

    bl_idname = "diorama.cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.window_manager.diorama.state not in ("sending", "queued", "running"):
            cls.poll_message_set("Nothing runs that could be cancelled")
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if not jobs.session().watching():
            return self.execute(context)
        asked = {"title": "Cancel This Run?", "message": "It was sent from elsewhere", "confirm_text": "Cancel It"}
        return context.window_manager.invoke_confirm(self, event, **asked)

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.session().cancel()
        return {"FINISHED"}


class DIORAMA_OT_watch(bpy.types.Operator):
    """Show how this run goes on, though it was sent from elsewhere"""

    bl_idname = "diorama.watch"
    bl_label = "Watch It"

    job: StringProperty()

    def execute(self, context: bpy.types.Context) -> set[str]:
        job = jobs.session().job_called(self.job)
        if job is None or job.ended or jobs.session().busy():
            self.report({"WARNING"}, "There is another run to show now, or this one has ended")
            return {"CANCELLED"}
        jobs.session().show_run(job)
        return {"FINISHED"}


class DIORAMA_OT_look_away(bpy.types.Operator):
    """Show this run no longer. It goes on"""

    bl_idname = "diorama.look_away"
    bl_label = "Stop Watching"

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.session().look_away()
        return {"FINISHED"}


class DIORAMA_OT_random_seed(bpy.types.Operator):
    """Another seed gives another result"""

    bl_idname = "diorama.random_seed"
    bl_label = "Another Seed"
    bl_options: ClassVar = {"UNDO", "INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.scene.diorama.seed = random.randrange(1_000_000)
        return {"FINISHED"}


class DIORAMA_OT_set_preset(bpy.types.Operator):
    """Use this preset"""

    bl_idname = "diorama.set_preset"
    bl_label = "Preset"
    bl_options: ClassVar = {"UNDO", "INTERNAL"}

    name: StringProperty()
    about: StringProperty(options={"SKIP_SAVE"})

    @classmethod
    def description(cls, context: bpy.types.Context, properties: "DIORAMA_OT_set_preset") -> str:
        return properties.about or cls.__doc__ or ""

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.scene.diorama.preset = self.name
        jobs.session().want_vocabulary(self.name)
        return {"FINISHED"}


class DIORAMA_OT_place(Places, bpy.types.Operator):
    """Put a result that has been fetched into its scene"""

    bl_idname = "diorama.place"
    bl_label = "Import Diorama Result"
    bl_options: ClassVar = {"UNDO", "INTERNAL"}

    def put(self, context: bpy.types.Context, path: Path, job: Job, scene: bpy.types.Scene) -> str:
        return f"'{place(path, job, scene, self.select).name}' is in the scene '{scene.name}'"


CLASSES = (
    DIORAMA_OT_generate,
    DIORAMA_OT_cancel,
    DIORAMA_OT_watch,
    DIORAMA_OT_look_away,
    DIORAMA_OT_random_seed,
    DIORAMA_OT_set_preset,
    DIORAMA_OT_place,
)
