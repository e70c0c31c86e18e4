"""Pictures in the Image Editor: what is sent of one, what comes back, and the whole way with the real backend."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import bpy
import numpy as np
import pytest

from .backends import false_backend, http, status, tick, use_local, use_remote, wait_for
from .drawing import drawn
from .made_pictures import JOB, picture, pixels, write_texts
from .test_bad_input import path_of
from .test_responsive import HEALTH

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


def an_editor() -> tuple[str, int]:
    """One of the factory settings' Image Editors."""
    types = {screen.name: [area.type for area in screen.areas] for screen in bpy.data.screens}
    return next((name, kinds.index("IMAGE_EDITOR")) for name, kinds in types.items() if "IMAGE_EDITOR" in kinds)


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
    addon.jobs.session().waiting.append((job, result, False))
    tick(addon)
    assert "Diorama: a blue cube" in bpy.data.images
    assert bpy.context.object.mode == mode


def test_the_editor_that_asked_shows_the_result_unless_it_is_pinned(addon, job, result) -> None:
    screen, index = an_editor()
    space = bpy.data.screens[screen].areas[index].spaces.active
    space.image = mine = picture()
    origin = addon.jobs.Origin("Scene", addon.place_picture.Editor(screen, index))
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
    addon.jobs.session().origins[job.id] = addon.jobs.Origin("Scene", addon.place_picture.Editor(*an_editor()))
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


def test_words_are_asked_for_again_while_the_backend_is_starting(addon, monkeypatch) -> None:
    monkeypatch.setattr(addon.jobs, "WORDS_S", 0.2)
    known = {"limited": True, "words": ["a"], "nouns": ["cube"], "colours": [], "relations": []}
    refusals = ["not yet"] * 2

    def answer(connection: socket.socket) -> None:
        path = path_of(connection)
        answers = {"/v1/health": HEALTH, "/v1/presets": {"presets": []}, "/v1/jobs": {"jobs": [], "next": None}}
        if path == "/v1/vocabulary" and refusals:
            refusals.pop()
            error = {"what": "the worker process did not answer", "where": "vocabulary", "remedy": "It may be starting"}
            connection.sendall(http(json.dumps({"error": error}).encode(), "500 Not yet"))
        else:
            connection.sendall(http(json.dumps(answers.get(path, known)).encode()))

    with false_backend(answer) as address:
        use_remote(addon, address)
        wait_for(addon, lambda: addon.jobs.session().vocabulary.get("starter") == known, 30.0)
        assert refusals == [] and status().fault == ""


@pytest.fixture
def local(addon, service):
    """The add-on with the running backend adopted, and an Image Editor."""
    use_local(addon)
    wait_for(addon, lambda: status().backend == "ready")
    write_texts()
    settings = bpy.context.scene.diorama.picture
    settings.steps, settings.overrides = 3, '{"explore_steps": 2}'
    return addon


def made(name: str) -> bpy.types.Image | None:
    return next((image for image in bpy.data.images if image.name.startswith(f"Diorama: {name}")), None)


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_picture_that_is_cancelled_can_be_started_again(local) -> None:
    scene = bpy.context.scene
    scene.diorama.picture.steps = 100_000
    local.jobs.session().make_picture(scene, local.collect_picture.collect_image(scene), None)
    wait_for(local, lambda: status().step >= 2 or status().fault)
    assert bpy.ops.diorama.cancel() == {"FINISHED"}
    wait_for(local, lambda: status().state == "cancelled")
    assert local.panels_results._resuming(status().history[0]) == ("Start Again", True)
    job = status().job
    assert bpy.ops.diorama.resume(job=job) == {"FINISHED"}
    wait_for(local, lambda: status().state == "running")
    bpy.ops.diorama.cancel()
    wait_for(local, lambda: status().state == "cancelled")
    assert made("a red cube") is None


@pytest.mark.slow
def test_a_result_of_another_file_waits_in_results(local) -> None:
    scene = bpy.context.scene
    local.jobs.session().make_picture(scene, local.collect_picture.collect_image(scene), None)
    wait_for(local, lambda: status().state in ("queued", "running"))
    bpy.ops.wm.read_homefile(use_empty=True)
    wait_for(local, lambda: status().state == "done")
    for _ in range(20):
        tick(local)
        time.sleep(0.02)
    assert made("a red cube") is None
    assert "waits in Results" in status().notice


@pytest.mark.slow
def test_without_a_window_the_button_waits_for_the_picture(local) -> None:
    picture()
    assert bpy.ops.diorama.edit_image(image="mine") == {"FINISHED"}
    assert made("a blue cube") is not None
    with pytest.raises(RuntimeError, match="No picture is open"):
        bpy.ops.diorama.edit_image(image="another")
