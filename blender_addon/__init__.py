"""Diorama: text and boxes in, textured and arranged objects out, generated on your own machine."""

import atexit

import addon_utils
import bpy

from . import (
    command,
    jobs,
    operators,
    operators_backend,
    operators_layout,
    operators_picture,
    operators_results,
    overlay,
    panels,
    panels_picture,
    panels_results,
    preferences,
    properties,
)

bl_info = {
    "name": "Diorama",
    "author": "The Diorama authors",
    "version": (0, 1, 0),
    "blender": (4, 2, 0),
    "location": "3D View and Image Editor > Sidebar > Diorama",
    "description": "Generate textured, arranged objects from a prompt and boxes, on your own machine",
    "category": "Object",
}

CLASSES = (
    *properties.GROUPS,
    preferences.DioramaPreferences,
    *operators.CLASSES,
    *operators_layout.CLASSES,
    *operators_picture.CLASSES,
    *operators_results.CLASSES,
    *operators_backend.CLASSES,
    *panels.CLASSES,
    *panels_results.CLASSES,
    *panels_picture.CLASSES,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    properties.attach()
    jobs.start()
    overlay.start()
    command.start()
    atexit.register(_switch_off)


def unregister() -> None:
    atexit.unregister(_switch_off)
    command.stop()
    overlay.stop()
    jobs.stop()
    properties.detach()
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)


def _switch_off() -> None:
    """Blender as a Python module ends before it switches add-ons off, and 4.5 then hangs."""
    addon_utils.disable(__package__)
