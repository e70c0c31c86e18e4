"""What has arrived changes the scene when the user is not in the middle of something, and is never lost in silence."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest

from .backends import status, tick
from .test_panels import JOB
from .test_slots import add_mesh, names

pytestmark = pytest.mark.blender
PARSED = {"slots": [{"name": "cube", "prompt": "a red cube"}], "relations": [], "warnings": ["no colour"]}


@pytest.fixture
def session(addon, monkeypatch):
    """The session, whose network thread is asked for nothing: the tests send its messages."""
    tick(addon)
    known = addon.jobs.session()
    monkeypatch.setattr(known.network, "ask", lambda *arguments, **named: None)
    tick(addon)
    known.clear_fault()
    return known


def job(addon, id: str = "job-1"):
    return addon.answers.read_job({**JOB, "id": id, "state": "done"})


def arrive(addon, known, path: Path) -> None:
    addon.jobs.session().network._post("result", (known, path))
    tick(addon)


def fail(addon, id: str = "") -> None:
    error = addon.messages.BackendError("It is gone", "", "Try again", "import" if id else "", id)
    addon.jobs.session().network._post("fault", ("result", error))
    tick(addon)


def imported() -> list[str]:
    """The jobs whose results are in the file."""
    return sorted(c.objects[0]["diorama_job"] for c in bpy.data.collections if c.name.startswith("Diorama: "))


@pytest.fixture
def glb(exported) -> Path:
    return exported / "scene.glb"


@pytest.fixture
def tool(addon, monkeypatch):
    """A tool that runs: without a window there is none. Calling it ends it."""
    monkeypatch.setattr(addon.arrivals, "running_tool", lambda waited_s: "Move")
    return lambda: monkeypatch.setattr(addon.arrivals, "running_tool", lambda waited_s: "")


def test_blender_s_own_tools_are_waited_for_and_an_add_on_s_only_for_seconds(addon) -> None:
    own, added = SimpleNamespace(name="Move"), SimpleNamespace(name="Screencast", modal=print)
    patience = addon.arrivals.PATIENCE_S
    disturbed = addon.arrivals.disturbed
    assert [disturbed(own, s) for s in (0.0, patience, 10 * patience)] == [True, True, True]
    assert [disturbed(added, s) for s in (0.0, 0.9 * patience, patience)] == [True, True, False]


def test_a_result_is_imported_as_soon_as_the_running_tool_has_ended(addon, session, glb, tool) -> None:
    bpy.ops.diorama.import_result(job="job-1")
    arrive(addon, job(addon), glb)
    assert imported() == []
    assert status().notice == "A result has arrived: it is imported as soon as 'Move' has ended"
    tool()
    tick(addon)
    assert imported() == ["job-1"]
    assert "is in the scene" in status().notice


def test_a_prompt_that_was_read_changes_no_slot_while_a_tool_runs(addon, session, tool) -> None:
    bpy.context.scene.diorama.prompt = "a red cube"
    bpy.ops.diorama.read_prompt()
    session.network._post("parsed", ("a red cube", PARSED))
    tick(addon)
    assert names(addon) == []
    assert "as soon as 'Move' has ended" in status().notice
    assert not bpy.ops.diorama.read_prompt.poll()
    tool()
    tick(addon)
    assert names(addon) == ["cube"]
    assert (status().notice, status().warnings) == ("", "no colour")
    assert bpy.ops.diorama.read_prompt.poll()


@pytest.mark.parametrize("mode", ["EDIT", "SCULPT"])
def test_a_result_that_was_clicked_on_comes_in_any_mode(addon, session, glb, mode) -> None:
    mesh = add_mesh("mine")
    bpy.ops.object.mode_set(mode=mode)
    bpy.ops.diorama.import_result(job="job-1")
    arrive(addon, job(addon), glb)
    assert imported() == ["job-1"]
    assert mesh.mode == mode


def test_a_result_that_comes_by_itself_waits_for_object_mode_and_says_so(addon, session, glb) -> None:
    bpy.context.scene.diorama.last_job = "job-1"
    add_mesh("mine")
    bpy.ops.object.mode_set(mode="EDIT")
    arrive(addon, job(addon), glb)
    assert imported() == []
    assert "object mode" in status().notice
    bpy.ops.object.mode_set(mode="OBJECT")
    tick(addon)
    assert imported() == ["job-1"]


def test_a_result_whose_file_is_gone_can_be_fetched_again(addon, session, tmp_path) -> None:
    session.say("Good news of before")
    bpy.ops.diorama.import_result(job="job-1")
    arrive(addon, job(addon), tmp_path / "result.glb")
    assert "cannot be read" in status().fault
    assert (status().fault_mend, status().fault_job, status().notice) == ("import", "job-1", "")
    assert session.waiting == []


def test_an_import_that_fails_leaves_the_others_to_come(addon, session, glb) -> None:
    for id in ("job-1", "job-2", "job-3"):
        bpy.ops.diorama.import_result(job=id)
    fail(addon, "job-1")
    fail(addon)  # such as a job that is not there any more: the second, for they are answered in order
    assert session.wanted == {"job-3"}
    arrive(addon, job(addon, "job-3"), glb)
    assert imported() == ["job-3"]
    assert session.fetching == []


def test_a_result_of_a_job_that_the_history_has_forgotten_is_imported(addon, session, glb) -> None:
    bpy.ops.diorama.import_result(job="job-1")
    session.history, session.job = [], None
    arrive(addon, job(addon), glb)
    assert imported() == ["job-1"]


def test_a_double_click_imports_once(addon, session, glb) -> None:
    for _ in range(2):
        bpy.ops.diorama.import_result(job="job-1")
    for _ in range(2):
        arrive(addon, job(addon), glb)
    assert imported() == ["job-1"]
    assert "is in the scene" in status().notice


@pytest.mark.parametrize("arrives", ["before", "after"])
def test_a_result_asked_for_in_one_file_does_not_land_in_another(addon, session, glb, tool, arrives) -> None:
    bpy.ops.diorama.import_result(job="job-1")
    if arrives == "before":
        arrive(addon, job(addon), glb)
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.context.scene.diorama.last_job = "job-1"
    tool()
    if arrives == "after":
        arrive(addon, job(addon), glb)
    tick(addon)
    assert imported() == []
    assert "waits in Results" in status().notice
    bpy.ops.diorama.import_result(job="job-1")
    arrive(addon, job(addon), glb)
    assert imported() == ["job-1"]


def test_a_result_that_is_deleted_while_it_waits_is_not_imported(addon, session, glb, tool) -> None:
    bpy.ops.diorama.import_result(job="job-1")
    arrive(addon, job(addon), glb)
    session.network._post("deleted", "job-1")
    tick(addon)
    tool()
    tick(addon)
    assert (imported(), status().notice, status().fault) == ([], "", "")


@pytest.mark.parametrize("known", ["origin", "file", "renamed"])
def test_a_result_goes_to_the_scene_that_asked_and_not_to_a_copy_of_it(addon, session, known) -> None:
    here = bpy.context.scene
    here.name = "Z"  # so that the copy comes first
    here.diorama.last_job = "job-1"
    bpy.ops.scene.new(type="FULL_COPY")
    copy = bpy.context.scene
    copy.name = "A"
    assert copy.diorama.last_job == "job-1"
    if known == "origin":
        session.origins["job-1"] = addon.session.Origin("Z")
    if known == "renamed":
        session.origins["job-1"] = addon.session.Origin("Y")
        bpy.data.scenes.new("Y")  # a new one has the name now under which the request was sent
    assert session.scene_of(job(addon)) == here
    bpy.data.scenes.remove(here)
    assert session.scene_of(job(addon)) == copy
