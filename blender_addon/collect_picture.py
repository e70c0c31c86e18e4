"""The Image Editor's panel as a request, and what stands in the way of one."""

import json
from typing import Any, NamedTuple

import bpy

from .collect import LayoutError, Problem
from .open_picture import png_of
from .parts import Part, picture_part

LONGEST_PROMPT = 4000  # these limits are the backend's; the tests hold both together
SHORTEST_PX, LONGEST_ASPECT = 32, 4.0
NOT_SINGLE = {"MOVIE": "A film", "SEQUENCE": "A sequence", "TILED": "A picture in tiles"}


class CollectedPicture(NamedTuple):
    """What is sent to the backend."""

    request: dict[str, Any]
    part: Part | None  # the picture to edit


def collect_image(scene: bpy.types.Scene) -> CollectedPicture:
    """The request for a new picture. Raises LayoutError for the first problem."""
    for problem in image_problems(scene):
        raise LayoutError(problem)
    settings = scene.diorama.picture
    asked = {"kind": "image", "prompt": settings.prompt.strip(), "method": settings.method}
    return CollectedPicture(asked | _common(settings), None)


def collect_edit(scene: bpy.types.Scene, image: bpy.types.Image | None) -> CollectedPicture:
    """The request to edit a picture, which is only read. Raises LayoutError for the first problem."""
    for problem in edit_problems(scene, image):
        raise LayoutError(problem)
    assert image is not None
    settings = scene.diorama.picture
    asked = {"kind": "edit", "source": settings.source.strip(), "prompt": settings.target.strip()}
    asked["method"] = settings.edit_method
    return CollectedPicture(asked | _common(settings), picture_part(png_of(image)))


def image_problems(scene: bpy.types.Scene) -> list[Problem]:
    """What keeps a new picture from being made; quick enough for every redraw."""
    settings = scene.diorama.picture
    return [*_text_problems(settings.prompt, "Say what the new picture is to show"), *_override_problems(settings)]


def edit_problems(scene: bpy.types.Scene, image: bpy.types.Image | None) -> list[Problem]:
    """What keeps the picture from being edited; quick enough for every redraw."""
    settings, every = scene.diorama.picture, []
    fault = picture_problem(image)
    if fault is not None:
        every.append(fault)
    every += _text_problems(settings.source, "Say what the picture shows now")
    every += _text_problems(settings.target, "Say what it should show instead")
    return every + _override_problems(settings)


def picture_problem(image: bpy.types.Image | None) -> Problem | None:
    """Why this picture cannot be edited."""
    if image is None:
        return Problem("No picture is open", "Open one in this editor, or generate one")
    if image.type in ("RENDER_RESULT", "COMPOSITING"):
        return Problem("A render cannot be edited directly", "Save it with Image > Save As, and open the file")
    if image.source in NOT_SINGLE:
        return Problem(f"{NOT_SINGLE[image.source]} cannot be edited", "Save one picture of it, and open that")
    width, height = image.size
    if min(width, height) == 0:
        return Problem("The picture has no pixels", "Its file may be missing: reload it, or open another")
    if min(width, height) < SHORTEST_PX:
        return Problem(f"The picture is {width} x {height} px", f"It needs {SHORTEST_PX} px or more on each side")
    if max(width, height) > LONGEST_ASPECT * min(width, height):
        return Problem(f"One side is more than {LONGEST_ASPECT:.0f} times the other", "Crop the picture")
    return None


def _common(settings: Any) -> dict[str, Any]:
    """What both kinds of request have."""
    overrides = _overrides(settings)
    if settings.steps:
        overrides["steps"] = settings.steps
    if settings.negative_prompt.strip():
        overrides["negative_prompt"] = settings.negative_prompt.strip()
    return {"preset": settings.preset, "seed": settings.seed, "settings": overrides}


def _overrides(settings: Any) -> dict[str, Any]:
    """Raises ValueError when the overrides are no JSON object."""
    overrides = json.loads(settings.overrides) if settings.overrides.strip() else {}
    if not isinstance(overrides, dict):
        raise ValueError("expected a JSON object")
    return overrides


def _text_problems(text: str, remedy: str) -> list[Problem]:
    if not text.strip():
        return [Problem("A text is missing", remedy)]
    if len(text.strip()) > LONGEST_PROMPT:
        return [Problem(f"A text has more than {LONGEST_PROMPT} letters", "Shorten it")]
    return []


def _override_problems(settings: Any) -> list[Problem]:
    try:
        _overrides(settings)
    except ValueError as error:
        return [Problem(f"The overrides are not JSON: {error}", 'Write them like {"guidance_scale": 6}')]
    return []
