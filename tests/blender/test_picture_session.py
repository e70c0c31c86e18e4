"""Pictures the whole way with the real backend: made, edited, cancelled and started again, in another file."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from .backends import adopt, settle, status, wait_for
from .made_pictures import an_editor, picture, write_texts

pytestmark = [pytest.mark.blender, pytest.mark.slow]


@pytest.fixture
def local(addon, service):
    """The add-on with the running backend adopted, and an Image Editor."""
    adopt(addon)
    write_texts()
    settings = bpy.context.scene.diorama.picture
    settings.steps, settings.overrides = 3, '{"explore_steps": 2}'
    return addon


def made(name: str) -> bpy.types.Image | None:
    return next((image for image in bpy.data.images if image.name.startswith(f"Diorama: {name}")), None)


def test_from_the_button_to_a_new_picture_and_from_that_to_its_edit(local) -> None:
    session, scene = local.jobs.session(), bpy.context.scene
    editor = local.place_picture.Editor(*an_editor())
    space = bpy.data.screens[editor.screen].areas[editor.area].spaces.active
    session.make_picture(scene, local.collect_picture.collect_image(scene), editor)
    assert status().state == "sending"
    assert not bpy.ops.diorama.generate_image.poll() and not bpy.ops.diorama.generate.poll()
    wait_for(local, lambda: made("a red cube") or status().fault)
    first = made("a red cube")
    assert first is not None, status().fault
    assert space.image == first and tuple(first.size) == (64, 64)
    before = first.pixels[:]

    session.make_picture(scene, local.collect_picture.collect_edit(scene, space.image), editor)
    seen: set[str] = set()
    wait_for(local, lambda: seen.update(row.name for row in status().rewards) or made("a blue cube") or status().fault)
    second = made("a blue cube")
    assert second is not None, status().fault
    assert space.image == second
    assert seen == {"best", "mean"}
    assert first.pixels[:] == before != second.pixels[:]
    assert [row.kind for row in status().history[:2]] == ["edit", "image"]
    assert local.jobs.session().pictures.has(status().job)

    job = status().history[1].name
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.ops.diorama.import_result(job=job)
    wait_for(local, lambda: made("a red cube") or status().fault)
    assert np.allclose(made("a red cube").pixels[:], before)


def test_a_picture_that_is_cancelled_can_be_started_again(local) -> None:
    scene = bpy.context.scene
    scene.diorama.picture.steps = 100_000
    local.jobs.session().make_picture(scene, local.collect_picture.collect_image(scene), None)
    wait_for(local, lambda: status().step >= 2 or status().fault)
    assert bpy.ops.diorama.cancel() == {"FINISHED"}
    wait_for(local, lambda: status().state == "cancelled")
    assert local.panels_results.resuming(status().history[0]) == "Start Again"
    assert local.operators_results.not_resumable(status().history[0]) == ""
    job = status().job
    assert bpy.ops.diorama.resume(job=job) == {"FINISHED"}
    wait_for(local, lambda: status().state == "running")
    bpy.ops.diorama.cancel()
    wait_for(local, lambda: status().state == "cancelled")
    assert made("a red cube") is None


def test_a_result_of_another_file_waits_in_results(local) -> None:
    scene = bpy.context.scene
    local.jobs.session().make_picture(scene, local.collect_picture.collect_image(scene), None)
    wait_for(local, lambda: status().state in ("queued", "running"))
    bpy.ops.wm.read_homefile(use_empty=True)
    wait_for(local, lambda: status().state == "done")
    settle(local)
    assert made("a red cube") is None
    assert "waits in Results" in status().notice


def test_without_a_window_the_button_waits_for_the_picture(local) -> None:
    picture()
    assert bpy.ops.diorama.edit_image(image="mine") == {"FINISHED"}
    assert made("a blue cube") is not None
    with pytest.raises(RuntimeError, match="No picture is open"):
        bpy.ops.diorama.edit_image(image="another")
