"""What the buttons about the backend do; each error in the panels carries one of them."""

from pathlib import Path

import bpy

from . import jobs, preferences
from .messages import BackendError
from .opening import open_path


class DIORAMA_OT_start(bpy.types.Operator):
    """Start the backend, or connect to the one that runs"""

    bl_idname = "diorama.start"
    bl_label = "Start Backend"

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.session().clear_fault()
        jobs.session().ask("connect")
        return {"FINISHED"}


class EndsBackend:
    """An operator after which the backend is another one, or none: it asks first where that works for others."""

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if jobs.session().other_run() is None:
            return self.execute(context)
        what = "A run that was sent from elsewhere is interrupted by this"
        asked = {"title": f"{self.bl_label}?", "message": what, "confirm_text": self.bl_label}
        return context.window_manager.invoke_confirm(self, event, **asked)


class DIORAMA_OT_stop(EndsBackend, bpy.types.Operator):
    """Stop the backend. A run that is going on can be continued later"""

    bl_idname = "diorama.stop"
    bl_label = "Stop Backend"

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.session().ask("stop")
        return {"FINISHED"}


class DIORAMA_OT_restart(EndsBackend, bpy.types.Operator):
    """End the backend and start it anew. A run that is going on can be continued afterwards"""

    bl_idname = "diorama.restart"
    bl_label = "Restart Backend"

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.session().clear_fault()
        jobs.session().ask("restart")
        return {"FINISHED"}


class DIORAMA_OT_free_memory(bpy.types.Operator):
    """Take the models out of the memory, so that a render has it all. The next run loads them again"""

    bl_idname = "diorama.free_memory"
    bl_label = "Free Memory"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if jobs.session().busy():
            cls.poll_message_set("A generation is running and needs its models")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.session().ask("unload")
        return {"FINISHED"}


class DIORAMA_OT_install(bpy.types.Operator):
    """Install the backend into a folder of its own. This downloads PyTorch and takes some minutes"""

    bl_idname = "diorama.install"
    bl_label = "Install Backend"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not bpy.app.online_access:
            cls.poll_message_set("Blender is set to stay offline: allow online access under System, in the preferences")
            return False
        if context.window_manager.diorama.backend == "installing":
            cls.poll_message_set("The installation is running")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        chosen = preferences.preferences()
        if chosen is not None and chosen.location != "INSTALL":
            chosen.location = "INSTALL"
        jobs.session().clear_fault()
        jobs.session().ask("install")
        return {"FINISHED"}


class DIORAMA_OT_cancel_install(bpy.types.Operator):
    """Stop the installation. When repeated it goes on from there"""

    bl_idname = "diorama.cancel_install"
    bl_label = "Cancel Installation"

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.session().network.cancel_install()
        return {"FINISHED"}


class DIORAMA_OT_open_log(bpy.types.Operator):
    """Open the log of the failed run, of the installation, or of the backend"""

    bl_idname = "diorama.open_log"
    bl_label = "Open Log"

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            path = self._newest()
        except OSError as error:
            self.report({"ERROR"}, f"The log cannot be shown: {error.strerror or error} ({error.filename})")
            return {"CANCELLED"}
        if path is None:
            self.report({"WARNING"}, "There is no log yet")
            return {"CANCELLED"}
        try:
            open_path(path)
        except BackendError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}

    def _newest(self) -> Path | None:
        """The log that was written last."""
        config, job = preferences.config(), jobs.session().job
        paths = [*config.home.glob("*.log"), *config.data.glob("*.log"), *config.home.glob("logs/*.log")]
        if job is not None and job.state == "failed" and job.log_tail:
            folder = config.cache / job.id
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "log_end.txt").write_text(job.log_tail, encoding="utf-8")
            paths = [folder / "log_end.txt"]
        found = [path for path in paths if path.is_file()]
        return max(found, key=lambda path: path.stat().st_mtime, default=None)


class DIORAMA_OT_open_preferences(bpy.types.Operator):
    """Open the add-on's preferences"""

    bl_idname = "diorama.open_preferences"
    bl_label = "Open Preferences"

    def execute(self, context: bpy.types.Context) -> set[str]:
        return bpy.ops.preferences.addon_show(module=__package__)


class DIORAMA_OT_dismiss(bpy.types.Operator):
    """Put this message away"""

    bl_idname = "diorama.dismiss"
    bl_label = "Dismiss"

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.session().clear_fault()
        return {"FINISHED"}


CLASSES = (
    DIORAMA_OT_start,
    DIORAMA_OT_stop,
    DIORAMA_OT_restart,
    DIORAMA_OT_free_memory,
    DIORAMA_OT_install,
    DIORAMA_OT_cancel_install,
    DIORAMA_OT_open_log,
    DIORAMA_OT_open_preferences,
    DIORAMA_OT_dismiss,
)
