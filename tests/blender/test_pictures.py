"""Pictures in the Image Editor: what keeps one from being made or edited, what the panel says, settings taken over."""

from __future__ import annotations

import bpy
import pytest

from .drawing import drawn
from .made_pictures import JOB, picture, write_texts

pytestmark = pytest.mark.blender


def problem_of(addon, image: bpy.types.Image | None) -> str:
    found = addon.collect_picture.edit_problems(bpy.context.scene, image)
    return str(found[0]) if found else ""


def test_each_reason_why_a_picture_cannot_be_edited_is_told(addon, tmp_path) -> None:
    write_texts()
    assert "No picture is open" in problem_of(addon, None)
    assert "31 x 40" in problem_of(addon, picture("small", (31, 40)))
    assert "more than 4 times" in problem_of(addon, picture("long", (300, 40)))
    tiled = picture("tiled")
    tiled.source = "TILED"
    assert "tiles" in problem_of(addon, tiled)
    missing = bpy.data.images.new("missing", 64, 64)
    missing.source, missing.filepath_raw = "FILE", str(tmp_path / "nowhere.png")
    missing.reload()
    assert "no pixels" in problem_of(addon, missing)
    assert problem_of(addon, picture()) == ""


def test_a_render_is_to_be_saved_first(addon) -> None:
    scene = bpy.context.scene
    scene.camera = bpy.data.objects.new("eye", bpy.data.cameras.new("eye"))
    scene.collection.objects.link(scene.camera)
    scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 1, False
    scene.render.resolution_x = scene.render.resolution_y = 64
    bpy.ops.render.render()
    write_texts()
    assert "Save As" in problem_of(addon, bpy.data.images["Render Result"])


@pytest.mark.parametrize(("key", "said"), [("source", "shows now"), ("target", "show instead"), ("overrides", "JSON")])
def test_what_is_missing_is_told(addon, key, said) -> None:
    write_texts()
    setattr(bpy.context.scene.diorama.picture, key, "{" if key == "overrides" else "  ")
    assert said in problem_of(addon, picture())
    with pytest.raises(addon.collect.LayoutError):
        addon.collect_picture.collect_edit(bpy.context.scene, bpy.data.images["mine"])


def test_without_a_prompt_there_is_no_new_picture_and_the_panel_says_so(addon) -> None:
    assert not bpy.ops.diorama.generate_image.poll()
    assert "Say what the new picture is to show." in drawn(addon).replace("\n", " ")
    write_texts()
    assert bpy.ops.diorama.generate_image.poll()


def test_the_panel_draws_with_and_without_a_picture(addon) -> None:
    assert "No picture is open" in drawn(addon)
    write_texts()
    picture()
    assert "Edit 'mine'" in drawn(addon)
    assert "No picture is open" not in drawn(addon)


def test_settings_of_a_run_taken_over_give_its_request_again(addon) -> None:
    write_texts()
    settings = bpy.context.scene.diorama.picture
    settings.method, settings.edit_method, settings.seed, settings.steps = "vsd", "bridge", 7, 9
    settings.negative_prompt, settings.overrides = "blurred", '{"lr": 0.5}'
    image = picture()
    asked = [
        addon.collect_picture.collect_image(bpy.context.scene).request,
        addon.collect_picture.collect_edit(bpy.context.scene, image).request,
    ]
    for request in asked:
        bpy.ops.wm.read_homefile(use_empty=True)
        known = addon.answers.read_job({**JOB, "kind": request["kind"], "request": request})
        addon.jobs.session().history = [known]
        assert bpy.ops.diorama.use_settings(job=known.id) == {"FINISHED"}
        if request["kind"] == "image":
            assert addon.collect_picture.collect_image(bpy.context.scene).request == request
        else:
            assert addon.collect_picture.collect_edit(bpy.context.scene, picture("again")).request == request
