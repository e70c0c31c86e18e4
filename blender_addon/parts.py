"""What travels with a request: the user's own meshes, or the picture to edit. Never imports bpy."""

from collections.abc import Callable
from typing import NamedTuple


class Part(NamedTuple):
    """A file in the form that a request is sent as."""

    name: str  # of the form's part
    filename: str
    media_type: str
    data: Callable[[], bytes]  # called in the network thread, where it may take its time


def meshes_part(glb: bytes) -> Part:
    """Meshes whose node names are slot names."""
    return Part("meshes", "meshes.glb", "model/gltf-binary", lambda: glb)


def picture_part(png: Callable[[], bytes]) -> Part:
    """The picture that an edit begins with."""
    return Part("picture", "picture.png", "image/png", png)
