"""The contract: what a request may say. Every entrance (command line, service, add-on) goes through `read_request`."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .errors import RequestError

MAX_SLOTS = 16
RelationName = Literal["on top of", "under", "left of", "right of", "in front of", "behind", "next to"]
Vector3 = tuple[float, float, float]


class _Strict(BaseModel):
    """No unknown keys, no change after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, str_strip_whitespace=True)


class Slot(_Strict):
    """An oriented box that one object is generated in."""

    name: Annotated[str, Field(min_length=1, max_length=63)]  # unique in the request
    prompt: Annotated[str, Field(min_length=1, max_length=1000)]  # what stands in the box
    centre: Vector3 = (0.0, 0.0, 0.5)  # of the box; metres, Blender's axes (Z up, front at -Y)
    rotation_deg: Vector3 = (0.0, 0.0, 0.0)  # Euler XYZ, degrees, as Blender applies it: R = Rz Ry Rx
    size: Vector3 = (1.0, 1.0, 1.0)  # edge lengths of the box along its own axes, metres
    lock_position: bool = False  # True: the optimisation never moves the box
    lock_rotation: bool = False  # True: it never turns it
    lock_size: bool = False  # True: it never scales it

    @field_validator("size")
    @classmethod
    def _positive(cls, size: Vector3) -> Vector3:
        if min(size) <= 0.0:
            raise ValueError(f"every edge must be longer than 0 m, got {size}; give positive lengths in metres")
        return size

    @field_validator("centre", "size", "rotation_deg")
    @classmethod
    def _in_range(cls, value: Vector3) -> Vector3:
        if max(abs(v) for v in value) > 1e5:
            raise ValueError(f"values beyond 100000 are not supported, got {value}; scale the scene down")
        return value


class Relation(_Strict):
    """`subject` stands in `relation` to `object`: "cube" "on top of" "sphere". Left and right as seen from -Y."""

    subject: str  # a slot's name
    relation: RelationName
    object: str  # another slot's name


class SceneRequest(_Strict):
    """Everything one run needs to know, and all that is needed to repeat it."""

    prompt: Annotated[str, Field(max_length=4000)] = ""  # the whole scene; read for slots when none are given
    negative_prompt: Annotated[str, Field(max_length=1000)] = ""  # what the images should not show
    slots: tuple[Slot, ...] = ()
    relations: tuple[Relation, ...] = ()
    preset: str = "starter"  # a row of presets.PRESETS
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    settings: dict[str, Any] = Field(default_factory=dict)  # overrides of the preset, by field name of Settings


def read_request(data: Any) -> SceneRequest:
    """The validated request in `data` (a parsed JSON object).

    Raises RequestError naming the key, the value and the remedy.
    """
    if not isinstance(data, dict):
        raise RequestError(
            f"expected a JSON object, got {type(data).__name__}", where="request", remedy="See the README's example"
        )
    try:
        request = SceneRequest.model_validate(data)
    except ValidationError as error:
        raise RequestError(_first_fault(error)) from None
    check_request(request)
    return request


def check_request(request: SceneRequest) -> None:
    """Raise RequestError for what the types alone cannot see: names, relations, counts."""
    if not request.slots and not request.prompt:
        raise RequestError("nothing to generate", where="prompt", remedy="Give a prompt, or slots with prompts")
    if len(request.slots) > MAX_SLOTS:
        raise RequestError(
            f"{len(request.slots)} slots, at most {MAX_SLOTS} fit one scene", where="slots", remedy="Remove some"
        )
    names = [slot.name for slot in request.slots]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise RequestError(f"two slots are named {name!r}", where=f"slots[{index}].name", remedy="Rename one")
    for index, relation in enumerate(request.relations):
        _check_relation(relation, names, f"relations[{index}]")


def _check_relation(relation: Relation, names: list[str], where: str) -> None:
    for key in ("subject", "object"):
        name = getattr(relation, key)
        if name not in names:
            raise RequestError(
                f"there is no slot named {name!r}", where=f"{where}.{key}", remedy=f"Slots are: {', '.join(names)}"
            )
    if relation.subject == relation.object:
        raise RequestError(
            f"{relation.subject!r} cannot stand {relation.relation} itself", where=where, remedy="Name two slots"
        )


def _first_fault(error: ValidationError) -> str:
    """One line for the first fault: `slots[2].prompt: expected ..., got ...`."""
    fault = error.errors()[0]
    where = ""
    for part in fault["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f"{'.' if where else ''}{part}"
    got = fault["input"]
    shown = repr(got) if not isinstance(got, float) or math.isfinite(got) else str(got)
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key. Remove it, or check its spelling"
    return f"{where}: {fault['msg'].removeprefix('Value error, ')}, got {shown[:80]}. Correct the value"
