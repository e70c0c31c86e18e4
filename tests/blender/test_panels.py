"""Every panel draws in every state, with buttons and icons that there are, and says what one needs to know."""

from __future__ import annotations

from types import SimpleNamespace

import bpy
import pytest

from .backends import status, tick, wait_for
from .drawing import Layout, draw, drawn
from .test_slots import add_mesh, add_slot

pytestmark = pytest.mark.blender
JOB = {
    "id": "20261123-141500-ab12cd",
    "created": "2026-11-23T14:15:00Z",
    "request": {"prompt": "a red cube on a blue sphere", "slots": [{"name": "cube", "prompt": "a red cube"}]},
    "progress": {
        "step": 30,
        "steps": 120,
        "rewards": {"cube: content": 1.2},
        "seconds_left": 75,
        "phase": "optimising",
    },
    "warnings": ["the prior does not know 'zeppelin'"],
    "has_result": True,
    "has_checkpoint": True,
    "seconds": 100,
}


def hear(addon, **changes) -> None:
    """As if the backend had told this of a job that was sent from here."""
    session = addon.jobs.session()
    tick(addon)
    session.sent.add(JOB["id"])
    session.network._post("job", addon.answers.read_job({**JOB, **changes}))
    tick(addon)


def test_an_empty_scene_says_how_to_begin(addon) -> None:
    assert "There is nothing to generate." in drawn(addon)


def test_results_are_not_said_to_be_missing_before_the_backend_was_asked(addon) -> None:
    wait_for(addon, lambda: status().backend == "none")
    assert "Refresh starts it" in drawn(addon) and "Nothing yet" not in drawn(addon)
    addon.jobs.session().network._post("backend", {"state": "ready"})
    tick(addon)
    assert "Nothing yet" in drawn(addon) and "Refresh starts it" not in drawn(addon)


def test_slots_and_relations_are_drawn(addon) -> None:
    add_slot("a red cube")
    add_mesh("ground")
    bpy.ops.diorama.slots_from_selection(kind="context")
    bpy.ops.diorama.add_relation()
    bpy.context.scene.diorama.relations[0].outcome = "no"
    bpy.context.scene.diorama.relations[0].probability = 0.25
    assert "Not fulfilled (score 25%)" in drawn(addon)


@pytest.mark.parametrize("state", ["queued", "running", "cancelling", "done", "failed", "cancelled", "interrupted"])
def test_a_run_is_drawn_in_every_state(addon, state) -> None:
    add_slot("a red cube")
    hear(addon, state=state, position=2 if state == "queued" else None, error=None, log_tail="Traceback")
    text = drawn(addon)
    assert "'zeppelin'" in text
    expected = {"queued": "Waiting in the queue (2)", "running": "Optimising: 30 of 120", "cancelling": "Stopping"}
    assert expected.get(state, f", {state}, 1 min 40 s") in text
    if state == "running":
        assert "1 min 15 s left" in text
        assert "\ncube\n" in text and "%" in text


@pytest.mark.parametrize(("kind", "said"), [("scene", "Opt"), ("image", "Picture, opt"), ("edit", "Picture, opt")])
def test_each_panel_that_shows_a_run_says_whether_it_is_a_picture_s(addon, kind, said) -> None:
    hear(addon, state="running", kind=kind)
    for panel in (addon.panels.DIORAMA_PT_generate, addon.panels_picture.DIORAMA_PT_picture):
        assert f"{said}imising: 30 of 120" in draw(addon, panel)


def test_a_slot_is_as_sure_as_its_least_sure_answer(addon) -> None:
    rewards = [
        SimpleNamespace(name=name, log_odds=odds)
        for name, odds in (
            ("mug on top of tray: Q?", 0.0),
            ("cube: lid: Is it red?", 1000.0),
            ("cube: lid: Whole?", -1000.0),
        )
    ]
    assert addon.run_view.answers(rewards) == {"mug on top of tray": 0.5, "cube: lid": 0.0}


@pytest.mark.parametrize("mend", ["resume", "again", "import"])
def test_what_mends_a_job_s_error_is_a_button_for_that_job(addon, mend) -> None:
    tick(addon)
    addon.jobs.session().fail(addon.messages.BackendError("It stopped", "", "Go on", mend, "job-17"))
    operator, _, text = addon.layouts.JOB_MENDS[mend]
    assert text in drawn(addon) and addon.mirror.status().fault_job == "job-17"
    assert "job" in getattr(bpy.ops.diorama, operator.partition(".")[2]).get_rna_type().properties


@pytest.mark.parametrize(
    ("kind", "checkpoint", "mend"), [("scene", True, "resume"), ("scene", False, "again"), ("image", True, "again")]
)
def test_an_interrupted_run_goes_on_where_it_can_and_begins_anew_where_not(addon, kind, checkpoint, mend) -> None:
    job = addon.answers.read_job({**JOB, "state": "interrupted", "kind": kind, "has_checkpoint": checkpoint})
    error = addon.mirror.job_fault(job)
    assert (error.mend, error.job) == (mend, job.id)
    addon.mirror.show_history(status(), [job], False)
    row = status().history[0]
    assert addon.operators_results.not_resumable(row) == ""
    assert addon.panels_results.resuming(row) == addon.layouts.JOB_MENDS[mend][2]


@pytest.mark.parametrize(
    ("operator", "kind", "state", "result", "says"),
    [
        ("import_result", "scene", "running", False, "has not ended yet"),
        ("import_result", "scene", "failed", False, "made no result"),
        ("import_result", "scene", "done", True, ""),
        ("resume", "scene", "queued", False, "has not ended yet"),
        ("resume", "image", "done", True, "This picture is done"),
        ("resume", "scene", "done", True, ""),
        ("resume", "image", "cancelled", False, ""),
    ],
)
def test_a_greyed_button_of_a_result_says_why(addon, operator, kind, state, result, says) -> None:
    tick(addon)
    job = addon.answers.read_job({**JOB, "state": state, "kind": kind, "has_result": result})
    addon.mirror.show_history(status(), [job], False)
    button = getattr(bpy.ops.diorama, operator)
    with bpy.context.temp_override(diorama_result=status().history[0]):
        assert button.poll() == (not says)
        if says:
            with pytest.raises(RuntimeError, match=says):
                button(job=job.id)
    assert button.poll()  # a script names the job itself


def test_deleting_a_result_asks_first(addon, monkeypatch) -> None:
    """Without a window Blender cannot ask: what it would be told to ask is looked at."""
    asked, answer = [], {"RUNNING_MODAL"}
    manager = SimpleNamespace(invoke_confirm=lambda operator, event: asked.append(operator.bl_label) or answer)
    kind = addon.operators_results.DIORAMA_OT_delete_result
    assert kind.invoke(kind, SimpleNamespace(window_manager=manager), None) == answer
    assert asked == ["Delete This Result?"]


@pytest.mark.parametrize("mend", ["", "install", "start", "restart", "log", "settings"])
def test_an_error_is_drawn_with_its_button(addon, mend) -> None:
    tick(addon)
    error = addon.messages.BackendError("The disk is full", "/a/very/long/path/" + "x" * 200, "Make room", mend)
    addon.jobs.session().fail(error)
    assert "The disk is full." in drawn(addon)
    if mend:
        assert addon.layouts.MENDS[mend][0].startswith("diorama.")


def test_an_error_is_shown_again_after_a_file_is_loaded_until_it_is_dismissed(addon) -> None:
    tick(addon)
    addon.jobs.session().fail(addon.messages.BackendError("The disk is full", "", "Make room"))
    bpy.ops.wm.read_homefile(use_empty=True)
    assert "The disk is full." in drawn(addon)
    bpy.ops.diorama.dismiss()
    assert "The disk is full." not in drawn(addon)


def test_an_error_names_the_slot_it_is_about(addon) -> None:
    hear(addon, state="failed", error={"what": "is empty", "where": "slots[0].prompt", "remedy": "Fill it in"})
    assert "slot 'cube', prompt" in drawn(addon)


def test_words_that_the_models_do_not_know_are_named_before_the_run(addon) -> None:
    bpy.context.scene.diorama.prompt = "a red Zeppelin, on top of a cube"
    known = {"limited": True, "words": ["a", "of"], "nouns": ["cube"], "colours": ["red"], "relations": ["on top of"]}
    addon.jobs.session().vocabulary["starter"] = known
    assert "not know 'zeppelin'" in drawn(addon).replace("\n", " ")
    addon.jobs.session().vocabulary["starter"] = {**known, "limited": False}
    assert "zeppelin'" not in drawn(addon)


@pytest.mark.parametrize("location", ["INSTALL", "PYTHON", "REMOTE"])
def test_the_preferences_are_drawn(addon, location) -> None:
    addon.preferences.preferences().location = location
    texts: list[str] = []
    addon.layouts.draw_preferences(Layout(texts), addon.preferences.preferences(), bpy.context)
    assert any("Backend" in text for text in texts)


def test_long_texts_are_broken_and_nothing_of_them_is_lost(addon) -> None:
    text = "The file cannot be written: /home/someone/" + "deep/" * 30 + "file.glb"
    lines = addon.layouts.wrapped(text, 30)
    assert max(map(len, lines)) <= 30
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_a_picture_that_changed_is_shown_anew(addon, tmp_path) -> None:
    pictures = addon.jobs.session().pictures
    for colour in (0.2, 0.8):
        path = tmp_path / f"live_{colour}.jpg"
        image = bpy.data.images.new("picture", 32, 32)
        image.pixels = [colour, 0.1, 0.1, 1.0] * (32 * 32)
        image.file_format = "JPEG"
        image.filepath_raw = str(path)
        image.save()
        pictures.show("job", path)
        icon = pictures._icons[pictures._keys["job"]]
        assert tuple(icon.image_size) == (32, 32)
        assert icon.image_pixels_float[0] == pytest.approx(colour, abs=0.05)
    assert pictures.icon("other") == 0
