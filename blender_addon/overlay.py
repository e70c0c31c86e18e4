"""Each wire box's prompt, written above it in the 3D view."""

from typing import NamedTuple

import blf
import bpy
from bpy_extras.view3d_utils import location_3d_to_region_2d
from mathutils import Vector

from .slots import local_bounds, slots_seen

SIZE_PX = 12
LONGEST = 40  # letters
COLOUR, ACTIVE_COLOUR = (1.0, 1.0, 1.0, 0.85), (1.0, 0.66, 0.25, 1.0)


class Label(NamedTuple):
    """What is written of a slot."""

    text: str
    place: Vector  # (2,) pixels of the region, above the middle of the box
    active: bool


def _draw() -> None:
    context = bpy.context
    if not context.space_data.overlay.show_overlays:
        return
    font, scale = 0, context.preferences.system.ui_scale
    blf.size(font, SIZE_PX * scale)
    blf.enable(font, blf.SHADOW)
    blf.shadow(font, 3, 0.0, 0.0, 0.0, 0.8)
    for label in labels(context):
        width, height = blf.dimensions(font, label.text)
        blf.color(font, *(ACTIVE_COLOUR if label.active else COLOUR))
        blf.position(font, label.place.x - width / 2, label.place.y + height / 2, 0.0)
        blf.draw(font, label.text)
    blf.disable(font, blf.SHADOW)


def labels(context: bpy.types.Context) -> list[Label]:
    """Those of the slots that the 3D view shows."""
    every = []
    for thing in slots_seen(context.scene):
        if not thing.diorama.prompt or not thing.visible_get():
            continue
        low, high = local_bounds(thing)
        top = thing.matrix_world @ Vector(((low.x + high.x) / 2, (low.y + high.y) / 2, high.z))
        place = location_3d_to_region_2d(context.region, context.region_data, top)
        text = thing.diorama.prompt
        text = text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
        if place is not None:
            every.append(Label(text, place, thing == context.active_object))
    return every


_handle = None  # Blender wants it back to remove the handler


def start() -> None:
    global _handle
    if not bpy.app.background and _handle is None:
        _handle = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL")


def stop() -> None:
    global _handle
    if _handle is not None:
        bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
        _handle = None
