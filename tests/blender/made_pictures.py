"""Pictures made in Blender for tests, what the panel is told of them, and a job that edits one."""

from __future__ import annotations

import bpy
import numpy as np

JOB = {
    "id": "20261123-141500-ab12cd",
    "kind": "edit",
    "state": "done",
    "created": "2026-11-23T14:15:00Z",
    "request": {"prompt": "a blue cube", "source": "a red cube", "seed": 3, "settings": {"steps": 4}},
    "has_result": True,
}


def picture(name: str = "mine", size: tuple[int, int] = (80, 60), **kept: object) -> bpy.types.Image:
    """A picture whose red grows to the right, whose green grows upwards."""
    image = bpy.data.images.new(name, *size, **kept)
    image.pixels = pixels(size).ravel()
    return image


def pixels(size: tuple[int, int]) -> np.ndarray:
    width, height = size
    values = np.ones((height, width, 4), np.float32)
    values[..., 0] = np.linspace(0.0, 1.0, width)
    values[..., 1] = np.linspace(0.0, 1.0, height)[:, None]
    values[..., 2] = 0.25
    return values


def write_texts() -> None:
    settings = bpy.context.scene.diorama.picture
    settings.prompt, settings.source, settings.target = "a red cube", "a red cube", "a blue cube"


def an_editor() -> tuple[str, int]:
    """One of the factory settings' Image Editors."""
    types = {screen.name: [area.type for area in screen.areas] for screen in bpy.data.screens}
    return next((name, kinds.index("IMAGE_EDITOR")) for name, kinds in types.items() if "IMAGE_EDITOR" in kinds)
