"""The Results panel: what the backend has made, in this file and in others. Drawing changes nothing."""

from typing import Any

import bpy

from . import jobs
from .answers import duration
from .layouts import InView3D, draw_text
from .results import RESULTS

PICTURE_SCALE = 6.0
ICONS = {
    "queued": "SORTTIME",
    "running": "RENDER_ANIMATION",
    "cancelling": "SORTTIME",
    "done": "CHECKMARK",
    "failed": "ERROR",
    "cancelled": "CANCEL",
    "interrupted": "PAUSE",
}
NOTHING = "Nothing yet. Results stay here for every file, until you delete them."
NOT_ASKED = "The backend keeps the results of all files: Refresh starts it and shows them."


class DIORAMA_UL_history(bpy.types.UIList):
    """Runs, newest first"""

    bl_idname = "DIORAMA_UL_history"

    def draw_item(self, context, layout, data, item, icon, active_data, active_property, index) -> None:
        row = layout.row(align=True)
        picture = jobs.session().pictures.icon(item.name)
        if picture:
            row.label(text="", icon_value=picture)
        row.label(text=item.prompt or "(no prompt)", icon="NONE" if picture else ICONS.get(item.state, "DOT"))
        if item.kind != "scene":
            row.label(text="", icon="IMAGE_DATA")

    def filter_items(self, context, data, property) -> tuple[list[int], list[int]]:
        wanted = self.filter_name.lower()
        return [self.bitflag_filter_item if wanted in row.prompt.lower() else 0 for row in data.history], []


class DIORAMA_PT_results(InView3D, bpy.types.Panel):
    bl_idname = "DIORAMA_PT_results"
    bl_label = "Results"
    bl_order = 3

    def draw(self, context: bpy.types.Context) -> None:
        draw_results(self.layout, context)


def draw_results(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The list of runs, and what can be done with the chosen one."""
    status = context.window_manager.diorama
    if not status.history:
        draw_text(layout, context, NOTHING if status.backend == "ready" else NOT_ASKED, "INFO")
        layout.operator("diorama.refresh", icon="FILE_REFRESH")
        return
    layout.template_list("DIORAMA_UL_history", "", status, "history", status, "history_index", rows=4)
    row = layout.row(align=True)
    row.operator("diorama.refresh", icon="FILE_REFRESH")
    if status.history_more:
        row.operator("diorama.more_results", icon="TRIA_DOWN")
    if 0 <= status.history_index < len(status.history):
        _draw_chosen(layout, context, status.history[status.history_index])


def _draw_chosen(layout: bpy.types.UILayout, context: bpy.types.Context, row: Any) -> None:
    box = layout.box()
    picture = jobs.session().pictures.icon(row.name)
    if picture:
        box.template_icon(picture, scale=PICTURE_SCALE)
    took = f", {duration(row.seconds)}" if row.seconds > 0.0 else ""
    draw_text(box, context, f"{row.created}, {row.state}{took}", ICONS.get(row.state, "DOT"))
    column = box.column(align=True)
    column.context_pointer_set("diorama_result", row)  # so that a button can say why it cannot be pressed
    column.operator("diorama.import_result", icon="IMPORT").job = row.name
    column.operator("diorama.use_settings", icon="PRESET").job = row.name
    column.operator("diorama.resume", text=resuming(row), icon="PLAY").job = row.name
    line = column.row(align=True)
    line.operator("diorama.show_files", icon="FILE_FOLDER").job = row.name
    line.operator("diorama.delete_result", text="Delete", icon="TRASH").job = row.name


def resuming(row: Any) -> str:
    """What the button is called that lets a run go on."""
    resumes = RESULTS[row.kind].resumes
    if resumes and row.state == "done":
        return "Refine"
    return "Go On" if resumes and row.has_checkpoint else "Start Again"


CLASSES = (DIORAMA_UL_history, DIORAMA_PT_results)
