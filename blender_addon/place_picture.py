"""A fetched picture as a new packed image, shown in the editor that asked for it. Never talks to the server."""

from pathlib import Path
from typing import NamedTuple

import bpy

from .answers import Job
from .place import collection_name
from .provenance import storable
from .whole import PlaceError, whole_or_nothing


class Editor(NamedTuple):
    """An Image Editor, by what survives undo and a change of the layout."""

    screen: str
    area: int


def place_picture(path: Path, job: Job) -> bpy.types.Image:
    """The new image, packed into the file, which keeps it even if nothing uses it. Raises PlaceError."""
    with whole_or_nothing():
        image = bpy.data.images.load(str(path), check_existing=False)
        if min(image.size) == 0:
            raise PlaceError("Blender cannot read the picture")
        image.name = collection_name(job.prompt)
        image.pack()
        image.filepath_raw = f"//{bpy.path.clean_name(image.name)}.png"  # where unpacking would put it
        image.use_fake_user = True
        image["diorama_job"] = job.id
        for key in ("prompt", "source", "method", "preset", "seed", "settings"):
            if key in job.request:
                image[key] = storable(job.request[key])
    return image


def editor_of(context: bpy.types.Context) -> Editor | None:
    """The Image Editor that the user is in."""
    area, screen = context.area, context.screen
    if area is None or area.type != "IMAGE_EDITOR":
        return None
    return Editor(screen.name, list(screen.areas).index(area))


def any_editor(context: bpy.types.Context) -> Editor | None:
    """The one the user is in, or else the first in the windows."""
    mine = editor_of(context)
    if mine is not None:
        return mine
    screens = [window.screen for window in context.window_manager.windows]
    found = (Editor(s.name, i) for s in screens for i, area in enumerate(s.areas) if area.type == "IMAGE_EDITOR")
    return next(found, None)


def show_picture(image: bpy.types.Image, editor: Editor | None) -> bool:
    """Whether the editor shows the image now; it does not where it is gone, or pinned to another."""
    screen = bpy.data.screens.get(editor.screen) if editor is not None else None
    if editor is None or screen is None or editor.area >= len(screen.areas):
        return False
    area = screen.areas[editor.area]
    if area.type != "IMAGE_EDITOR" or area.spaces.active.use_image_pin:
        return False
    area.spaces.active.image = image
    return True
