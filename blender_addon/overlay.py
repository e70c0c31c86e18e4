"""Each wire box's prompt, written above it in the 3D view."""

import blf
import bpy
from bpy_extras.view3d_utils import location_3d_to_region_2d
from mathutils import Vector

from .slots import local_bounds, slots_seen

SIZE_PX = 12
LONGEST = 40  # letters
COLOUR, ACTIVE_COLOUR = (1.0, 1.0, 1.0, 0.85), (1.0, 0.66, 0.25, 1.0)


def _draw() -> None:
    context = bpy.context
    if not context.space_data.overlay.show_overlays:
        return
    font, scale = 0, context.preferences.system.ui_scale
    blf.size(font, SIZE_PX * scale)
    blf.enable(font, blf.SHADOW)
    blf.shadow(font, 3, 0.0, 0.0, 0.0, 0.8)
    for thing in slots_seen(context.scene):
        if thing.diorama.prompt and thing.visible_get():
            _label(context, thing, font)
    blf.disable(font, blf.SHADOW)


def _label(context: bpy.types.Context, thing: bpy.types.Object, font: int) -> None:
    low, high = local_bounds(thing)
    top = thing.matrix_world @ Vector(((low.x + high.x) / 2, (low.y + high.y) / 2, high.z))
    place = location_3d_to_region_2d(context.region, context.region_data, top)
    if place is None:
        return
    text = thing.diorama.prompt
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
    width, height = blf.dimensions(font, text)
    blf.color(font, *(ACTIVE_COLOUR if thing == context.active_object else COLOUR))
    blf.position(font, place.x - width / 2, place.y + height / 2, 0.0)
    blf.draw(font, text)


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
