"""blender_addon/backend_process.py with real processes: a backend is found, adopted, replaced, left and ended."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from .addon_modules import addon_module, error_of
from .false_pythons import script
from .scripted_server import free_port
from .standin_backend import backends, dead_pid, service_file, write_service_file

found = addon_module("found")
process = addon_module("backend_process")
processes = addon_module("processes")


@pytest.fixture
def make(tmp_path):
    with backends(tmp_path) as make:
        yield make


def test_start_gives_address_and_token_and_stop_ends_it(make):
    backend = make()
    assert not backend.alive()
    address, token = backend.start(20)
    assert (address, token) == (service_file(backend)["address"], "secret")
    assert backend.alive() and "listening" in backend.log_path.read_text()
    pid = service_file(backend)["pid"]
    backend.stop()
    assert not backend.alive() and not processes.is_running(pid)
    assert not (backend.data / "service.json").exists()  # it ended by itself


def test_the_backend_runs_outside_the_extension_folder(make):
    backend = make()
    backend.start(20)
    copies = list((backend.home / "backends").iterdir())
    assert [re.sub(r"-[0-9a-f]{8}$", "", one.name) for one in copies] == ["0.1.0"]
    assert (
        os.readlink(f"/proc/{service_file(backend)['pid']}/cwd") == str(copies[0]) if sys.platform == "linux" else True
    )
    assert not list(backend.source.rglob("__pycache__"))


def test_a_backend_that_another_blender_starts_at_this_moment_is_adopted(make):
    refuse = "import sys; sys.exit('error: a service is already running at an address that it has not told yet')"
    first, second = make(), make(before_ready=refuse.replace("sys.exit(", "sys.stderr.write(") + "; sys.exit(2)")
    started = []
    thread = threading.Timer(1.0, lambda: started.append(first.start(20)))
    thread.start()
    address = second.start(20)
    thread.join()
    assert [address] == started and second.alive()


def test_a_second_start_adopts_the_first(make):
    first, second = make(), make()
    address = first.start(20)
    assert second.start(20) == address and second.adopt() == address
    assert second.alive()
    second.stop()
    assert not first.alive()


def test_a_start_waits_for_a_backend_that_is_ending(make):
    ending, next_one = make(before_end="__import__('time').sleep(2)"), make()
    first = ending.start(20)
    pid = service_file(ending)["pid"]
    assert ending._client(first[0]).leave(os.getpid()) == []  # it was the last one that needed it
    assert next_one.start(20) != first
    assert next_one.alive() and next_one.pid not in (0, pid) and not processes.is_running(pid)


def test_nothing_is_adopted_where_nothing_runs(make):
    assert make().adopt() is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"address": 3, "pid": 1}', '{"address": "http://x", "pid": true}']
)
def test_a_service_file_that_is_garbage_is_ignored(make, text):
    backend = make()
    backend.data.mkdir(parents=True)
    (backend.data / "service.json").write_text(text)
    assert backend.adopt() is None


def test_a_stale_service_file_is_replaced(make):
    backend = make()
    write_service_file(backend, address=f"http://127.0.0.1:{free_port()}", pid=dead_pid(), version="0.1.0")
    assert backend.adopt() is None
    assert backend.start(20)[0] == service_file(backend)["address"]


def test_a_stale_service_file_whose_pid_went_to_another_program_harms_nobody(make):
    backend = make()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        write_service_file(backend, address=f"http://127.0.0.1:{free_port()}", pid=stranger.pid, version="0.1.0")
        assert backend.adopt() is None
        backend.start(20)
        backend.stop()
        write_service_file(backend, address=f"http://127.0.0.1:{free_port()}", pid=stranger.pid, version="0.1.0")
        backend.stop()
        assert stranger.poll() is None
        stranger.kill()


def test_a_service_file_never_sends_the_token_elsewhere(make):
    backend = make()
    write_service_file(backend, address="http://192.0.2.1:80", pid=os.getpid(), version="0.1.0")
    (backend.data / "token").write_text("secret")
    start = time.monotonic()
    assert backend.adopt() is None and time.monotonic() - start < 1


def test_an_idle_backend_of_another_version_is_replaced(make):
    old, new = make(version="0.0.9"), make()
    old.start(20)
    pid = service_file(old)["pid"]
    assert new.adopt() is None
    new.start(20)
    assert service_file(new)["version"] == "0.1.0" and not processes.is_running(pid)


def test_a_backend_of_another_version_at_work_is_not_replaced_without_being_asked(make):
    old, new = make(version="0.0.9", job="running"), make()
    old.start(20)
    error = error_of(new.start, 20)
    assert error.mend == "restart" and "0.0.9" in error.what and old.alive()
    new.restart(20)
    assert service_file(new)["version"] == "0.1.0" and not old.alive()


def test_an_idle_backend_on_another_device_than_the_chosen_one_is_replaced(make):
    first, second, any_device = make(), make(), make()
    second.device, any_device.device = "cuda", "auto"
    address = first.start(20)
    assert any_device.adopt() == address
    assert second.adopt() is None
    assert second.start(20) != address
    assert second.alive() and not first.alive() and first.adopt() is None


def test_a_backend_at_work_on_another_device_is_not_replaced_without_being_asked(make):
    first, second = make(job="running"), make()
    second.device = "cuda"
    first.start(20)
    error = error_of(lambda: second.start(20))
    assert "device cpu is at work" in error.what and "choose cuda" in error.what and error.mend == "restart"
    assert first.alive()
    second.restart(20)
    assert second.alive() and not first.alive()


def test_a_backend_whose_token_is_another_is_replaced_on_restart(make):
    first, second = make(job="running"), make()
    first.start(20)
    (first.data / "token").write_text("other")
    assert second.adopt() is None
    second.restart(20)
    assert not first.alive() and second.alive()


@pytest.mark.skipif(os.name != "posix", reason="SIGSTOP")
def test_a_backend_that_hangs_is_named_and_restart_ends_it(make, monkeypatch):
    for module, name in ((found, "HEALTH_S"), (process, "HEALTH_S"), (process, "SHUTDOWN_S")):
        monkeypatch.setattr(module, name, 0.5)
    first, second = make(), make()
    first.start(20)
    os.kill(service_file(first)["pid"], signal.SIGSTOP)
    error = error_of(second.start, 20)
    assert error.mend == "restart" and "does not answer" in error.what
    second.restart(20)
    assert second.alive() and not first.alive()


@pytest.mark.skipif(os.name != "posix", reason="SIGSTOP")
def test_one_that_hangs_is_ended_by_leaving_though_another_program_started_it(make, tmp_path, monkeypatch):
    """As on Windows, where the Python of an environment starts another one and waits for it."""
    monkeypatch.setattr(process, "LEAVE_S", 0.5)
    backend = make()
    backend.python = script(tmp_path / "python", f'"{sys.executable}" "$@"\nexit $?\n')
    assert backend.start(20) == backend.adopt()
    pid = service_file(backend)["pid"]
    os.kill(pid, signal.SIGSTOP)
    backend.leave()
    assert processes.wait_for_end(pid, 5)


def test_a_killed_backend_is_not_alive_and_starts_again(make):
    backend = make()
    backend.start(20)
    processes.kill(service_file(backend)["pid"])
    assert processes.wait_for_end(service_file(backend)["pid"], 5)
    assert not backend.alive() and backend.adopt() is None
    backend.start(20)
    assert backend.alive()


def test_the_backends_environment_has_nothing_of_blenders(monkeypatch):
    for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "/blender")
    assert "/blender" not in processes.clean_environment().values()


def test_children_end_with_their_tree(tmp_path):
    code = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    with (tmp_path / "out").open("wb") as out:
        parent = processes.launch([sys.executable, "-c", code], tmp_path, out, out)
    while not (tmp_path / "out").read_bytes().endswith(b"\n"):
        time.sleep(0.02)
    child = int((tmp_path / "out").read_text())
    processes.end_tree(parent)
    assert parent.poll() is not None and processes.wait_for_end(child, 5)
