"""What the buttons of the Image Editor's panel do, and the import of a picture."""

import random
from pathlib import Path
from typing import ClassVar

import bpy
from bpy.props import StringProperty

from . import headless, jobs
from .answers import Job
from .collect_picture import CollectedPicture, collect_edit, collect_image, edit_problems, image_problems
from .place_picture import any_editor, editor_of, place_picture, show_picture
from .runs import Begins, Places


class DIORAMA_OT_generate_image(Begins, bpy.types.Operator):
    """Make a picture of the prompt. Without a window this waits until the picture is in the file"""

    bl_idname = "diorama.generate_image"
    bl_label = "Generate Image"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return cls.may_begin(image_problems(context.scene))

    def begin(self, context: bpy.types.Context) -> None:
        _send(context, collect_image(context.scene))


class DIORAMA_OT_edit_image(Begins, bpy.types.Operator):
    """Change the open picture. The result is a new picture: the open one stays as it is"""

    bl_idname = "diorama.edit_image"
    bl_label = "Edit Image"

    image: StringProperty(description="Name of the picture; empty: the open one", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.area is None or context.area.type != "IMAGE_EDITOR":
            return cls.may_begin()  # a script names the picture
        return cls.may_begin(edit_problems(context.scene, context.space_data.image))

    def begin(self, context: bpy.types.Context) -> None:
        image = bpy.data.images.get(self.image) if self.image else getattr(context.space_data, "image", None)
        _send(context, collect_edit(context.scene, image))


def _send(context: bpy.types.Context, collected: CollectedPicture) -> None:
    if bpy.app.background:
        headless.make_picture(context.scene, collected)
    else:
        jobs.session().make_picture(context.scene, collected, editor_of(context))


class DIORAMA_OT_random_picture_seed(bpy.types.Operator):
    """Another seed gives another picture"""

    bl_idname = "diorama.random_picture_seed"
    bl_label = "Another Seed"
    bl_options: ClassVar = {"UNDO", "INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.scene.diorama.picture.seed = random.randrange(1_000_000)
        return {"FINISHED"}


class DIORAMA_OT_place_picture(Places, bpy.types.Operator):
    """Put a picture that has been fetched into the file"""

    bl_idname = "diorama.place_picture"
    bl_label = "Import Diorama Picture"
    bl_options: ClassVar = {"UNDO", "INTERNAL"}

    def put(self, context: bpy.types.Context, path: Path, job: Job, scene: bpy.types.Scene) -> str:
        image = place_picture(path, job)
        origin = jobs.session().origins.get(job.id)
        editor = any_editor(context) if self.select or origin is None else origin.editor
        if not show_picture(image, editor):
            return f"'{image.name}' is a new picture: choose it in an Image Editor"
        scene.diorama.picture.source = job.prompt  # the open picture is another one now
        return f"'{image.name}' is a new picture"


CLASSES = (
    DIORAMA_OT_generate_image,
    DIORAMA_OT_edit_image,
    DIORAMA_OT_random_picture_seed,
    DIORAMA_OT_place_picture,
)
