"""What the buttons of the Results panel do."""

import json
from typing import ClassVar

import bpy
from bpy.props import IntProperty, StringProperty

from . import jobs
from .answers import as_list, text, whole
from .parsed import add_parsed
from .slots import slots_of


class DIORAMA_OT_refresh(bpy.types.Operator):
    """Ask the backend for its results. Starts it where it does not run"""

    bl_idname = "diorama.refresh"
    bl_label = "Refresh"

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.session().clear_fault()
        jobs.session().ask("history", before=None)
        return {"FINISHED"}


class DIORAMA_OT_more_results(bpy.types.Operator):
    """Show older results too"""

    bl_idname = "diorama.more_results"
    bl_label = "Older Results"

    def execute(self, context: bpy.types.Context) -> set[str]:
        history = jobs.session().history
        jobs.session().ask("history", before=history[-1].id if history else None)
        return {"FINISHED"}


class DIORAMA_OT_import_result(bpy.types.Operator):
    """Fetch this result and put it into the open scene, once more if it is there already"""

    bl_idname = "diorama.import_result"
    bl_label = "Import"

    job: StringProperty()

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.session().clear_fault()
        jobs.session().import_result(self.job)
        return {"FINISHED"}


class DIORAMA_OT_use_settings(bpy.types.Operator):
    """Take over prompt, preset, seed and settings of this run, and its slots where the scene has none"""

    bl_idname = "diorama.use_settings"
    bl_label = "Use These Settings"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    job: StringProperty()

    def execute(self, context: bpy.types.Context) -> set[str]:
        job = jobs.session().job_called(self.job)
        if job is None:
            self.report({"WARNING"}, "This run is not known any more: refresh the results")
            return {"CANCELLED"}
        request, settings = job.request, context.scene.diorama
        settings.prompt, settings.negative_prompt = text(request.get("prompt")), text(request.get("negative_prompt"))
        settings.preset = text(request.get("preset")) or settings.preset
        jobs.session().want_vocabulary(settings.preset)
        settings.seed = whole(request.get("seed"))
        overrides = dict(request.get("settings") or {}) if isinstance(request.get("settings"), dict) else {}
        settings.steps, settings.texture_px = whole(overrides.pop("steps", 0)), whole(overrides.pop("texture_px", 0))
        settings.overrides = json.dumps(overrides) if overrides else ""
        if as_list(request.get("slots")) and not slots_of(context.scene):
            add_parsed(context.scene, request, (0.0, 0.0, 0.0))
        return {"FINISHED"}


class DIORAMA_OT_resume(bpy.types.Operator):
    """Go on from here: a stopped run goes on, a finished one is refined with more steps"""

    bl_idname = "diorama.resume"
    bl_label = "Go On"

    job: StringProperty()
    steps: IntProperty(name="More Steps", description="Optimisation steps to add", default=100, min=1, max=100000)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if jobs.session().busy():
            cls.poll_message_set("A generation is running: wait for it, or cancel it")
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if self._finished():
            return context.window_manager.invoke_props_dialog(self, title="Refine With More Steps")
        return self.execute(context)

    def draw(self, context: bpy.types.Context) -> None:
        self.layout.prop(self, "steps")

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.session().resume(context.scene, self.job, self.steps if self._finished() else None)
        return {"FINISHED"}

    def _finished(self) -> bool:
        job = jobs.session().job_called(self.job)
        return job is not None and job.state == "done"


class DIORAMA_OT_show_files(bpy.types.Operator):
    """Fetch the files of this run, and open their folder"""

    bl_idname = "diorama.show_files"
    bl_label = "Show Files"

    job: StringProperty()

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.session().ask("files", id=self.job)
        return {"FINISHED"}


class DIORAMA_OT_delete_result(bpy.types.Operator):
    """Delete this run and its files from the backend. What is in scenes already stays there"""

    bl_idname = "diorama.delete_result"
    bl_label = "Delete This Result?"

    job: StringProperty()

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.session().ask("delete", id=self.job)
        return {"FINISHED"}


CLASSES = (
    DIORAMA_OT_refresh,
    DIORAMA_OT_more_results,
    DIORAMA_OT_import_result,
    DIORAMA_OT_use_settings,
    DIORAMA_OT_resume,
    DIORAMA_OT_show_files,
    DIORAMA_OT_delete_result,
)
