"""What can go wrong between add-on and backend: one clear message, the button that mends it, and nothing half done."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import bpy
import pytest

from ..small_disk import small_disk
from .backends import HEALTH, closed_port, false_backend, http, path_of, status, tick, use_remote, wait_for
from .test_panels import JOB
from .test_slots import add_slot

pytestmark = pytest.mark.blender
WAIT_S = 60.0
PAGE = {"jobs": [{**JOB, "state": "done"}], "next": None}


def serving(glb: bytes) -> Callable[[socket.socket], None]:
    """A backend with one finished job, whose result is what `glb` sends."""

    def answer(connection: socket.socket) -> None:
        path = path_of(connection)
        answers = {"/v1/health": HEALTH, "/v1/jobs": PAGE, f"/v1/jobs/{JOB['id']}": PAGE["jobs"][0]}
        answers["/v1/presets"] = {"presets": []}
        if path.endswith("result.glb"):
            connection.sendall(glb)
        elif path in answers:
            connection.sendall(http(json.dumps(answers[path]).encode()))
        else:
            connection.sendall(http(b'{"error": {"what": "no", "where": "", "remedy": ""}}', "404 Not Found"))

    return answer


def fault_after(addon, action: Callable[[], object]) -> str:
    tick(addon)
    wait_for(addon, lambda: addon.jobs.session().network._commands.empty(), WAIT_S)
    addon.jobs.session().clear_fault()
    action()
    wait_for(addon, lambda: status().fault, WAIT_S)
    return status().fault


def import_of(addon, glb: bytes) -> str:
    """What is said when this comes as the result; nothing of it may be in the scene or on the disk."""
    with false_backend(serving(glb)) as address:
        use_remote(addon, address)
        tick(addon)
        wait_for(addon, lambda: len(status().history) == 1, WAIT_S)
        said = fault_after(addon, lambda: bpy.ops.diorama.import_result(job=JOB["id"]))
        tick(addon)
    assert [collection.name for collection in bpy.data.collections if "Diorama" in collection.name] == []
    assert len(bpy.data.meshes) == 0
    return said


def test_a_download_that_is_cut_leaves_nothing(addon) -> None:
    whole = http(b"glTF" + bytes(100_000), content_type="model/gltf-binary")
    assert "add-on met a fault" not in import_of(addon, whole[:5000])
    assert list(addon.preferences.config().cache.rglob("result.glb*")) == []


def test_a_full_disk_is_named_and_the_result_can_be_fetched_again(addon) -> None:
    whole = b"glTF\x02\0\0\0" + (10**6).to_bytes(4, "little") + bytes(10**6 - 12)
    with small_disk(addon.preferences.config().cache, "400k") as cache:
        assert import_of(addon, http(whole, content_type="model/gltf-binary")) == "The disk is full"
        assert (status().fault_mend, status().fault_job) == ("import", JOB["id"])
        assert "Make room" in status().fault_remedy
        assert list(cache.rglob("*.glb*")) == []


def test_a_result_that_is_no_glb_is_refused(addon) -> None:
    assert "GLB" in import_of(addon, http(b"<html>hello</html>", content_type="model/gltf-binary"))
    assert (status().fault_mend, status().fault_job) == ("import", JOB["id"])


def test_without_an_installed_backend_the_button_installs_it(addon) -> None:
    fault = fault_after(addon, bpy.ops.diorama.start)
    assert "not installed" in fault
    assert status().fault_mend == "install"


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/true"])
def test_a_python_that_will_not_do_is_named(addon, python) -> None:
    chosen = addon.preferences.preferences()
    chosen.python, chosen.location = python, "PYTHON"
    fault_after(addon, bpy.ops.diorama.start)
    assert status().fault_mend in ("settings", "install")
    assert python in status().fault_where + status().fault


def test_a_remote_backend_that_is_not_there_is_named(addon) -> None:
    address = closed_port()
    use_remote(addon, address)
    fault_after(addon, bpy.ops.diorama.start)
    assert address.removeprefix("http://") in status().fault_where + status().fault


def test_a_remote_backend_of_another_version_is_named(addon) -> None:
    def other(connection: socket.socket) -> None:
        path_of(connection)
        connection.sendall(http(json.dumps({**HEALTH, "api": 2, "version": "9.0"}).encode()))

    with false_backend(other) as address:
        use_remote(addon, address)
        assert "9.0" in fault_after(addon, bpy.ops.diorama.start)
        assert status().fault_mend == "settings"


@contextlib.contextmanager
def file_in_the_way(addon) -> Iterator[Path]:
    """Inside, a file stands where the job's folder ought to be."""
    cache: Path = addon.preferences.config().cache
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / JOB["id"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("a file where a folder ought to be")
    try:
        yield folder
    finally:
        folder.unlink()


def test_a_folder_that_cannot_be_written_is_named(addon) -> None:
    with file_in_the_way(addon) as folder:
        assert "folder for results" in import_of(addon, b"")
        assert str(folder) in status().fault_where


def test_a_log_that_cannot_be_written_is_told_with_its_place(addon) -> None:
    addon.jobs.session().job = addon.answers.read_job({**JOB, "state": "failed", "log_tail": "Traceback"})
    with file_in_the_way(addon) as folder:
        with pytest.raises(RuntimeError, match=r"The log cannot be shown: .*exists") as caught:
            bpy.ops.diorama.open_log()
        assert str(folder) in str(caught.value) and "Traceback" not in str(caught.value)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'"text"', bytes(range(200, 256))])
def test_a_damaged_cache_is_no_trouble(addon, damage) -> None:
    cache = addon.preferences.config().cache
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "vocabulary.json").write_bytes(damage)
    tick(addon)
    wait_for(addon, lambda: addon.jobs.session().network._commands.empty(), WAIT_S)
    tick(addon)
    assert "add-on met a fault" not in status().fault
    (cache / "vocabulary.json").unlink()


@pytest.mark.parametrize("id", ["../../etc/passwd", "a/b", "", "a\\b", ".hidden", "x" * 100, 7, None])
def test_an_id_that_could_be_a_path_is_refused(addon, id) -> None:
    with pytest.raises(addon.messages.BackendError):
        addon.answers.read_job({**JOB, "id": id, "state": "done"})


@pytest.mark.parametrize("key", sorted(JOB))
@pytest.mark.parametrize("value", [None, 3, "text", [], [3], {}, {"a": []}, 1e400])
def test_no_shape_of_a_job_breaks_the_panels(addon, key, value) -> None:
    try:
        job = addon.answers.read_job({**JOB, "state": "done", key: value})
    except addon.messages.BackendError:
        return
    addon.mirror.show_job(status(), job)
    addon.mirror.show_history(status(), [job], False)
    addon.mirror.show_outcomes(bpy.context.scene, job)


def test_a_cancel_while_the_request_is_sent_is_heeded(addon) -> None:
    add_slot("a red cube")
    chosen = addon.preferences.preferences()
    chosen.python, chosen.location = "/nowhere/python", "PYTHON"
    tick(addon)
    session = addon.jobs.session()
    session.generate(bpy.context.scene, addon.collect.collect(bpy.context.scene, bpy.context.view_layer))
    ticket = session.ticket
    assert bpy.ops.diorama.cancel() == {"FINISHED"}
    assert (status().state, session.busy()) == ("", False)
    asked = []
    session.ask = lambda name, **arguments: asked.append((name, arguments))
    job = addon.answers.read_job({**JOB, "state": "queued"})
    addon.heard.HANDLERS["submitted"](session, (job, ticket))
    assert asked == [("cancel", {"id": JOB["id"]})]


def test_a_run_whose_backend_is_dead_and_will_not_start_can_be_left(addon) -> None:
    chosen = addon.preferences.preferences()
    chosen.python, chosen.location = "/nowhere/python", "PYTHON"
    tick(addon)
    session = addon.jobs.session()
    session.job = addon.answers.read_job({**JOB, "state": "running"})
    addon.mirror.show_job(status(), session.job)
    assert session.busy() and bpy.ops.diorama.cancel() == {"FINISHED"}
    wait_for(addon, lambda: not session.busy())
    assert status().fault


def test_a_run_whose_cancel_was_refused_is_still_shown(addon) -> None:
    session = addon.jobs.session()
    session.job = addon.answers.read_job({**JOB, "state": "running"})
    addon.mirror.show_job(status(), session.job)
    status().state = "cancelling"
    error = addon.messages.BackendError("The backend does not answer", "", "Try again")
    addon.heard.HANDLERS["fault"](session, ("cancel", error))
    assert (status().state, status().job, session.busy()) == ("running", JOB["id"], True)
    assert status().fault == "The backend does not answer"


def test_a_prompt_can_be_read_again_after_a_cancel(addon) -> None:
    session = addon.jobs.session()
    session.reading = ("a red cube", bpy.context.scene.name)
    addon.heard.HANDLERS["cancelled"](session, "parse")
    assert session.reading is None


def test_words_are_asked_for_again_while_the_backend_is_starting(addon, monkeypatch) -> None:
    monkeypatch.setattr(addon.session, "WORDS_S", 0.2)
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
