"""The Image Editor's panel: new pictures, and edits of the open one. Drawing changes nothing."""

from typing import Any, ClassVar

import bpy

from . import jobs
from .collect_picture import edit_problems, image_problems, picture_problem
from .layouts import InImageEditor, draw_foot, draw_text
from .panels_results import draw_results
from .run_view import draw_other, draw_run, draw_unknown_words


class DIORAMA_PT_picture(InImageEditor, bpy.types.Panel):
    bl_idname = "DIORAMA_PT_picture"
    bl_label = "Diorama"
    bl_order = 0

    def draw(self, context: bpy.types.Context) -> None:
        layout, status = self.layout, context.window_manager.diorama
        settings, image = context.scene.diorama.picture, context.space_data.image
        busy = jobs.session().busy()
        _draw_common(layout, settings)
        _draw_image(layout, context, settings, busy)
        _draw_edit(layout, context, settings, image, busy)
        if busy:
            draw_run(layout, context, status)
        else:
            draw_other(layout, context)
        draw_foot(layout, context, status)


class DIORAMA_PT_picture_settings(InImageEditor, bpy.types.Panel):
    bl_idname = "DIORAMA_PT_picture_settings"
    bl_parent_id = "DIORAMA_PT_picture"
    bl_label = "Settings"
    bl_options: ClassVar = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.scene.diorama.picture
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(settings, "steps", text="Steps (0: Preset's)" if settings.steps == 0 else "Steps")
        layout.prop(settings, "negative_prompt")
        layout.prop(settings, "overrides")


class DIORAMA_PT_picture_results(InImageEditor, bpy.types.Panel):
    bl_idname = "DIORAMA_PT_picture_results"
    bl_label = "Results"
    bl_order = 1
    bl_options: ClassVar = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        draw_results(self.layout, context)


def _draw_common(layout: bpy.types.UILayout, settings: Any) -> None:
    row = layout.row(align=True)
    row.prop(settings, "preset", text="")
    row.prop(settings, "seed")
    row.operator("diorama.random_picture_seed", text="", icon="FILE_REFRESH")


def _draw_image(layout: bpy.types.UILayout, context: bpy.types.Context, settings: Any, busy: bool) -> None:
    column = layout.column(align=True)
    column.label(text="New Picture", icon="IMAGE_DATA")
    column.prop(settings, "prompt", text="", placeholder="A red cube")
    column.prop(settings, "method", text="")
    draw_unknown_words(layout, context, settings.preset, settings.prompt)
    if not busy:
        _draw_button(layout, context, "diorama.generate_image", "RENDER_STILL", image_problems(context.scene))


def _draw_edit(
    layout: bpy.types.UILayout, context: bpy.types.Context, settings: Any, image: bpy.types.Image | None, busy: bool
) -> None:
    layout.separator()
    if picture_problem(image) is not None or image is None:
        layout.label(text="Edit the Open Picture", icon="BRUSH_DATA")
    else:
        layout.label(text=f"Edit '{image.name}'", icon="BRUSH_DATA")
    column = layout.column(align=True)
    column.label(text="What it shows:")
    column.prop(settings, "source", text="", placeholder="A red cube")
    column.label(text="What it should show:")
    column.prop(settings, "target", text="", placeholder="A blue cube")
    column.separator()
    column.prop(settings, "edit_method", text="")
    draw_unknown_words(layout, context, settings.preset, f"{settings.source} {settings.target}")
    if not busy:
        _draw_button(layout, context, "diorama.edit_image", "BRUSH_DATA", edit_problems(context.scene, image))


def _draw_button(
    layout: bpy.types.UILayout, context: bpy.types.Context, operator: str, icon: str, problems: list[Any]
) -> None:
    """The button, and under it why it is grey."""
    row = layout.row()
    row.scale_y = 1.4
    row.operator(operator, icon=icon)
    if problems:
        draw_text(layout, context, f"{problems[0]}.", "INFO")


CLASSES = (DIORAMA_PT_picture, DIORAMA_PT_picture_settings, DIORAMA_PT_picture_results)
