"""What the buttons of the Image Editor's panel do, and the import of a picture."""

import random
from pathlib import Path
from typing import ClassVar

import bpy
from bpy.props import BoolProperty, StringProperty

from . import headless, jobs
from .collect import LayoutError
from .collect_picture import CollectedPicture, collect_edit, collect_image, edit_problems, image_problems
from .messages import BackendError
from .place import PlaceError
from .place_picture import any_editor, editor_of, place_picture, show_picture

RUNNING = "A generation is running: wait for it, or cancel it"


class _Begins:
    """What both buttons that begin a run have in common."""

    def begin(self, context: bpy.types.Context, collected: CollectedPicture) -> set[str]:
        if not bpy.app.background:
            jobs.session().make_picture(context.scene, collected, editor_of(context))
            return {"FINISHED"}
        try:
            headless.make_picture(context.scene, collected)
        except (BackendError, PlaceError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class DIORAMA_OT_generate_image(_Begins, bpy.types.Operator):
    """Make a picture of the prompt. Without a window this waits until the picture is in the file"""

    bl_idname = "diorama.generate_image"
    bl_label = "Generate Image"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if jobs.session().busy():
            cls.poll_message_set(RUNNING)
            return False
        found = image_problems(context.scene)
        if found:
            cls.poll_message_set(str(found[0]))
        return not found

    def execute(self, context: bpy.types.Context) -> set[str]:
        return self.begin(context, collect_image(context.scene))


class DIORAMA_OT_edit_image(_Begins, bpy.types.Operator):
    """Change the open picture. The result is a new picture: the open one stays as it is"""

    bl_idname = "diorama.edit_image"
    bl_label = "Edit Image"

    image: StringProperty(description="Name of the picture; empty: the open one", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if jobs.session().busy():
            cls.poll_message_set(RUNNING)
            return False
        if context.area is None or context.area.type != "IMAGE_EDITOR":
            return True  # a script names the picture
        found = edit_problems(context.scene, context.space_data.image)
        if found:
            cls.poll_message_set(str(found[0]))
        return not found

    def execute(self, context: bpy.types.Context) -> set[str]:
        image = bpy.data.images.get(self.image) if self.image else getattr(context.space_data, "image", None)
        try:
            collected = collect_edit(context.scene, image)
        except LayoutError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return self.begin(context, collected)


class DIORAMA_OT_random_picture_seed(bpy.types.Operator):
    """Another seed gives another picture"""

    bl_idname = "diorama.random_picture_seed"
    bl_label = "Another Seed"
    bl_options: ClassVar = {"UNDO", "INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.scene.diorama.picture.seed = random.randrange(1_000_000)
        return {"FINISHED"}


class DIORAMA_OT_place_picture(bpy.types.Operator):
    """Put a picture that has been fetched into the file"""

    bl_idname = "diorama.place_picture"
    bl_label = "Import Diorama Picture"
    bl_options: ClassVar = {"UNDO", "INTERNAL"}

    job: StringProperty()
    filepath: StringProperty()
    select: BoolProperty()

    def execute(self, context: bpy.types.Context) -> set[str]:
        session = jobs.session()
        job = session.job_called(self.job)
        if job is None:
            self.report({"ERROR"}, "This result is not known any more")
            return {"CANCELLED"}
        try:
            image = place_picture(Path(self.filepath), job)
        except PlaceError as error:
            session.fail(BackendError(str(error), self.filepath, "Import it again from Results", "log"))
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        origin = session.origins.get(job.id)
        editor = any_editor(context) if self.select or origin is None else origin.editor
        shown = show_picture(image, editor)
        if shown:
            scene = context.scene if self.select else (session.scene_of(job) or context.scene)
            scene.diorama.picture.source = job.prompt  # the open picture is another one now
        session.say(f"'{image.name}' is a new picture" + ("" if shown else ": choose it in an Image Editor"))
        return {"FINISHED"}


CLASSES = (
    DIORAMA_OT_generate_image,
    DIORAMA_OT_edit_image,
    DIORAMA_OT_random_picture_seed,
    DIORAMA_OT_place_picture,
)
