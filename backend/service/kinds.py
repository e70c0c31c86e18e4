"""The kinds of jobs, one row each: how a request is read and checked, what comes with it, what it makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import RequestError
from ..image.request import settings_for as image_settings_for
from ..presets import settings_for
from .checks import Ask, check_edit, check_image, check_scene
from .refine import with_more_steps
from .requests import AnyJob, KindName, read_edit, read_image, read_scene

Request = dict[str, Any]  # as it was sent, in JSON's types


class Part(NamedTuple):
    """The file that may come with a request."""

    name: str  # of its part in the form
    file: str  # its name in the job's folder
    media_type: str
    about: str  # what it has to be


class Kind(NamedTuple):
    """One row."""

    read: Callable[[Request], AnyJob]  # raises RequestError
    check: Callable[[Any, Path | None, Ask], None]  # raises RequestError for what a run would refuse at once
    steps: Callable[[Any], int]  # of a run, in all
    part: Part | None
    result: str  # what it makes, as it is called on the wire
    refined: Callable[[Request, int], Request] | None  # the request with so many more steps; None: it begins anew


MESHES = Part(
    "meshes",
    "meshes.glb",
    "model/gltf-binary",
    "GLB, glTF's axes; a node for each slot of kind start or context, named so",
)
PICTURE = Part("picture", "picture.png", "image/png", "PNG; the picture that a job of kind edit changes")
PARTS = (MESHES, PICTURE)


def _scene_steps(request: Any) -> int:
    """A prompt without slots counts as one object: how many it names, the worker finds out."""
    free = sum(slot.kind != "context" for slot in request.slots)
    return settings_for(request.preset, request.settings).steps * max(1, free)


def _image_steps(request: Any) -> int:
    return image_settings_for(request).steps


KINDS: dict[KindName, Kind] = {
    "scene": Kind(read_scene, check_scene, _scene_steps, MESHES, "result.glb", with_more_steps),
    "image": Kind(read_image, check_image, _image_steps, None, "result.png", None),
    "edit": Kind(read_edit, check_edit, _image_steps, PICTURE, "result.png", None),
}


def kind_of(request: Any) -> KindName:
    """The kind that a request, as it was sent, is of. Raises RequestError for one that there is not."""
    if not isinstance(request, dict):
        what = f"expected a JSON object, got {type(request).__name__}"
        raise RequestError(what, where="request", remedy="See the README's example")
    kind = request.get("kind", "scene")
    if kind not in tuple(KINDS):
        remedy = f"Kinds are: {', '.join(KINDS)}; without one it is a scene"
        raise RequestError(f"there is no such kind of job: {kind!r:.80}", where="kind", remedy=remedy)
    return kind


def read_any(request: Any) -> AnyJob:
    """The request, checked. Raises RequestError."""
    return KINDS[kind_of(request)].read(request)
