"""What a job may be asked for: a scene, a picture, or the edit of a picture; `kind` tells which."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from ..image.request import EditMethod, ImageMethod, ImageRequest, check_image_request
from ..schema import SceneRequest, check_request, first_fault

KindName = Literal["scene", "image", "edit"]
Model = TypeVar("Model", bound=BaseModel)


class SceneJob(SceneRequest):
    """A scene: objects as meshes."""

    kind: Literal["scene"] = "scene"


class ImageJob(ImageRequest):
    """A picture of a prompt."""

    kind: Literal["image"]
    source: Literal[""] = ""
    method: ImageMethod = "reward-sds"


class EditJob(ImageRequest):
    """The picture that comes with the request, changed from `source` to `prompt`."""

    kind: Literal["edit"]
    source: str
    method: EditMethod = "reward-dds"


AnyJob = SceneJob | ImageJob | EditJob


def read_scene(data: dict[str, Any]) -> SceneJob:
    """Raises RequestError naming the first fault."""
    request = _validated(SceneJob, data)
    check_request(request)
    return request


def read_image(data: dict[str, Any]) -> ImageJob:
    """Raises RequestError naming the first fault."""
    request = _validated(ImageJob, data)
    check_image_request(request)
    return request


def read_edit(data: dict[str, Any]) -> EditJob:
    """Raises RequestError naming the first fault."""
    request = _validated(EditJob, data)
    check_image_request(request)
    return request


def without_kind(data: dict[str, Any]) -> dict[str, Any]:
    """The request as the command line takes it, which has a command for each kind."""
    return {key: value for key, value in data.items() if key != "kind"}


def _validated(model: type[Model], data: dict[str, Any]) -> Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise first_fault(error) from None
