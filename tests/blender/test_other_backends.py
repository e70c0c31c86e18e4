"""What the panel finds on the data folder when it wants a backend: a dead one's traces, another version, a stranger."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest

from ..standin_backend import dead_pid, make_source
from .backends import closed_port, settle, status, wait_for
from .conftest import BACKEND_PYTHON

pytestmark = pytest.mark.blender
WAIT_S = 60.0


@pytest.fixture
def home(addon, tmp_path, monkeypatch) -> Path:
    """A user folder of its own, of an add-on that comes with a stand-in of the backend, version 0.1.0."""
    chosen = addon.preferences.preferences()
    chosen.python, chosen.device, chosen.location = BACKEND_PYTHON, "cpu", "PYTHON"
    config = addon.preferences.config()._replace(home=tmp_path / "home", addon=make_source(tmp_path / "new"))
    monkeypatch.setattr(addon.preferences, "config", lambda: config)
    config.data.mkdir(parents=True)
    return config.home


@pytest.fixture
def at_work(addon, home, tmp_path):
    """Starts a backend of that version, which has a job to do."""
    started = []

    def start(version: str):
        source = make_source(tmp_path / version, version=version, job="running")
        started.append(addon.backend_process.Backend(Path(BACKEND_PYTHON), source, home / "data", home, "cpu"))
        started[-1].start(WAIT_S)
        return started[-1]

    yield start
    for backend in started:
        backend.stop()


def service(home: Path) -> dict:
    return json.loads((home / "data" / "service.json").read_text())


def fault_of_start(addon) -> str:
    bpy.ops.diorama.start()
    wait_for(addon, lambda: status().fault, WAIT_S)
    return status().fault


def restarted(addon) -> bool:
    """Whether the button that mends it brings a backend that can be used."""
    bpy.ops.diorama.restart()
    wait_for(addon, lambda: status().backend == "ready", WAIT_S)
    settle(addon)
    return not status().fault


def test_traces_of_a_dead_backend_are_no_trouble(addon, home) -> None:
    told = {"address": closed_port(), "pid": dead_pid(), "version": "0.1.0"}
    (home / "data" / "service.json").write_text(json.dumps(told))
    (home / "data" / "token").write_text("of the dead one")
    bpy.ops.diorama.start()
    wait_for(addon, lambda: status().backend == "ready", WAIT_S)
    settle(addon)
    assert status().fault == "" and service(home)["pid"] != told["pid"]


def test_a_backend_of_another_version_at_work_is_named_and_restart_replaces_it(addon, home, at_work) -> None:
    old = at_work("0.0.9")
    assert fault_of_start(addon) == "A backend of version 0.0.9 is at work, this add-on needs 0.1.0"
    assert status().fault_mend == "restart" and old.alive()
    assert restarted(addon)
    assert not old.alive() and service(home)["version"] == "0.1.0"


def test_a_backend_with_another_token_is_named_and_restart_replaces_it(addon, home, at_work) -> None:
    stranger = at_work("0.1.0")
    (home / "data" / "token").write_text("another")
    assert "cannot be asked whether it is at work" in fault_of_start(addon)
    assert status().fault_mend == "restart" and stranger.alive()
    assert restarted(addon)
    assert not stranger.alive()


def test_the_command_does_not_install_over_what_another_blender_uses(addon, home, at_work, monkeypatch, capfd) -> None:
    backend = at_work("0.1.0")
    monkeypatch.setattr(addon.command, "bpy", SimpleNamespace(app=SimpleNamespace(online_access=True)))
    monkeypatch.setattr(addon.command, "Installer", None)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        backend._client(backend.adopt()[0]).join(other.pid)
        assert addon.command.run(["install"]) == 2
        other.communicate(b"\n")
    assert "Another Blender uses the backend" in capfd.readouterr().out and backend.alive()
