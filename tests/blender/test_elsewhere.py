"""A run that another Blender or a script sent is shown as theirs, can be watched, and is not cancelled by mistake."""

from __future__ import annotations

import json
import socket
from types import SimpleNamespace

import bpy
import pytest

from .backends import HEALTH, false_backend, http, path_of, settle, status, tick, use_remote, wait_for
from .drawing import drawn
from .test_panels import JOB

pytestmark = pytest.mark.blender
WAIT_S = 60.0
BUSY = "The backend is busy with a run that was sent from elsewhere: a red cube on a blue sphere"


class Elsewhere:
    """A backend with one job, which the test changes."""

    def __init__(self) -> None:
        self.job = {**JOB, "state": "running", "has_result": False}
        self.asked: list[str] = []

    def __call__(self, connection: socket.socket) -> None:
        path = path_of(connection)
        self.asked.append(path)
        page = {"jobs": [self.job], "next": None}
        answers = {"/v1/health": HEALTH, "/v1/presets": {"presets": []}, "/v1/jobs": page}
        if path.endswith("/events"):
            head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
            connection.sendall(f"{head}id: 1\nevent: state\ndata: {json.dumps(self.job)}\n\n".encode())
            connection.settimeout(5.0)
            connection.recv(1)  # until the add-on hangs up
        else:
            connection.sendall(http(json.dumps(answers.get(path, self.job)).encode()))


@pytest.fixture
def elsewhere(addon, monkeypatch):
    """The add-on, connected to a backend that is busy."""
    monkeypatch.setattr(addon.errands, "OTHERS_S", 0.1)
    backend = Elsewhere()
    with false_backend(backend) as address:
        use_remote(addon, address)
        yield backend
        addon.jobs.session().network.close(10.0)


def hear_history(addon) -> None:
    tick(addon)
    wait_for(addon, lambda: len(status().history) == 1, WAIT_S)


def test_it_is_not_shown_as_one_s_own(addon, elsewhere) -> None:
    hear_history(addon)
    settle(addon)
    assert (status().state, status().job) == ("", "")
    assert BUSY in drawn(addon).replace("\n", " ")
    assert not bpy.ops.diorama.cancel.poll()
    assert not any(path.endswith(("/events", "/cancel")) for path in elsewhere.asked)


def test_it_keeps_nobody_from_generating(addon, elsewhere) -> None:
    hear_history(addon)
    bpy.context.scene.diorama.prompt = "a red cube"
    assert bpy.ops.diorama.generate.poll()


def test_its_end_is_seen_in_results(addon, elsewhere) -> None:
    hear_history(addon)
    elsewhere.job |= {"state": "done", "has_result": True}
    wait_for(addon, lambda: status().history[0].state == "done", WAIT_S)
    settle(addon)
    assert BUSY not in drawn(addon).replace("\n", " ")
    assert (status().state, status().fault) == ("", "")


def test_it_can_be_watched_and_left(addon, elsewhere) -> None:
    hear_history(addon)
    assert bpy.ops.diorama.watch(job=JOB["id"]) == {"FINISHED"}
    wait_for(addon, lambda: any(path.endswith("/events") for path in elsewhere.asked), WAIT_S)
    assert status().state == "running"
    assert "Optimising: 30 of 120" in drawn(addon) and "This run was sent from elsewhere." in drawn(addon)
    bpy.ops.diorama.look_away()
    addon.jobs.session().network._post("job", addon.answers.read_job(elsewhere.job))  # heard a moment before
    settle(addon)
    assert (status().state, status().history[0].state) == ("", "running")


def test_while_it_is_watched_a_greyed_button_says_why(addon, elsewhere) -> None:
    hear_history(addon)
    bpy.ops.diorama.watch(job=JOB["id"])
    with pytest.raises(RuntimeError, match="stop watching it first"):
        bpy.ops.diorama.generate()


class Asking:
    """What Blender would be told to ask is looked at: without a window it cannot."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.window_manager = self

    def invoke_confirm(self, operator: object, event: object, **said: str) -> set[str]:
        self.asked.append(said["message"])
        return {"RUNNING_MODAL"}

    def press(self, kind: type) -> set[str]:
        button = SimpleNamespace(bl_label=kind.bl_label, execute=lambda context: {"FINISHED"})
        return kind.invoke(button, self, None)


@pytest.mark.parametrize(("own", "asks"), [(False, ["It was sent from elsewhere"]), (True, [])])
def test_only_cancelling_somebody_else_s_asks_first(addon, elsewhere, own, asks) -> None:
    hear_history(addon)
    if own:
        addon.jobs.session().sent.add(JOB["id"])
    bpy.ops.diorama.watch(job=JOB["id"])
    asking = Asking()
    assert asking.press(addon.operators.DIORAMA_OT_cancel) == ({"RUNNING_MODAL"} if asks else {"FINISHED"})
    assert asking.asked == asks


@pytest.mark.parametrize("name", ["stop", "restart"])
def test_ending_the_backend_asks_first_while_it_works_for_somebody_else(addon, elsewhere, name) -> None:
    hear_history(addon)
    asking, kind = Asking(), getattr(addon.operators_backend, f"DIORAMA_OT_{name}")
    assert asking.press(kind) == {"RUNNING_MODAL"}
    assert "interrupted" in asking.asked[0]
    addon.jobs.session().sent.add(JOB["id"])
    assert asking.press(kind) == {"FINISHED"}


def test_one_sent_from_the_open_file_is_shown_at_once(addon, elsewhere) -> None:
    bpy.context.scene.diorama.last_job = JOB["id"]
    hear_history(addon)
    assert (status().state, status().job) == ("running", JOB["id"])
    assert "sent from elsewhere" not in drawn(addon)


def test_one_sent_from_here_for_another_file_is_still_one_s_own(addon, elsewhere) -> None:
    addon.jobs.session().sent.add(JOB["id"])
    bpy.ops.wm.read_homefile(use_empty=True)
    hear_history(addon)
    assert (status().state, status().job) == ("running", JOB["id"])
