"""The add-on's client and process against the real service: the same contract from the other side."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backend import __version__

from .addon_modules import addon_module, error_of
from .service_server import CUBE, ENDLESS, PATIENCE_S, QUICK, scene

client = addon_module("client")
link = addon_module("link")
parts = addon_module("parts")
process = addon_module("backend_process")
processes = addon_module("processes")

ROOT = Path(__file__).parents[1]
# Another Blender: it starts the backend, or joins it, and leaves it or just ends, as it is told.
BLENDER = f"""
import os, pathlib, sys
from tests.test_addon_service import backend_in
backend = backend_in(pathlib.Path(sys.argv[1]))
print(*backend.start({PATIENCE_S}), backend.pid, flush=True)
if input() == "leave":
    backend.leave()
os._exit(0)
"""


def backend_in(folder, port=0):
    """The add-on's backend: this checkout's, run by this Python."""
    home = folder / "home"
    return process.Backend(Path(sys.executable), ROOT, home / "data", home, "cpu", port)


def blender(folder):
    """Another Blender on the same folder."""
    command = [sys.executable, "-c", BLENDER, str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        started = backend_in(tmp_path_factory.mktemp("service"))
        started.start(PATIENCE_S)
        yield started
        started.stop()
    assert not started.alive() and not (started.data / "service.json").exists()


@pytest.fixture
def service(backend):
    return client.Client(*backend.adopt(), timeout_s=60)


def patiently(ask, *arguments):
    """The answer of a worker process that may still be starting."""
    limit = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask(*arguments)
        except client.BackendError as error:
            if "try again" not in error.remedy or time.monotonic() > limit:
                raise


def test_the_service_is_adopted_and_knows_the_token(backend, service):
    health = service.health()
    assert (health["version"], health["api"], health["token_ok"]) == (__version__, process.API, True)
    other = backend_in(backend.home.parent)
    assert other.adopt() == backend.adopt() and other.alive()


def test_a_wrong_token_is_refused(service):
    wrong = client.Client(service.target.address, "wrong")
    assert wrong.health()["token_ok"] is False
    assert error_of(wrong.jobs).what == "The backend refuses this token"


def test_presets_and_models_are_told(service):
    assert "starter" in [preset["name"] for preset in service.presets()]
    assert {"prior", "vlm"} <= {model["kind"] for model in service.models()}


def test_a_fault_of_the_request_arrives_in_the_services_words(service):
    error = error_of(service.submit, {"slots": [{"name": "a", "prompt": ""}]})
    assert error.where == "slots[0].prompt" and error.what and error.mend == ""


def test_own_meshes_that_are_no_glb_are_refused(service):
    request = scene(QUICK, slots=[CUBE, {"name": "mine", "prompt": "a box", "kind": "context"}])
    error = error_of(service.submit, request, parts.meshes_part(b"not a GLB"))
    assert "meshes" in error.where or "meshes" in error.what or "GLB" in str(error)


def test_an_unknown_job_is_said_to_be_none(service, tmp_path):
    unknown = "20200101-000000-abcdef"
    assert error_of(service.job, unknown).what
    assert error_of(list, service.events(unknown)).what
    assert error_of(service.download, unknown, "result.glb", tmp_path / "a.glb").what
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_job_runs_to_its_end_and_its_files_arrive(service, tmp_path):
    words = patiently(service.vocabulary, "starter")
    assert words["limited"] and "cube" in words["nouns"]
    assert patiently(service.parse, "a red cube on top of a blue sphere", "starter")["relations"]

    job = service.submit(scene(QUICK))
    events = list(service.events(job["id"]))
    assert [number for number, _, _ in events] == sorted({number for number, _, _ in events})
    kinds = [kind for _, kind, _ in events]
    assert kinds[-1] == "done" and {"state", "progress"} <= set(kinds)
    assert events[-1][2]["state"] == "done" and events[-1][2]["has_result"]
    middle = events[len(events) // 2][0]
    again = list(service.events(job["id"], middle))  # the service may have dropped steps that are over
    assert again[-1] == events[-1] and again == [event for event in events if event[0] > middle and event in again]

    path = service.download(job["id"], "result.glb", tmp_path / "result.glb")
    length = int.from_bytes(path.read_bytes()[8:12], "little")
    assert length == path.stat().st_size
    assert json.loads(service.download(job["id"], "report.json", tmp_path / "report.json").read_text("utf-8"))
    assert service.download(job["id"], "preview.jpg", tmp_path / "p.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert job["id"] in [told["id"] for told in service.jobs()["jobs"]]
    service.delete(job["id"])
    assert error_of(service.job, job["id"]).what


@pytest.mark.slow
def test_a_running_job_is_cancelled(service):
    job = service.submit(scene(ENDLESS))
    for _, kind, data in service.events(job["id"]):
        if kind == "progress" and data["step"] > 0:
            service.cancel(job["id"])
    assert service.job(job["id"])["state"] == "cancelled"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_service_starts_again_and_its_job_waits(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    backend = backend_in(tmp_path)
    first = client.Client(*backend.start(PATIENCE_S), timeout_s=60)
    try:
        job = first.submit(scene(ENDLESS))
        pid = json.loads((backend.data / "service.json").read_text())["pid"]
        processes.os.kill(pid, signal.SIGKILL)
        assert processes.wait_for_end(pid, 10) and not backend.alive()
        assert error_of(first.health).mend == "start"
        second = client.Client(*backend.start(PATIENCE_S), timeout_s=60)
        assert second.job(job["id"])["state"] in ("interrupted", "queued", "running")
    finally:
        backend.stop()


def test_a_port_that_is_taken_is_named(backend, tmp_path):
    port = client.Client(*backend.adopt()).target.port
    error = error_of(backend_in(tmp_path, port).start, PATIENCE_S)
    assert f"port {port}" in error.what and error.mend == "log"


@pytest.mark.slow
@pytest.mark.parametrize("last_words", ["leave", "die"])
def test_a_run_goes_on_when_the_blender_that_started_the_backend_closes(tmp_path, monkeypatch, last_words):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with blender(tmp_path) as first:
        address, token, pid = first.stdout.readline().split()
        second = backend_in(tmp_path)
        assert second.start(PATIENCE_S) == (address, token)
        service = client.Client(address, token, timeout_s=60)
        job = service.submit(scene(ENDLESS))
        first.communicate(f"{last_words}\n", timeout=60)
    time.sleep(3.0)  # the service looks every second
    assert second.alive() and service.job(job["id"])["state"] in ("queued", "running")
    second.leave()
    assert processes.wait_for_end(int(pid), 60.0)  # nobody needs it any more


def test_one_blender_right_after_another_gets_a_backend(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pids = []
    for _ in range(3):
        with blender(tmp_path) as one:
            pids.append(int(one.stdout.readline().split()[-1]))
            one.communicate("die\n", timeout=60)
    assert processes.wait_for_end(pids[-1], 60.0)


def test_an_installation_is_refused_while_another_blender_uses_the_environment(backend):
    home = backend.home
    config = link.Config("INSTALL", "", "", "", "cpu", False, "", home, ROOT / "blender_addon", False)
    assert config.data == backend.data
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        backend._client(backend.adopt()[0]).join(other.pid)
        error = error_of(link.free_environment, config)
        other.communicate(b"\n")
    assert error.what == "Another Blender uses the backend that is to be installed"
    assert "Close that Blender" in error.remedy and backend.alive()


def test_an_installation_ends_a_backend_that_nobody_else_uses(tmp_path):
    backend = backend_in(tmp_path)
    backend.start(PATIENCE_S)
    config = link.Config("INSTALL", "", "", "", "cpu", False, "", backend.home, ROOT / "blender_addon", False)
    link.free_environment(config)
    assert not backend.alive()
