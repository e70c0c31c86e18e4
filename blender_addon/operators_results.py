"""What the buttons of the Results panel do."""

import json
from typing import Any, ClassVar

import bpy
from bpy.props import IntProperty, StringProperty

from . import jobs
from .answers import RESUMABLE, as_list, text, whole
from .mirror import ACTIVE
from .parsed import add_parsed, own_meshes
from .place_picture import editor_of
from .results import RESULTS
from .runs import Begins
from .slots import slots_of

NOT_YET = "This run has not ended yet: wait for it, or cancel it"


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

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        why = no_result(getattr(context, "diorama_result", None))
        if why:
            cls.poll_message_set(why)
        return not why

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.session().clear_fault()
        jobs.session().import_result(self.job)
        return {"FINISHED"}


def no_result(row: Any) -> str:
    """Why the chosen run cannot be imported; "" where it can, or where a script chose none."""
    if row is None or row.has_result:
        return ""
    return NOT_YET if row.state in ACTIVE else "This run made no result. Let it go on, or start it again"


def not_resumable(row: Any) -> str:
    """Why the chosen run cannot go on; "" where it can, or where a script chose none."""
    if row is None or row.state in RESUMABLE or (row.state == "done" and RESULTS[row.kind].resumes):
        return ""
    return NOT_YET if row.state in ACTIVE else "This picture is done. Use its settings to make another"


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
        TAKERS[job.kind](context.scene, job.request)
        jobs.session().want_words()
        return {"FINISHED"}


def _take_scene(scene: bpy.types.Scene, request: dict[str, Any]) -> None:
    settings = scene.diorama
    settings.prompt, settings.negative_prompt = text(request.get("prompt")), text(request.get("negative_prompt"))
    settings.preset = text(request.get("preset")) or settings.preset
    settings.seed = whole(request.get("seed"))
    overrides = _overrides(request)
    settings.steps, settings.texture_px = whole(overrides.pop("steps", 0)), whole(overrides.pop("texture_px", 0))
    settings.overrides = json.dumps(overrides) if overrides else ""
    if as_list(request.get("slots")) and not slots_of(scene):
        add_parsed(scene, request, (0.0, 0.0, 0.0))
        own = own_meshes(request)
        if own:
            jobs.session().say(f"Of your own meshes there are no boxes: choose {', '.join(own)} with From Selection")


def _take_image(scene: bpy.types.Scene, request: dict[str, Any]) -> None:
    scene.diorama.picture.prompt = text(request.get("prompt"))
    _take_picture(scene.diorama.picture, request, "method")


def _take_edit(scene: bpy.types.Scene, request: dict[str, Any]) -> None:
    settings = scene.diorama.picture
    settings.source, settings.target = text(request.get("source")), text(request.get("prompt"))
    _take_picture(settings, request, "edit_method")


def _take_picture(settings: Any, request: dict[str, Any], method: str) -> None:
    for key, value in ((method, request.get("method")), ("preset", request.get("preset"))):
        if text(value) in settings.bl_rna.properties[key].enum_items:
            setattr(settings, key, value)
    settings.seed, overrides = whole(request.get("seed")), _overrides(request)
    settings.steps = whole(overrides.pop("steps", 0))
    settings.negative_prompt = text(overrides.pop("negative_prompt", ""))
    settings.overrides = json.dumps(overrides) if overrides else ""


def _overrides(request: dict[str, Any]) -> dict[str, Any]:
    settings = request.get("settings")
    return dict(settings) if isinstance(settings, dict) else {}


TAKERS = {"scene": _take_scene, "image": _take_image, "edit": _take_edit}  # by the kind of the job


class DIORAMA_OT_resume(Begins, bpy.types.Operator):
    """Go on from here: a stopped run goes on from its checkpoint or begins anew, a finished one gets more steps"""

    bl_idname = "diorama.resume"
    bl_label = "Go On"

    job: StringProperty()
    steps: IntProperty(name="More Steps", description="Optimisation steps to add", default=100, min=1, max=100000)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        why = not_resumable(getattr(context, "diorama_result", None))
        return cls.may_begin([why] if why else ())

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if self._finished():
            return context.window_manager.invoke_props_dialog(self, title="Refine With More Steps")
        return self.execute(context)

    def draw(self, context: bpy.types.Context) -> None:
        self.layout.prop(self, "steps")

    def begin(self, context: bpy.types.Context) -> None:
        steps = self.steps if self._finished() else None
        jobs.session().resume(context.scene, self.job, steps, editor_of(context))

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
