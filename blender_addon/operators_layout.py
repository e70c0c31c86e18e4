"""What the buttons of the Layout and Relations panels do."""

from typing import ClassVar

import bpy
from bpy.props import EnumProperty, FloatProperty, IntProperty, StringProperty

from . import jobs, slots
from .properties import KINDS

NO_SHAPE = "Select objects with a shape first: meshes, curves, texts"
LOCAL = "make it local first"


class DIORAMA_OT_add_slot(bpy.types.Operator):
    """Add a wire box that stands at the 3D cursor. Move and scale it, and say what stands in it"""

    bl_idname = "diorama.add_slot"
    bl_label = "Add Slot"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    prompt: StringProperty(name="Prompt", description="What stands in the box", options={"SKIP_SAVE"})
    size: FloatProperty(name="Size", default=1.0, min=0.001, soft_max=10.0, unit="LENGTH")

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _in_object_mode(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        scene, layer = context.scene, context.view_layer
        box = slots.ground_box(scene.cursor.location, self.size)
        collection = layer.active_layer_collection.collection
        if layer.active_layer_collection.exclude or collection.library is not None:
            collection = scene.collection
        thing = slots.add_box(scene, collection, str(len(slots.slots_of(scene)) + 1), box)
        thing.diorama.prompt = self.prompt
        _select_only(thing, layer)
        return {"FINISHED"}


class DIORAMA_OT_slots_from_selection(bpy.types.Operator):
    """Make slots of the selected objects"""

    bl_idname = "diorama.slots_from_selection"
    bl_label = "From Selection"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    kind: EnumProperty(name="Kind", items=KINDS)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not _in_object_mode(cls, context):
            return False
        chosen = context.selected_objects
        if not any(thing.type in slots.MESH_LIKE for thing in chosen):
            instance = next((thing for thing in chosen if slots.is_instance(thing)), None)
            cls.poll_message_set(_real_first(instance) if instance else NO_SHAPE)
            return False
        return True

    @classmethod
    def description(cls, context: bpy.types.Context, properties: "DIORAMA_OT_slots_from_selection") -> str:
        return next(row[2] for row in KINDS if row[0] == properties.kind)

    def execute(self, context: bpy.types.Context) -> set[str]:
        chosen = [thing for thing in context.selected_objects if thing.type in slots.MESH_LIKE]
        linked = [thing for thing in chosen if not thing.is_editable]
        instances = [thing for thing in context.selected_objects if slots.is_instance(thing)]
        for thing in (thing for thing in chosen if thing.is_editable):
            slot = thing.diorama
            slot.is_slot = True
            slot.kind = self.kind
            slot.prompt = slot.prompt or thing.name.rstrip("0123456789").rstrip(".").replace("_", " ").lower()
        slots.forget_slots()
        if linked:
            self.report({"WARNING"}, f"'{linked[0].name}' is linked from another file: {LOCAL}")
        if instances:
            self.report({"WARNING"}, _real_first(instances[0]))
        overrides = [thing for thing in chosen if thing.override_library is not None and thing.is_editable]
        if overrides and slots.LOSES_OVERRIDES:
            self.report({"WARNING"}, f"Blender 5 saves no slot on '{overrides[0].name}', a library override: {LOCAL}")
        return {"FINISHED"} if len(linked) < len(chosen) else {"CANCELLED"}


class DIORAMA_OT_remove_slot(bpy.types.Operator):
    """Remove the slot. A wire box is deleted; an object of yours stays as it is, and is no slot any more"""

    bl_idname = "diorama.remove_slot"
    bl_label = "Remove Slot"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    name: StringProperty(options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        thing = context.scene.objects.get(self.name) if self.name else context.view_layer.objects.active
        if thing is None or not thing.diorama.is_slot:
            self.report({"WARNING"}, "Choose a slot in the list first")
            return {"CANCELLED"}
        if not thing.is_editable:
            self.report({"WARNING"}, f"'{thing.name}' is linked from another file: remove it there")
            return {"CANCELLED"}
        relations = context.scene.diorama.relations
        for index in reversed(range(len(relations))):
            if thing in (relations[index].subject, relations[index].object):
                relations.remove(index)
        if thing.type == "EMPTY":
            bpy.data.objects.remove(thing)
        else:
            thing.diorama.kind = "context"  # drawn solid again
            thing.diorama.is_slot = False
        slots.forget_slots()
        return {"FINISHED"}


class DIORAMA_OT_select_slot(bpy.types.Operator):
    """Select the slot that this is about"""

    bl_idname = "diorama.select_slot"
    bl_label = "Select Slot"
    bl_options: ClassVar = {"UNDO", "INTERNAL"}

    name: StringProperty()

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _in_object_mode(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        thing = context.view_layer.objects.get(self.name)
        if thing is None:
            self.report({"WARNING"}, "It is in a collection that is excluded from this view layer")
            return {"CANCELLED"}
        thing.hide_set(False)
        _select_only(thing, context.view_layer)
        return {"FINISHED"}


class DIORAMA_OT_show_slots(bpy.types.Operator):
    """Show or hide the slots' boxes"""

    bl_idname = "diorama.show_slots"
    bl_label = "Show or Hide Slots"
    bl_options: ClassVar = {"UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        layer = context.view_layer
        every = [thing for thing in slots.slots_of(context.scene) if thing.diorama.kind != "context"]
        every = [thing for thing in every if layer.objects.get(thing.name) is not None]
        hide = not any(thing.hide_get() for thing in every)
        for thing in every:
            thing.hide_set(hide)
        return {"FINISHED"}


class DIORAMA_OT_read_prompt(bpy.types.Operator):
    """Make slots and relations from what the prompt says. Slots read before are replaced, your own stay"""

    bl_idname = "diorama.read_prompt"
    bl_label = "Read From Prompt"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not context.scene.diorama.prompt.strip():
            cls.poll_message_set("Write a prompt first")
            return False
        if jobs.session().reading is not None:
            cls.poll_message_set("The prompt is being read")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.session().read_prompt(context.scene, context.scene.diorama.preset)
        return {"FINISHED"}


class DIORAMA_OT_add_relation(bpy.types.Operator):
    """Say how one slot stands to another"""

    bl_idname = "diorama.add_relation"
    bl_label = "Add Relation"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if len(slots.slots_seen(context.scene)) < 2:
            cls.poll_message_set("A relation needs two slots")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        found = slots.slots_of(context.scene)
        active = context.view_layer.objects.active
        first = active if active in found else found[0]
        relations = context.scene.diorama.relations
        row = relations.add()
        row.subject, row.object = first, next(thing for thing in found if thing != first)
        context.scene.diorama.active_relation = len(relations) - 1
        return {"FINISHED"}


class DIORAMA_OT_remove_relation(bpy.types.Operator):
    """Remove this relation"""

    bl_idname = "diorama.remove_relation"
    bl_label = "Remove Relation"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    index: IntProperty()

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.scene.diorama.relations.remove(self.index)
        return {"FINISHED"}


def _real_first(thing: bpy.types.Object) -> str:
    return f"'{thing.name}' shows a collection that is elsewhere: use {slots.MAKE_REAL} first"


def _in_object_mode(cls: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    if context.mode != "OBJECT":
        cls.poll_message_set("Go back to object mode first")
        return False
    return True


def _select_only(thing: bpy.types.Object, layer: bpy.types.ViewLayer) -> None:
    for other in list(layer.objects.selected):
        other.select_set(False)
    thing.select_set(True)
    layer.objects.active = thing


CLASSES = (
    DIORAMA_OT_add_slot,
    DIORAMA_OT_slots_from_selection,
    DIORAMA_OT_remove_slot,
    DIORAMA_OT_select_slot,
    DIORAMA_OT_show_slots,
    DIORAMA_OT_read_prompt,
    DIORAMA_OT_add_relation,
    DIORAMA_OT_remove_relation,
)
