"""A fetched picture in the file: packed, in one undo step, in any mode, shown in the editor that asked for it."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from .backends import status, tick
from .made_pictures import JOB, an_editor, picture, pixels, write_texts

pytestmark = pytest.mark.blender


@pytest.fixture
def job(addon):
    """A job that is done, known to the session."""
    tick(addon)
    known = addon.answers.read_job(JOB)
    addon.jobs.session().job = known
    return known


@pytest.fixture
def result(tmp_path) -> Path:
    """A fetched result."""
    path = tmp_path / "result.png"
    image = picture("written", (64, 64))
    image.filepath_raw, image.file_format = str(path), "PNG"
    image.save()
    bpy.data.images.remove(image)
    return path


def place(job, path: Path) -> bpy.types.Image:
    before = set(bpy.data.images)
    assert bpy.ops.diorama.place_picture("EXEC_DEFAULT", True, job=job.id, filepath=str(path)) == {"FINISHED"}
    (image,) = set(bpy.data.images) - before
    return image


def test_a_result_is_a_new_packed_picture_that_says_where_it_comes_from(job, result) -> None:
    other = picture("Diorama: a blue cube")
    image = place(job, result)
    assert (other.name, image.name) == ("Diorama: a blue cube", "Diorama: a blue cube.001")
    assert image.packed_file is not None and str(result) not in image.filepath
    assert (image["prompt"], image["source"], image["seed"], image["diorama_job"]) == (
        *("a blue cube", "a red cube"),
        *(3, job.id),
    )
    assert image["settings"]["steps"] == 4


def test_a_result_is_kept_with_the_file_though_nothing_uses_it(job, result, tmp_path) -> None:
    name = place(job, result).name
    result.unlink()
    path = str(tmp_path / "file.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.open_mainfile(filepath=path)
    image = bpy.data.images[name]
    np.testing.assert_allclose(np.array(image.pixels[:]).reshape(64, 64, 4), pixels((64, 64)), atol=0.01)


def test_a_result_is_one_undo_step(job, result) -> None:
    mine = picture().name
    bpy.ops.ed.undo_push(message="before")
    place(job, result)
    bpy.ops.ed.undo()
    assert [image.name for image in bpy.data.images if image.name != "Render Result"] == [mine]


@pytest.mark.parametrize("mode", ["OBJECT", "EDIT", "TEXTURE_PAINT", "SCULPT"])
def test_a_result_arrives_in_any_mode(addon, job, result, mode) -> None:
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.object.mode_set(mode=mode)
    addon.jobs.session().waiting.append(addon.arrivals.Arrived(job, result, False, 0.0))
    tick(addon)
    assert "Diorama: a blue cube" in bpy.data.images
    assert bpy.context.object.mode == mode


def test_the_editor_that_asked_shows_the_result_unless_it_is_pinned(addon, job, result) -> None:
    screen, index = an_editor()
    space = bpy.data.screens[screen].areas[index].spaces.active
    space.image = mine = picture()
    origin = addon.session.Origin("Scene", addon.place_picture.Editor(screen, index))
    addon.jobs.session().origins[job.id] = origin
    image = place(job, result)
    assert space.image == image and mine.name in bpy.data.images
    space.image, space.use_image_pin = mine, True
    place(job, result)
    assert space.image == mine
    assert "choose it in an Image Editor" in status().notice
    space.use_image_pin = False


def test_the_panel_says_what_the_result_shows_once_an_editor_shows_it(addon, job, result) -> None:
    write_texts()
    settings = bpy.context.scene.diorama.picture
    place(job, result)
    assert settings.source == "a red cube"  # no editor asked: what is open is still the picture of before
    addon.jobs.session().origins[job.id] = addon.session.Origin("Scene", addon.place_picture.Editor(*an_editor()))
    place(job, result)
    assert (settings.source, settings.target) == ("a blue cube", "a blue cube")


def test_what_is_no_picture_leaves_nothing(addon, job, tmp_path) -> None:
    path = tmp_path / "result.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing IEND\xaeB`\x82")
    before = list(bpy.data.images)
    with pytest.raises(RuntimeError):
        bpy.ops.diorama.place_picture(job=job.id, filepath=str(path))
    assert list(bpy.data.images) == before
    assert addon.jobs.session().fault is not None
    path.write_bytes(b"<html>")
    with pytest.raises(addon.messages.BackendError):
        addon.results.check_png(path)
