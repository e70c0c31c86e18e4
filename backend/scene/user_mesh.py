"""What the user's own mesh is, once it has been read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


class UserMesh(NamedTuple):
    """A mesh of the user's scene. It may have holes, cross itself, and face anywhere."""

    vertices: Tensor  # (V, 3) float32, metres, world, Z up
    faces: Tensor  # (F, 3) int64, F > 0, none of area 0
    colour: Tensor  # (F, 3) float32, sRGB in [0, 1]
    closed: bool  # every edge has two faces


class Given(NamedTuple):
    """What of the user's meshes a scene is made with, by slot name."""

    starts: Mapping[str, Tensor]  # (G,) signed distance at the corners of the slot's grid, in its box's longest edges
    contexts: Mapping[str, UserMesh]
