"""Scenes whose requests are the contract's fixtures, built with the add-on's own operators."""

from __future__ import annotations

import bpy

from .test_slots import add_mesh, add_slot


def prompt_only() -> None:
    """A prompt without slots."""
    settings = bpy.context.scene.diorama
    settings.prompt, settings.negative_prompt, settings.seed = "a red cube on top of a blue sphere", "blurred", 3


def boxes() -> None:
    """Turned and locked boxes with a relation and settings."""
    scene = bpy.context.scene
    table = add_slot("a brown table", size=1.5)
    table.scale.z = 0.5
    table.location.z = 0.25
    table.diorama.lock_position = table.diorama.lock_rotation = table.diorama.lock_size = True
    scene.cursor.location = (0.25, 0.0, 0.5)
    mug = add_slot("a red mug", size=0.5)
    mug.rotation_euler.z = 0.5
    bpy.ops.diorama.add_relation()
    scene.diorama.steps, scene.diorama.texture_px, scene.diorama.overrides = 12, 128, '{"views": 2}'


def own_meshes() -> None:
    """The user's meshes: one to begin from, one to keep."""
    add_mesh("floor")
    bpy.context.object.scale = (2.0, 2.0, 0.05)
    bpy.ops.diorama.slots_from_selection(kind="context")
    add_mesh("rough", size=1.0)
    bpy.context.object.location.z = 0.75
    bpy.ops.diorama.slots_from_selection(kind="start")
    bpy.context.object.diorama.prompt = "a red torus"


ALL = {function.__name__: function for function in (prompt_only, boxes, own_meshes)}
