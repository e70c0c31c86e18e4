"""Pieces of interface that several panels share. They draw, and change nothing."""

from typing import Any

import bpy

from .torch_build import SELECTOR, advice

MENDS = {  # an error's `mend` -> the button that does it: operator and icon
    "install": ("diorama.install", "IMPORT"),
    "start": ("diorama.start", "PLAY"),
    "restart": ("diorama.restart", "FILE_REFRESH"),
    "log": ("diorama.open_log", "TEXT"),
    "settings": ("diorama.open_preferences", "PREFERENCES"),
}
JOB_MENDS = {  # those that do something with the error's job: operator, icon and what it is called
    "resume": ("diorama.resume", "PLAY", "Go On"),
    "again": ("diorama.resume", "FILE_REFRESH", "Start Again"),
    "import": ("diorama.import_result", "IMPORT", "Import Again"),
}
STATES = {  # of the backend -> what is said about it, icon
    "unknown": ("Backend not started yet", "RADIOBUT_OFF"),
    "none": ("Backend not running", "RADIOBUT_OFF"),
    "starting": ("Backend is starting", "SORTTIME"),
    "installing": ("Backend is being installed", "IMPORT"),
    "ready": ("Backend ready", "RADIOBUT_ON"),
}
LETTER_PX = 6.2  # mean width of a letter of the interface's font at scale 1
TEXT_SCALE = 0.8  # of the height of lines that belong together
MARGIN_PX = 70.0  # of a sidebar that no text can use


def letters_that_fit(context: bpy.types.Context) -> int:
    """How many letters fit a line of the region at its present width."""
    scale = context.preferences.system.ui_scale or 1.0
    width = context.region.width if context.region is not None else 300
    return max(int((width / scale - MARGIN_PX) / LETTER_PX), 16)


def wrapped(text: str, letters: int) -> list[str]:
    """The text in lines of at most so many letters, broken between words where possible."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            while len(word) > letters:  # a path
                if line:
                    lines.append(line)
                    line = ""
                lines.append(word[:letters])
                word = word[letters:]
            if line and len(line) + 1 + len(word) > letters:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}".strip()
        if line:
            lines.append(line)
    return lines


def draw_text(
    layout: bpy.types.UILayout, context: bpy.types.Context, text: str, icon: str = "NONE", less: int = 0
) -> None:
    """The whole text, as many lines as it takes; `less` letters of the width are for something beside it."""
    column = layout.column(align=True)
    column.scale_y = TEXT_SCALE
    for index, line in enumerate(wrapped(text, max(letters_that_fit(context) - less, 8))):
        column.label(text=line, icon=icon if index == 0 else ("BLANK1" if icon != "NONE" else "NONE"))


class InView3D:
    """Where a panel is: in the tab of the 3D view's sidebar."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Diorama"


class InImageEditor(InView3D):
    """In the Image Editor's."""

    bl_space_type = "IMAGE_EDITOR"


def draw_foot(layout: bpy.types.UILayout, context: bpy.types.Context, status: Any) -> None:
    """What the first panel of each tab ends with: the error, the notes and the backend."""
    draw_fault(layout, context, status)
    draw_notes(layout, context, status)
    draw_backend(layout, context, status)


def draw_fault(layout: bpy.types.UILayout, context: bpy.types.Context, status: Any) -> None:
    """The error, with the button that mends it; nothing where there is none."""
    if not status.fault:
        return
    box = layout.box()
    column = box.column()
    column.alert = True
    draw_text(column, context, f"{status.fault}.", "ERROR")
    if status.fault_where:
        draw_text(box, context, status.fault_where, "BLANK1")
    if status.fault_remedy:
        draw_text(box, context, f"{status.fault_remedy}.", "BLANK1")
    if status.fault_mend == "install":
        draw_offline(box, context)
    row = box.row(align=True)
    if status.fault_mend in MENDS:
        operator, icon = MENDS[status.fault_mend]
        row.operator(operator, icon=icon)
    elif status.fault_mend in JOB_MENDS:
        operator, icon, text = JOB_MENDS[status.fault_mend]
        row.operator(operator, text=text, icon=icon).job = status.fault_job
    row.operator("diorama.dismiss", text="" if status.fault_mend else "Dismiss", icon="X")


def draw_notes(layout: bpy.types.UILayout, context: bpy.types.Context, status: Any) -> None:
    """Good news, and warnings of the run."""
    if status.notice:
        draw_text(layout, context, status.notice, "CHECKMARK")
    if status.warnings:
        draw_text(layout, context, status.warnings, "INFO")


def draw_offline(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Why nothing can be downloaded, and the switch; nothing where Blender may use the network."""
    if not bpy.app.online_access:
        draw_text(layout, context, "This downloads files, and Blender is set to stay offline.", "INTERNET_OFFLINE")
        layout.prop(context.preferences.system, "use_online_access", text="Allow Online Access")


def draw_backend(
    layout: bpy.types.UILayout, context: bpy.types.Context, status: Any, in_preferences: bool = False
) -> None:
    """One line on the backend, and what can be done about it."""
    said, icon = STATES.get(status.backend, STATES["unknown"])
    row = layout.row(align=True)
    row.label(text=f"{said} ({status.device})" if status.device and status.backend == "ready" else said, icon=icon)
    if status.backend == "ready":
        row.operator("diorama.free_memory", text="", icon="MEMORY")
        if in_preferences:
            row.operator("diorama.restart", text="", icon="FILE_REFRESH")
        row.operator("diorama.stop", text="", icon="SNAP_FACE")
    elif status.backend in ("none", "unknown"):
        row.operator("diorama.start", text="", icon="PLAY")
    row.operator("diorama.open_log", text="", icon="TEXT")
    if not in_preferences:
        row.operator("diorama.open_preferences", text="", icon="PREFERENCES")
    if status.backend == "installing":
        draw_text(layout, context, status.install_line or "This takes some minutes", "BLANK1")
        layout.operator("diorama.cancel_install", icon="CANCEL")


def draw_preferences(layout: bpy.types.UILayout, chosen: Any, context: bpy.types.Context) -> None:
    """The add-on's preferences."""
    status = context.window_manager.diorama
    layout.use_property_split = True
    layout.prop(chosen, "location")
    if chosen.location != "REMOTE":
        layout.prop(chosen, "device")
    if chosen.location == "INSTALL":
        _draw_install(layout, chosen, context)
    elif chosen.location == "PYTHON":
        layout.prop(chosen, "python")
    else:
        layout.prop(chosen, "address")
        layout.prop(chosen, "token")
    layout.separator()
    draw_backend(layout, context, status, in_preferences=True)
    draw_fault(layout, context, status)


def _draw_install(layout: bpy.types.UILayout, chosen: Any, context: bpy.types.Context) -> None:
    """What is installed, from where, and the button."""
    layout.prop(chosen, "build")
    row = layout.row(align=True)
    row.prop(chosen, "torch_index", placeholder="Where pip looks by itself")
    row.operator("wm.url_open", text="", icon="URL").url = SELECTOR
    advised = advice(chosen.build)
    if advised and not chosen.torch_index.strip():
        draw_text(layout, context, f"{advised}.", "INFO")
    draw_offline(layout, context)
    layout.operator("diorama.install", icon="IMPORT")
