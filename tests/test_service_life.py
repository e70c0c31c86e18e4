"""The service's start and end: one to a data folder, ready at once, gone with its parent or when nobody needs it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from backend.errors import OutputError
from backend.service.errors import WrongState
from backend.service.lifetime import Lifetime
from tests.service_server import ROOT, Service
from tests.small_disk import small_disk


def refused(*options: str) -> str:
    """The one message of a service that cannot begin."""
    done = subprocess.run(
        [sys.executable, "-m", "backend", "serve", *options], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (message,) = done.stderr.splitlines()
    return message


def is_gone(pid: int) -> bool:
    """Whether the process ends within a while."""
    for _ in range(300):
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def fill(path: Path) -> None:
    """Takes all the room there is on the disk."""
    with suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(b"0" * 1024)


@pytest.fixture
def start(tmp_path):
    """Starts services on a folder; ends them all."""
    running: list[Service] = []

    def begin(*options: str, **kept) -> Service:
        running.append(Service(tmp_path / "data", *options, **kept))
        return running[-1]

    yield begin
    for service in running:
        service.stop()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux to see a process's time")
def test_it_is_ready_within_two_seconds_of_work_and_never_imports_torch(start) -> None:
    service = start()
    fields = Path(f"/proc/{service.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = int(fields[11]) + int(fields[12])
    assert ticks / os.sysconf("SC_CLK_TCK") < 2.0  # of processor time: other work on the machine does not count
    assert "libtorch" not in Path(f"/proc/{service.process.pid}/maps").read_text()


def test_it_says_where_it_is_and_takes_that_back_at_its_end(start) -> None:
    service = start()
    assert set(service.about) == {"address", "pid", "version", "data"}
    assert json.loads((service.data / "service.json").read_text()) == service.about
    assert service.about["pid"] == service.process.pid
    worker = service.worker_pid()
    assert service.ask("POST", "/v1/shutdown", 202).json() == {}
    assert service.process.wait(60) == 0
    assert not (service.data / "service.json").exists()
    assert is_gone(worker)


def test_the_token_is_kept_and_a_dead_services_traces_are_replaced(start) -> None:
    first = start()
    worker = first.worker_pid()
    first.kill()
    assert is_gone(worker)
    assert (first.data / "service.json").exists()
    second = start()
    assert second.token == first.token
    assert json.loads((first.data / "service.json").read_text())["pid"] == second.process.pid


def test_a_second_one_on_the_same_folder_names_the_first(start) -> None:
    first = start()
    message = refused("--data", str(first.data))
    assert message.startswith("error: ")
    assert "already running" in message and first.url in message
    assert first.ask("GET", "/v1/health").ok
    assert (first.data / "service.json").exists()


def test_it_ends_when_nobody_has_needed_it_for_long(start) -> None:
    service = start("--idle-s", "6")
    for _ in range(9):
        time.sleep(1.0)
        requests.get(service.url + "/v1/health")
    assert service.process.poll() is None
    assert service.process.wait(60) == 0


def test_it_ends_with_its_parent(start) -> None:
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    service = start("--parent-pid", str(parent.pid))
    time.sleep(2.0)
    assert service.process.poll() is None
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert service.process.wait(60) == 0
    assert is_gone(service.worker_pid())


@pytest.fixture
def other():
    """Another process, which runs until the test's end."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()


def test_it_outlives_its_parent_while_another_client_runs(start, other) -> None:
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    service = start("--parent-pid", str(parent.pid))
    joined = service.ask("POST", "/v1/clients", 200, json={"pid": other.pid}).json()
    assert sorted(joined["pids"]) == sorted([parent.pid, other.pid])
    parent.kill()
    time.sleep(3.0)  # the dead parent is a zombie, as one whose own parent does not care
    assert service.process.poll() is None
    assert service.ask("GET", "/v1/clients", 200).json() == {"pids": [other.pid]}
    other.kill()
    assert service.process.wait(60) == 0
    parent.wait()


def test_it_ends_when_its_last_client_leaves_and_not_before(start, other) -> None:
    service = start("--parent-pid", str(other.pid))
    me = os.getpid()
    service.ask("POST", "/v1/clients", 200, json={"pid": me})
    assert service.ask("DELETE", "/v1/clients/999999999", 200).json()["pids"] == [other.pid, me]
    assert service.ask("DELETE", f"/v1/clients/{other.pid}", 200).json() == {"pids": [me]}
    time.sleep(2.0)
    assert service.process.poll() is None
    assert service.ask("DELETE", f"/v1/clients/{me}", 200).json() == {"pids": []}
    assert service.process.wait(60) == 0


def test_one_that_was_started_by_hand_outlives_its_clients(start) -> None:
    service = start(parent=None)
    service.ask("POST", "/v1/clients", 200, json={"pid": os.getpid()})
    service.ask("DELETE", f"/v1/clients/{os.getpid()}", 200)
    time.sleep(2.0)
    assert service.ask("GET", "/v1/clients", 200).json() == {"pids": []}


def test_who_joins_while_it_ends_is_refused() -> None:
    ended = []
    lifetime = Lifetime(os.getpid(), 0, lambda: False, lambda: ended.append(True))
    assert lifetime.join(os.getpid()) == [os.getpid()]
    lifetime.leave(os.getpid())
    assert ended == [True]
    with pytest.raises(WrongState):
        lifetime.join(os.getpid())


def test_it_ends_with_its_clients_though_nobody_can_tell_whether_there_are_jobs() -> None:
    def busy() -> bool:
        raise OutputError("the list of jobs: disk I/O error", where="jobs.sqlite", remedy="Check the folder")

    ended = threading.Event()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as client:
        lifetime = Lifetime(client.pid, 0.4, busy, ended.set)
        lifetime.start()
        assert not ended.wait(1.5)  # idle for long, as far as that can be told
        client.communicate(b"\n")
    assert ended.wait(20.0)


def test_an_orphan_ends_though_nobody_buried_its_parent(tmp_path) -> None:
    """The parent starts the service and is killed: what the service sees is that it has another parent."""
    script = (
        "import os, subprocess, sys; "
        "subprocess.Popen([sys.executable, '-m', 'backend', 'serve', '--data', sys.argv[1], "
        "'--parent-pid', str(os.getpid())], stdout=open(sys.argv[1] + '.said', 'w')); input()"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "data")], cwd=ROOT, stdin=subprocess.PIPE)
    said = tmp_path / "data.said"
    deadline = time.monotonic() + 120
    while not (said.is_file() and said.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    pid = json.loads(said.read_text())["pid"]
    parent.kill()
    gone = is_gone(pid)
    parent.wait()
    assert gone


def test_a_taken_port_and_a_foreign_name_are_refused(start, tmp_path) -> None:
    port = start().url.rsplit(":", 1)[1]
    message = refused("--data", str(tmp_path / "other"), "--port", port)
    assert f"port {port}" in message and "--port" in message
    assert "cannot listen on" in refused("--data", str(tmp_path / "other"), "--host", "203.0.113.7")
    assert "cannot listen on" in refused("--data", str(tmp_path / "other"), "--port", "99999")


def test_times_and_parents_that_cannot_be_are_refused(tmp_path) -> None:
    assert "--idle-s" in refused("--data", str(tmp_path), "--idle-s", "-1")
    assert "--parent-pid" in refused("--data", str(tmp_path), "--parent-pid", "99999999999999999999")


def test_a_data_folder_that_cannot_be_written_is_refused(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "could not be written" in refused("--data", str(tmp_path / "file" / "data"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "jobs.sqlite").write_text("no database" * 100)
    assert "Rename the file" in refused("--data", str(tmp_path / "data"))


def test_a_full_disk_refuses_a_job_in_plain_words_and_the_service_lives_on(start, tmp_path) -> None:
    with small_disk(tmp_path / "data", "400k") as folder:
        service = start()
        fill(folder / "filler")
        slots = [{"name": "cube", "prompt": "a red cube " * 50}]
        answers = [service.ask("POST", "/v1/jobs", json={"slots": slots}) for _ in range(20)]
        error = answers[-1].json()["error"]
        assert answers[-1].status_code == 500
        assert "full" in error["what"] or "no space" in error["what"]
        assert "disk space" in error["remedy"]
        accepted = [answer.json()["id"] for answer in answers if answer.status_code == 201]
        listed = [job["id"] for job in service.ask("GET", "/v1/jobs", 200).json()["jobs"]]
        assert sorted(listed) == sorted(accepted)
        service.kill()
