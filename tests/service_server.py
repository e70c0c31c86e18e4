"""A real service in a process of its own, for tests, and a client of its wire."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import requests

ROOT = Path(__file__).parents[1]
PATIENCE_S = 580.0  # for a worker to import torch and load the starter models on a machine that has other work
ENDED = ("done", "failed", "cancelled", "interrupted")
QUICK = {  # the starter preset, as small and short as it can be
    "steps": 4,
    "views": 2,
    "resolution": 8,
    "final_resolution": 9,
    "refine_at": 0.6,
    "reward_from": 0,
    "texture_px": 64,
    "preview_px": 32,
    "checkpoint_every_s": 1e-9,
}
ENDLESS = QUICK | {"steps": 100_000, "refine_at": 1.0}
CUBE = {"name": "cube", "prompt": "a red cube"}


def scene(settings: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The request of one red cube."""
    return {"slots": [CUBE], "seed": 1, "settings": settings} | changes


def form(request: dict[str, Any], **files: bytes) -> dict[str, Any]:
    """The parts of a form."""
    return {
        "request": (None, json.dumps(request), "application/json"),
        **{name: (name, data) for name, data in files.items()},
    }


class Told(NamedTuple):
    """An event of a stream."""

    number: int
    kind: str
    data: dict[str, Any]


class Service:
    """`python -m backend serve` on a data folder."""

    def __init__(self, data: Path, *options: str, parent: int | None = os.getpid(), **kept: Any) -> None:
        self.data = data
        common = ["--data", str(data), "--device", "cpu"]
        common += [] if parent is None else ["--parent-pid", str(parent)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "backend", "serve", *common, *options],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            **kept,
        )
        assert self.process.stdout
        began, line = time.monotonic(), self.process.stdout.readline()
        self.seconds_to_ready = time.monotonic() - began
        assert line, f"the service ended with {self.process.wait()}"
        self.about = json.loads(line)
        self.url = self.about["address"]
        self.token = (data / "token").read_text()
        self.headers = {"Authorization": f"Bearer {self.token}"}

    def ask(self, method: str, path: str, status: int | None = None, **more: Any) -> requests.Response:
        """The answer, which must have the status where one is given."""
        headers = self.headers | more.pop("headers", {})
        answer = requests.request(method, self.url + path, headers=headers, timeout=60, **more)
        assert status is None or answer.status_code == status, answer.text
        return answer

    def submit(self, request: dict[str, Any], **files: bytes) -> dict[str, Any]:
        """The accepted job. files: what comes with the request, by the name of its part."""
        if not files:
            return self.ask("POST", "/v1/jobs", 201, json=request).json()
        return self.ask("POST", "/v1/jobs", 201, files=form(request, **files)).json()

    def run(self, request: dict[str, Any]) -> tuple[str, list[Told]]:
        """A finished job's id, and what was told while it ran."""
        job_id = self.submit(request)["id"]
        return job_id, list(self.events(job_id))

    def job(self, job_id: str) -> dict[str, Any]:
        return self.ask("GET", f"/v1/jobs/{job_id}", 200).json()

    def wait(self, job_id: str, *states: str) -> dict[str, Any]:
        """The job, once it is in one of the states; in another last one, the test fails."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            job = self.job(job_id)
            if job["state"] in (states or ENDED):
                return job
            assert job["state"] not in ENDED, job
            time.sleep(0.2)
        raise AssertionError(f"still {job['state']}: {job['progress']}, {self.log(job_id)}")

    def wait_for_step(self, job_id: str, step: int) -> dict[str, Any]:
        """The job, once it has done so many steps and has a checkpoint."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            job = self.job(job_id)
            assert job["state"] in ("queued", "running"), job
            if job["progress"] and job["progress"]["step"] >= step and job["has_checkpoint"]:
                return job
            time.sleep(0.1)
        raise AssertionError(f"no step {step}: {job}")

    def log(self, job_id: str) -> str:
        return self.ask("GET", f"/v1/jobs/{job_id}/log").text

    def events(self, job_id: str, after: int | None = None) -> Iterator[Told]:
        """The job's events, until the stream ends."""
        headers = self.headers | ({} if after is None else {"Last-Event-ID": str(after)})
        url = f"{self.url}/v1/jobs/{job_id}/events"
        with requests.get(url, headers=headers, stream=True, timeout=60) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
            fields: dict[str, str] = {}
            for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
                if line and not line.startswith(":"):
                    key, _, value = line.partition(": ")
                    fields[key] = value
                elif fields:
                    yield Told(int(fields["id"]), fields["event"], json.loads(fields["data"]))
                    fields = {}

    def worker_pid(self) -> int:
        """The id of the worker process."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            log = (self.data / "service.log").read_text()
            started = [line.split()[-2] for line in log.splitlines() if " started" in line and "worker process" in line]
            if started:
                return int(started[-1])
            time.sleep(0.1)
        raise AssertionError("no worker was started")

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Its exit status, after it was asked to end."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.stdout.close()
        return self.process.wait()
