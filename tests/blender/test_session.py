"""The whole way with the real backend: generate, watch, import, history, cancel, go on, saving and loading."""

from __future__ import annotations

import json
import os
import signal

import bpy
import pytest

from .backends import QUICK, SMALL, adopt, settle, status, tick, wait_for
from .test_slots import add_slot

pytestmark = [pytest.mark.blender, pytest.mark.slow]


@pytest.fixture
def local(addon, service):
    """The add-on with the running backend adopted and its history empty."""
    adopt(addon)
    wait_for(addon, lambda: addon.jobs.session().presets)
    return addon


def lay_out(**settings) -> None:
    for key, value in {**QUICK, **settings}.items():
        setattr(bpy.context.scene.diorama, key, value)
    add_slot("a red cube")
    bpy.context.scene.cursor.location.x = 1.5
    add_slot("a blue sphere")
    bpy.ops.diorama.add_relation()
    bpy.context.scene.diorama.relations[0].relation = "right of"


def generate(addon) -> None:
    """Press the button, as in a Blender that has a window: there it does not wait."""
    collected = addon.collect.collect(bpy.context.scene, bpy.context.view_layer)
    addon.jobs.session().generate(bpy.context.scene, collected)


def results() -> list[bpy.types.Collection]:
    return [collection for collection in bpy.data.collections if collection.name.startswith("Diorama: ")]


def test_from_the_button_to_objects_in_the_scene_and_back_from_history(local, monkeypatch) -> None:
    lay_out()
    generate(local)
    assert status().state == "sending"
    seen = set()
    wait_for(local, lambda: seen.add(status().state) or status().state in ("done", "failed"))
    assert status().state == "done", status().fault
    assert seen >= {"sending", "running"}
    assert status().factor == 1.0
    wait_for(local, results)
    (collection,) = results()
    opened = []
    with monkeypatch.context() as patch:  # a file browser cannot be opened here
        patch.setitem(local.heard.HANDLERS, "files", lambda session, folder: opened.append(folder))
        bpy.ops.diorama.show_files(job=status().job)
        wait_for(local, lambda: opened)
    assert {"result.glb", "report.json", "preview.png", "log.txt"} <= {path.name for path in opened[0].iterdir()}
    assert sorted(thing["diorama_slot"] for thing in collection.objects) == ["blue sphere", "red cube"]
    assert bpy.context.scene.diorama.relations[0].outcome in ("yes", "no")
    assert bpy.data.objects["Slot red cube"].hide_get()
    assert local.jobs.session().pictures.has(status().job)

    job = status().job
    bpy.ops.wm.read_homefile(use_empty=True)
    tick(local)
    assert status().history[0].name == job
    bpy.ops.diorama.import_result(job=job)
    wait_for(local, results)
    assert len(results()[0].objects) == 2
    bpy.ops.diorama.use_settings(job=job)
    again = local.collect.collect(bpy.context.scene, bpy.context.view_layer).request
    assert [slot["name"] for slot in again["slots"]] == ["red cube", "blue sphere"]
    bpy.ops.diorama.delete_result(job=job)
    wait_for(local, lambda: job not in status().history)


def test_every_result_of_the_history_gets_its_picture(local) -> None:
    """As when Blender is opened again: nothing of it is in memory."""
    lay_out()
    generate(local)
    wait_for(local, lambda: status().state == "done" and results())
    job, session = status().job, local.jobs.session()
    session.pictures.close()
    session.pictures = local.pictures.Pictures()
    local.jobs.settings_changed()
    wait_for(local, lambda: session.pictures.has(job))
    first = session.pictures._keys[job]
    assert bpy.ops.diorama.resume(job=job, steps=1) == {"FINISHED"}
    wait_for(local, lambda: status().state == "running")
    wait_for(local, lambda: status().state == "done")
    local.jobs.settings_changed()
    wait_for(local, lambda: first != session.pictures._keys[job] and " after_" in session.pictures._keys[job])


def test_a_file_saved_and_loaded_during_a_run_gets_its_result(local, tmp_path) -> None:
    lay_out(steps=6)
    generate(local)
    wait_for(local, lambda: status().state in ("queued", "running"))
    path = str(tmp_path / "scene.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.read_homefile(use_empty=True)
    assert status().state in ("queued", "running")
    bpy.ops.wm.open_mainfile(filepath=path)
    assert status().job == bpy.context.scene.diorama.last_job
    wait_for(local, results)
    assert len(results()[0].objects) == 2


def test_a_result_of_another_file_waits_in_results(local) -> None:
    lay_out()
    generate(local)
    wait_for(local, lambda: status().state in ("queued", "running"))
    bpy.ops.wm.read_homefile(use_empty=True)
    wait_for(local, lambda: status().state == "done")
    settle(local)
    assert results() == []
    assert "waits in Results" in status().notice
    bpy.ops.diorama.import_result(job=status().job)
    wait_for(local, results)


def test_a_run_can_be_cancelled_and_go_on_to_its_end(local) -> None:
    lay_out(steps=300)
    generate(local)
    wait_for(local, lambda: status().step >= 2)
    assert bpy.ops.diorama.cancel() == {"FINISHED"}
    assert status().state == "cancelling"
    wait_for(local, lambda: status().state == "cancelled")
    assert not local.jobs.session().busy()
    job = status().job
    assert status().history[job].has_checkpoint
    assert bpy.ops.diorama.resume(job=job) == {"FINISHED"}
    wait_for(local, lambda: status().state == "running" and status().step >= 3)
    bpy.ops.diorama.cancel()
    wait_for(local, lambda: status().state == "cancelled")


def test_a_prompt_is_read_into_slots_and_unknown_words_are_named(local) -> None:
    scene = bpy.context.scene
    scene.diorama.prompt = "a red cube on top of a blue sphere"
    assert bpy.ops.diorama.read_prompt() == {"FINISHED"}
    wait_for(local, lambda: local.slots.slots_of(scene))
    assert [local.collect.relation_of(row)["relation"] for row in scene.diorama.relations] == ["on top of"]
    words = local.jobs.session().vocabulary["starter"]
    assert local.answers.unknown_words("a red cube on top of a blue zeppelin", words) == ["zeppelin"]


def test_a_prompt_is_not_read_into_another_file(local) -> None:
    bpy.context.scene.diorama.prompt = "a red cube on top of a blue sphere"
    bpy.ops.diorama.read_prompt()
    bpy.ops.wm.read_homefile(use_empty=True)
    settle(local)
    assert local.slots.slots_of(bpy.context.scene) == []
    assert local.jobs.session().reading is None


def test_a_result_that_waits_for_object_mode_comes_then_or_stays_in_results(local) -> None:
    lay_out()
    generate(local)
    wait_for(local, lambda: status().state in ("queued", "running"))
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.object.mode_set(mode="EDIT")
    wait_for(local, lambda: local.jobs.session().waiting)
    settle(local)
    assert results() == [] and "object mode" in status().notice
    bpy.ops.object.mode_set(mode="OBJECT")
    wait_for(local, results)
    bpy.ops.diorama.import_result(job=status().job)
    bpy.ops.wm.read_homefile(use_empty=True)
    wait_for(local, lambda: "waits in Results" in status().notice)
    assert results() == []


def test_imported_objects_have_their_own_prompts_and_readable_rewards(local) -> None:
    lay_out(overrides=SMALL.replace("{", '{"reward_from": 0.0, ', 1))
    generate(local)
    wait_for(local, lambda: status().fault or results())
    things = {thing.name: thing for thing in results()[0].objects}
    assert {name: thing["prompt"] for name, thing in things.items()} == {
        "red cube": "a red cube",
        "blue sphere": "a blue sphere",
    }
    cube, sphere = (things[name]["rewards"].to_dict() for name in ("red cube", "blue sphere"))
    assert "Do these pictures show a red cube?" in cube and "Do these pictures show a red cube?" not in sphere
    assert cube["blue sphere right of red cube"] == sphere["blue sphere right of red cube"]
    assert all(isinstance(value, float) for value in cube.values())


def test_a_refused_request_names_the_slot_and_what_to_do(local) -> None:
    lay_out(overrides='{"speed": 3}')
    generate(local)
    wait_for(local, lambda: status().fault)
    assert status().state == ""
    assert "setting" in status().fault
    assert "speed" in status().fault_where


def test_a_backend_that_dies_says_so_and_the_run_goes_on_after_a_restart(local) -> None:
    lay_out(steps=300)
    generate(local)
    wait_for(local, lambda: status().step >= 2)
    told = json.loads((local.preferences.config().data / "service.json").read_text())
    os.kill(told["pid"], signal.SIGKILL)
    wait_for(local, lambda: status().fault)
    assert status().fault_mend in ("start", "restart")
    bpy.ops.diorama.start()
    wait_for(local, lambda: status().state == "interrupted")
    assert status().fault_mend in ("resume", "again")  # a checkpoint is written every half second
    bpy.ops.diorama.resume(job=status().fault_job)
    wait_for(local, lambda: status().state == "running")
    bpy.ops.diorama.cancel()
    wait_for(local, lambda: status().state == "cancelled")


def test_a_backend_that_ended_while_nothing_ran_is_not_called_ready(local) -> None:
    told = json.loads((local.preferences.config().data / "service.json").read_text())
    os.kill(told["pid"], signal.SIGTERM)
    wait_for(local, lambda: status().backend == "none" and not local.processes.is_running(told["pid"]), 60.0)
    assert not status().fault
    bpy.ops.diorama.refresh()
    wait_for(local, lambda: status().backend == "ready")


def test_another_device_means_another_backend(local) -> None:
    chosen = local.preferences.preferences()
    chosen.device = "cuda"
    wait_for(local, lambda: status().backend == "none")
    bpy.ops.diorama.restart()
    wait_for(local, lambda: status().backend == "ready")
    assert status().device == "cuda"
    chosen.device = "cpu"
    wait_for(local, lambda: status().backend == "none")
    bpy.ops.diorama.start()
    wait_for(local, lambda: status().backend == "ready")
    assert status().device == "cpu"


def test_the_models_leave_the_memory_when_asked(local) -> None:
    lay_out()
    assert bpy.ops.diorama.generate() == {"FINISHED"}
    settle(local)
    wait_for(local, lambda: not local.jobs.session().busy())
    status().notice = ""
    bpy.ops.diorama.free_memory()
    wait_for(local, lambda: status().notice)
    assert status().notice == "The models have left the memory"
    status().notice = ""
    bpy.ops.diorama.free_memory()
    wait_for(local, lambda: status().notice)
    assert status().notice.startswith("No models were freed")


def test_without_a_window_generate_waits_for_the_result(local) -> None:
    lay_out()
    assert bpy.ops.diorama.generate() == {"FINISHED"}
    assert len(results()[0].objects) == 2
    assert bpy.context.scene.diorama.relations[0].outcome in ("yes", "no")
