"""The add-on's connection: what disturbs a run and what does not, and that nothing of it is left when it is closed."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import bpy
import pytest

from .backends import HEALTH, false_backend, http, path_of, settle, status, use_local, use_remote, wait_for
from .test_panels import JOB
from .test_register import children

import addon_utils  # isort: skip - it is found once bpy is there

pytestmark = pytest.mark.blender
WAIT_S = 60.0
RUNNING = {**JOB, "state": "running", "has_result": False}


def answering(**changed: Callable[[], object]) -> Callable[[socket.socket], None]:
    """A backend with a job that runs. changed: what it says instead, by the last part of the path."""

    def answer(connection: socket.socket) -> None:
        path = path_of(connection)
        said = {"health": HEALTH, "presets": {"presets": []}, "jobs": {"jobs": [RUNNING], "next": None}}
        name = path.rpartition("/")[2]
        if name == "events":
            head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
            connection.sendall(f"{head}id: 1\nevent: state\ndata: {json.dumps(RUNNING)}\n\n".encode())
            connection.settimeout(5.0)
            connection.recv(1)  # until the add-on hangs up
        else:
            body = changed[name]() if name in changed else said.get(name, RUNNING)
            connection.sendall(http(json.dumps(body).encode()))

    return answer


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("diorama")]


def test_the_device_that_the_backend_finds_is_shown_as_soon_as_it_knows(addon, monkeypatch) -> None:
    monkeypatch.setattr(addon.connection, "DEVICE_S", 0.2)
    known = ["auto"]
    with false_backend(answering(health=lambda: {**HEALTH, "device": known[0]})) as address:
        use_remote(addon, address)
        wait_for(addon, lambda: status().backend == "ready", WAIT_S)
        settle(addon)
        assert status().device == "auto"
        known[0] = "cuda:0"
        wait_for(addon, lambda: status().device == "cuda:0", WAIT_S)
        addon.jobs.session().network.close(10.0)


@pytest.mark.parametrize(
    ("key", "value", "goes_on"),
    [
        ("build", "CPU", True),
        ("torch_index", "https://example.org/cpu", True),
        ("python", "/nowhere/python", False),
        ("device", "cpu", False),
        ("token", "another", False),
    ],
)
def test_only_what_chooses_the_backend_interrupts_a_run(addon, monkeypatch, key, value, goes_on) -> None:
    interrupted = []
    monkeypatch.setitem(addon.heard.HANDLERS, "stopped", lambda session, data: interrupted.append(key))
    bpy.context.scene.diorama.last_job = JOB["id"]
    with false_backend(answering()) as address:
        use_remote(addon, address)
        wait_for(addon, lambda: status().state == "running", WAIT_S)
        interrupted.clear()
        setattr(addon.preferences.preferences(), key, value)
        bpy.ops.diorama.refresh()
        wait_for(addon, addon.jobs.session().network._commands.empty, WAIT_S)
        settle(addon)
        assert (interrupted == []) == goes_on
        addon.jobs.session().network.close(10.0)


def test_the_late_refusal_of_a_request_that_was_cancelled_does_not_disturb_the_next_one(addon) -> None:
    refused, answer, sent = threading.Event(), answering(), []

    def refuse_the_first(connection: socket.socket) -> None:
        if connection.recv(5, socket.MSG_PEEK) != b"POST ":
            answer(connection)
            return
        sent.append(path_of(connection))
        if len(sent) > 1:
            connection.sendall(http(json.dumps(RUNNING).encode()))
            return
        refused.wait(WAIT_S)
        error = {"what": "it is too large", "where": "", "remedy": ""}
        connection.sendall(http(json.dumps({"error": error}).encode(), "422 Unprocessable"))

    scene = bpy.context.scene
    scene.diorama.prompt = "a red cube"
    with false_backend(refuse_the_first) as address:
        use_remote(addon, address)
        wait_for(addon, lambda: status().backend == "ready", WAIT_S)
        addon.jobs.session().generate(scene, addon.collect.collect(scene, bpy.context.view_layer))
        wait_for(addon, lambda: sent, WAIT_S)
        bpy.ops.diorama.cancel()
        addon.jobs.session().generate(scene, addon.collect.collect(scene, bpy.context.view_layer))
        refused.set()
        wait_for(addon, lambda: status().state == "running", WAIT_S)
        assert (scene.diorama.last_job, status().fault) == (JOB["id"], "")
        addon.jobs.session().network.close(10.0)


@pytest.mark.parametrize("where", ["health", "jobs", "events", "files"])
def test_switching_off_during_an_exchange_is_quick_and_leaves_no_thread(addon, where) -> None:
    talking, answer = threading.Event(), answering()

    def silent_at(connection: socket.socket) -> None:
        path = path_of(connection, socket.MSG_PEEK)
        if path.rpartition("/")[2] != {"files": "result.glb"}.get(where, where):
            answer(connection)
            return
        talking.set()
        connection.settimeout(30.0)
        while connection.recv(65536):  # until the add-on hangs up
            pass

    with false_backend(silent_at) as address:
        bpy.context.scene.diorama.last_job = JOB["id"] if where == "events" else ""
        use_remote(addon, address)
        bpy.ops.diorama.show_files(job=JOB["id"])
        wait_for(addon, talking.is_set, WAIT_S)
        began = time.monotonic()
        addon_utils.disable("blender_addon", default_set=True)
        assert time.monotonic() - began < 3.0
        assert threads() == []


def begin_in_window(addon: ModuleType) -> int:
    """Start it, and change the preferences afterwards: it still fits them."""
    bpy.ops.diorama.start()
    wait_for(addon, lambda: status().backend == "ready")
    addon.preferences.preferences().device = "auto"
    wait_for(addon, addon.jobs.session().network._commands.empty)
    settle(addon)
    assert status().backend == "ready"
    return addon.jobs.session().network._backend.pid


def begin_without_window(addon: ModuleType) -> int:
    addon.headless._connected(addon.preferences.config())
    return addon.jobs.session().local.pid


@pytest.mark.parametrize("begin", [begin_in_window, begin_without_window])
def test_switching_off_ends_the_backend_that_was_started_here(addon, tmp_path, monkeypatch, begin) -> None:
    before = children()
    use_local(addon)
    config = addon.preferences.config()._replace(home=tmp_path)  # no other test's backend is there
    chosen = addon.preferences.preferences()
    monkeypatch.setattr(addon.preferences, "config", lambda: config._replace(device=chosen.device))
    pid = begin(addon)
    assert len(children()) == len(before) + 1
    addon_utils.disable("blender_addon", default_set=True)
    assert children() == before  # not even one that has ended and is not buried
    assert not addon.processes.is_running(pid) and not (tmp_path / "data" / "service.json").exists()
    assert threads() == []


@pytest.mark.filterwarnings("ignore:.*relative:RuntimeWarning")  # Blender 4.5 advises against such a path
def test_a_python_is_found_from_where_the_file_is(addon, tmp_path) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    addon.preferences.preferences().python = "//env/python"
    assert Path(addon.preferences.config().python) == tmp_path / "env" / "python"
