"""blender_addon/backend_process.py with real processes: a small service that keeps to the contract, or breaks it."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from .addon_modules import addon_module, error_of
from .false_pythons import script
from .scripted_server import free_port

found = addon_module("found")
process = addon_module("backend_process")
copy = addon_module("backend_copy")
processes = addon_module("processes")
Cancelled = addon_module("messages").Cancelled

# As much of the service as start and stop need: ready line, service.json, token, health, jobs, clients, shutdown.
SERVICE = """
import argparse, http.server, json, os, pathlib, sys, threading, time
from . import __version__
from . import behaviour
options = argparse.ArgumentParser()
options.add_argument("command")
options.add_argument("--data", type=pathlib.Path)
options.add_argument("--device")
options.add_argument("--port", type=int)
options.add_argument("--parent-pid", type=int)
options = options.parse_args()
options.data.mkdir(parents=True, exist_ok=True)
clients = {options.parent_pid}
behaviour.before_ready(options)

class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, what, status=200):
        data = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        token_ok = self.headers.get("Authorization") == "Bearer secret"
        if self.path == "/v1/health":
            health = {"version": __version__, "api": 1, "state": "ready", "device": options.device}
            self.answer({**health, "token_ok": token_ok})
        elif not token_ok:
            self.answer({"error": {"what": "the token is wrong", "where": "", "remedy": ""}}, 401)
        else:
            job = {"id": "a", "state": behaviour.JOB}
            self.answer({"jobs": [job], "next": None, "presets": [], "pids": list(clients)})
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/v1/clients":
            clients.add(json.loads(body)["pid"])
            self.answer({"pids": list(clients)})
        else:
            self.answer({})
            threading.Thread(target=server.shutdown).start()
    def do_DELETE(self):
        clients.discard(int(self.path.rpartition("/")[2]))
        self.answer({"pids": list(clients)})
        if not clients:
            threading.Thread(target=server.shutdown).start()

server = http.server.ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
told = {"address": f"http://127.0.0.1:{server.server_port}", "pid": os.getpid(), "version": __version__}
told["data"] = str(options.data)
(options.data / "token").write_text("secret")
(options.data / "service.json").write_text(json.dumps(told))
print("a line that is not JSON", flush=True)
print(json.dumps(told), flush=True)
print("listening", file=sys.stderr, flush=True)
server.serve_forever()
behaviour.before_end()
(options.data / "service.json").unlink()
"""


def make_source(folder, version="0.1.0", before_ready="pass", before_end="pass", job="done"):
    """A folder with a stand-in backend of that version."""
    package = folder / "backend"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f'__version__ = "{version}"\n')
    (package / "__main__.py").write_text(SERVICE)
    parts = [f"JOB = {job!r}"]
    for head, body in (("before_ready(options)", before_ready), ("before_end()", before_end)):
        parts.append(f"def {head}:\n{textwrap.indent(textwrap.dedent(body), '    ')}")
    (package / "behaviour.py").write_text("\n".join(parts) + "\n")
    (folder / "requirements").mkdir()
    (folder / "requirements" / "cpu.txt").write_text("torch==2.13.0\n")
    return folder


@pytest.fixture
def make(tmp_path):
    """make(version=...) -> Backend; all on one data folder, ended after the test."""
    made = []

    def backend(**keywords):
        source = make_source(tmp_path / f"extension {len(made)}", **keywords)
        made.append(process.Backend(Path(sys.executable), source, tmp_path / "data", tmp_path / "home", "cpu"))
        return made[-1]

    yield backend
    for one in made:
        one.stop()


def service_file(backend):
    return json.loads((backend.data / "service.json").read_text())


def write_service_file(backend, **told):
    backend.data.mkdir(parents=True, exist_ok=True)
    (backend.data / "service.json").write_text(json.dumps(told))


def dead_pid():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


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


def test_a_missing_python_offers_to_install(make):
    backend = make()
    backend.python = backend.home / "no python"
    assert error_of(backend.start, 20).mend == "install"


def test_a_missing_package_offers_to_install(make):
    error = error_of(make(before_ready="import no_such_package").start, 20)
    assert error.mend == "install" and "no_such_package" in error.what


def test_a_backend_that_ends_at_once_shows_its_last_words_and_the_log(make):
    backend = make(before_ready="raise RuntimeError('out of luck')")
    error = error_of(backend.start, 20)
    assert error.mend == "log" and "out of luck" in error.what and error.where == str(backend.log_path)


def test_a_taken_port_is_said_in_the_backends_words(make):
    backend = make(before_ready="import sys; sys.exit('error: --port: port 80 is taken. Choose another')")
    assert "port 80 is taken. Choose another" in error_of(backend.start, 20).what


def test_a_backend_that_never_becomes_ready_is_ended(make):
    backend = make(before_ready="print('pid', __import__('os').getpid(), flush=True); __import__('time').sleep(60)")
    error = error_of(backend.start, 1.5)
    assert "not ready after" in error.what and error.mend == "log"
    pid = int(backend.log_path.with_suffix(".out").read_text().split()[1])
    assert processes.wait_for_end(pid, 5)


def test_a_start_can_be_cancelled(make):
    backend, cancel = make(before_ready="__import__('time').sleep(60)"), threading.Event()
    threading.Timer(0.5, cancel.set).start()
    start = time.monotonic()
    with pytest.raises(Cancelled):
        backend.start(30, cancel)
    assert time.monotonic() - start < 5 and not backend.alive()


def test_a_new_version_is_copied_while_the_old_one_runs(make):
    old, new = make(version="0.0.9"), make()
    old.start(20)
    for file in sorted(old.source.rglob("*"), reverse=True):  # what Blender does when it replaces the extension
        file.rmdir() if file.is_dir() else file.unlink()
    assert old.alive()
    new.start(20)
    assert new.alive()


def test_an_extension_without_its_backend_says_so(make):
    backend = make()
    (backend.source / "backend" / "__init__.py").unlink()
    assert "without its backend" in error_of(backend.start, 5).what


def test_a_copy_is_whole_or_not_there(tmp_path):
    source = make_source(tmp_path / "source")
    (source / "backend" / "lost").symlink_to("nowhere")  # a file that cannot be copied
    assert "Cannot copy" in error_of(copy.unpacked, source, tmp_path / "home").what
    assert list((tmp_path / "home" / "backends").iterdir()) == []


def test_two_starts_at_once_copy_without_harm(tmp_path):
    source, got = make_source(tmp_path / "source"), []
    threads = [threading.Thread(target=lambda: got.append(copy.unpacked(source, tmp_path / "home"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(got) == 6 and len(set(got)) == 1
    assert [one.name for one in (tmp_path / "home" / "backends").iterdir()] == [got[0].name]


def test_a_changed_backend_of_the_same_version_is_copied_anew(tmp_path):
    source = make_source(tmp_path / "source")
    first = copy.unpacked(source, tmp_path / "home")
    (source / "backend" / "new.py").write_text("")
    assert copy.unpacked(source, tmp_path / "home") != first


def test_copies_that_were_not_used_for_long_are_removed(tmp_path):
    source = make_source(tmp_path / "source")
    first = copy.unpacked(source, tmp_path / "home")
    (source / "backend" / "new.py").write_text("")
    second = copy.unpacked(source, tmp_path / "home")
    os.utime(first, (0, 0))
    copy.remove_unused(tmp_path / "home", second)
    assert not first.exists() and second.exists()


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
