"""Killed with -9 or out of memory, in the middle of a real job: nothing accepted is lost, and it goes on."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service_server import QUICK, Service, scene

LONG = QUICK | {"steps": 16}
SPARE_BYTES = 50 * 2**20  # that a worker with its models loaded may still take

pytestmark = pytest.mark.slow  # three workers import torch and load models


@pytest.fixture
def started(tmp_path) -> Iterator[list[Service]]:
    """A service; the test may append others on the same folder."""
    services = [Service(tmp_path / "data")]
    yield services
    for service in services:
        service.stop()


def resume_to_the_end(service: Service, job_id: str, reached: int) -> None:
    """Resumes the job and sees that it did not begin anew."""
    service.ask("POST", f"/v1/jobs/{job_id}/resume", 200)
    job = service.wait(job_id)
    assert job["state"] == "done", (job["error"], job["log_tail"])
    assert job["error"] is None and job["has_result"]
    begun = [line for line in service.log(job_id).splitlines() if line.startswith("from step ")]
    assert int(begun[-1].removeprefix("from step ")) >= reached
    assert job["progress"]["step"] == LONG["steps"]


def test_nothing_is_lost_when_worker_and_service_are_killed(started) -> None:
    service = started[0]
    first, second = (service.submit(scene(LONG))["id"] for _ in range(2))
    reached = service.wait_for_step(first, 3)["progress"]["step"]
    killed = service.worker_pid()
    os.kill(killed, signal.SIGKILL)
    job = service.wait(first)
    assert job["state"] == "failed" and job["has_checkpoint"]
    assert "SIGKILL" in job["error"]["what"] and "memory" in job["error"]["remedy"]
    assert "loading the models" in job["log_tail"]

    reached_second = service.wait_for_step(second, 3)["progress"]["step"]  # the next job runs in a fresh worker
    assert service.worker_pid() != killed
    third = service.submit(scene(QUICK))["id"]
    service.kill()

    started.append(Service(service.data))
    service = started[1]
    assert service.job(second)["state"] == "interrupted"
    assert service.job(first)["state"] == "failed"
    resume_to_the_end(service, second, reached_second)
    assert service.job(third)["state"] == "done"  # it was waiting, and went on waiting
    resume_to_the_end(service, first, reached)


def test_a_job_that_runs_when_the_service_is_ended_is_interrupted_with_its_last_step_kept(started) -> None:
    service = started[0]
    job_id = service.submit(scene(LONG | {"steps": 100_000, "checkpoint_every_s": 1e6}))["id"]
    for event in service.events(job_id):
        if event.kind == "progress" and event.data["step"] >= 2:
            break
    service.ask("POST", "/v1/shutdown", 202)
    assert service.process.wait(60) == 0
    started.append(Service(service.data))
    job = started[1].job(job_id)
    assert job["state"] == "interrupted"
    assert job["has_checkpoint"]  # though none was due


@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups to signal")
def test_a_signal_to_the_whole_group_interrupts_the_job_and_keeps_its_last_step(tmp_path) -> None:
    service = Service(tmp_path / "data", start_new_session=True)
    try:
        job_id = service.submit(scene(LONG | {"steps": 100_000, "checkpoint_every_s": 1e6}))["id"]
        next(event for event in service.events(job_id) if event.kind == "progress" and event.data["step"] >= 2)
        os.killpg(service.process.pid, signal.SIGTERM)  # as systemd and `timeout` do
        service.process.wait(60)
    finally:
        service.kill()
    again = Service(service.data)
    try:
        job = again.job(job_id)
        assert job["state"] == "interrupted" and job["has_checkpoint"]
    finally:
        again.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="sets another process's memory limit, as Linux alone allows")
def test_a_job_that_needs_more_memory_than_there_is_says_what_would_fit_and_the_next_one_runs(started) -> None:
    import resource

    service = started[0]
    assert service.wait(service.submit(scene(QUICK))["id"])["state"] == "done"
    worker = service.worker_pid()
    held = int(Path(f"/proc/{worker}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(worker, resource.RLIMIT_AS, (held + SPARE_BYTES, resource.RLIM_INFINITY))
    job = service.wait(service.submit(scene(QUICK | {"views": 16, "preview_px": 2048}))["id"])
    assert job["state"] == "failed"
    assert "too little memory" in job["error"]["what"] and "views to 7 (now 16)" in job["error"]["remedy"]
    resource.prlimit(worker, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert service.wait(service.submit(scene(QUICK))["id"])["state"] == "done"
    assert service.worker_pid() == worker
