"""The Generate panel. Drawing changes nothing."""

from typing import Any, ClassVar

import bpy

from . import jobs
from .collect import problems
from .layouts import InView3D, draw_foot, draw_text
from .run_view import draw_other, draw_run, draw_unknown_words
from .slots import slots_seen


class DIORAMA_MT_presets(bpy.types.Menu):
    """Presets of the backend"""

    bl_idname = "DIORAMA_MT_presets"
    bl_label = "Preset"

    def draw(self, context: bpy.types.Context) -> None:
        presets = jobs.session().presets or [{"name": "starter"}]
        for preset in presets:
            operator = self.layout.operator("diorama.set_preset", text=preset["name"].capitalize())
            operator.name, operator.about = preset["name"], str(preset.get("description", ""))


class DIORAMA_PT_generate(InView3D, bpy.types.Panel):
    bl_idname = "DIORAMA_PT_generate"
    bl_label = "Generate"
    bl_order = 0

    def draw(self, context: bpy.types.Context) -> None:
        layout, status = self.layout, context.window_manager.diorama
        settings, found = context.scene.diorama, slots_seen(context.scene)
        _draw_request(layout, settings)
        texts = [thing.diorama.prompt for thing in found] or [settings.prompt]
        draw_unknown_words(layout, context, settings.preset, " ".join(texts))
        if jobs.session().busy():
            draw_run(layout, context, status)
        else:
            _draw_start(layout, context)
            draw_other(layout, context)
        draw_foot(layout, context, status)


class DIORAMA_PT_settings(InView3D, bpy.types.Panel):
    bl_idname = "DIORAMA_PT_settings"
    bl_parent_id = "DIORAMA_PT_generate"
    bl_label = "Settings"
    bl_options: ClassVar = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.scene.diorama
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column(align=True)
        column.prop(settings, "steps", text="Steps (0: Preset's)" if settings.steps == 0 else "Steps")
        column.prop(
            settings, "texture_px", text="Texture (0: Preset's)" if settings.texture_px == 0 else "Texture (px)"
        )
        layout.prop(settings, "overrides")
        layout.prop(settings, "mark_assets")


def _draw_request(layout: bpy.types.UILayout, settings: Any) -> None:
    column = layout.column(align=True)
    column.prop(settings, "prompt", text="", placeholder="A red cube on top of a blue sphere", icon="OUTLINER_OB_FONT")
    column.prop(settings, "negative_prompt", text="", placeholder="What to avoid", icon="CANCEL")
    row = layout.row(align=True)
    row.menu("DIORAMA_MT_presets", text=settings.preset.capitalize() or "Preset")
    row.prop(settings, "seed")
    row.operator("diorama.random_seed", text="", icon="FILE_REFRESH")


def _draw_start(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    found = slots_seen(context.scene)
    row = layout.row()
    row.scale_y = 1.6
    row.operator("diorama.generate", icon="RENDER_STILL")
    every = problems(context.scene, context.view_layer, found)
    if not every:
        return
    problem = every[0]
    row = layout.row()
    draw_text(row.column(), context, f"{problem}.", "INFO")
    if problem.slot:
        row.operator("diorama.select_slot", text="", icon="RESTRICT_SELECT_OFF").name = problem.slot
    elif problem.relation >= 0:
        row.operator("diorama.remove_relation", text="", icon="X").index = problem.relation


class DIORAMA_UL_slots(bpy.types.UIList):
    """The slots among the scene's objects"""

    bl_idname = "DIORAMA_UL_slots"

    def draw_item(self, context, layout, data, item, icon, active_data, active_property, index) -> None:
        icons = {"generate": "CUBE", "start": "MESH_MONKEY", "context": "LOCKED"}
        row = layout.row(align=True)
        row.label(text="", icon=icons[item.diorama.kind])
        if item.name != item.diorama.automatic_name:  # else the name is the prompt's, and says nothing new
            row.prop(item, "name", text="", emboss=False)
        row.prop(item.diorama, "prompt", text="", placeholder="What stands in this box", emboss=False)

    def filter_items(self, context, data, property) -> tuple[list[int], list[int]]:
        flags = [0] * len(data.objects)
        for thing in slots_seen(data):
            if self.filter_name.lower() in f"{thing.name} {thing.diorama.prompt}".lower():
                flags[data.objects.find(thing.name)] = self.bitflag_filter_item
        return flags, []


class DIORAMA_PT_layout(InView3D, bpy.types.Panel):
    bl_idname = "DIORAMA_PT_layout"
    bl_label = "Layout"
    bl_order = 1

    def draw(self, context: bpy.types.Context) -> None:
        layout, scene = self.layout, context.scene
        found = slots_seen(scene)
        row = layout.row(align=True)
        row.operator("diorama.add_slot", icon="ADD")
        row.operator_menu_enum("diorama.slots_from_selection", "kind")
        layout.operator("diorama.read_prompt", icon="FILE_TEXT")
        if not found:
            draw_text(layout, context, "Without slots the prompt decides what is made, and where it stands.", "INFO")
            return
        active = context.view_layer.objects.active
        chosen = active if active is not None and active.diorama.is_slot else None
        row = layout.row()
        row.template_list("DIORAMA_UL_slots", "", scene, "objects", scene.diorama, "slot_index", rows=3)
        column = row.column(align=True)
        column.operator("diorama.remove_slot", text="", icon="REMOVE").name = chosen.name if chosen else ""
        column.separator()
        column.operator("diorama.show_slots", text="", icon="HIDE_OFF")
        if chosen is not None:
            _draw_slot(layout, chosen)


def _draw_slot(layout: bpy.types.UILayout, thing: bpy.types.Object) -> None:
    if thing.type != "EMPTY":
        layout.prop(thing.diorama, "kind", text="")
    if thing.diorama.kind != "context":
        column = layout.column(align=True)
        column.label(text="Keep the box's own:", icon="LOCKED")
        row = column.row(align=True)
        for key in ("lock_position", "lock_rotation", "lock_size"):
            row.prop(thing.diorama, key, toggle=True)


class DIORAMA_PT_relations(InView3D, bpy.types.Panel):
    bl_idname = "DIORAMA_PT_relations"
    bl_label = "Relations"
    bl_order = 2

    def draw(self, context: bpy.types.Context) -> None:
        for index, relation in enumerate(context.scene.diorama.relations):
            _draw_relation(self.layout, index, relation)
        self.layout.operator("diorama.add_relation", icon="ADD")
        if len(slots_seen(context.scene)) < 2:
            draw_text(self.layout, context, "Relations need two slots.", "INFO")


def _draw_relation(layout: bpy.types.UILayout, index: int, relation: Any) -> None:
    box = layout.box()
    row = box.row()
    column = row.column(align=True)
    for key in ("subject", "relation", "object"):
        column.prop(relation, key, text="")
    row.operator("diorama.remove_relation", text="", icon="REMOVE").index = index
    if relation.outcome == "none":
        return
    said = "Fulfilled" if relation.outcome == "yes" else "Not fulfilled"
    if relation.probability >= 0.0:
        said += f" (score {relation.probability:.0%})"
    row = box.row()
    row.alert = relation.outcome == "no"
    row.label(text=said, icon="CHECKMARK" if relation.outcome == "yes" else "X")


CLASSES = (
    DIORAMA_MT_presets,
    DIORAMA_PT_generate,
    DIORAMA_PT_settings,
    DIORAMA_UL_slots,
    DIORAMA_PT_layout,
    DIORAMA_PT_relations,
)
