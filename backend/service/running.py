"""One job in the worker: loading, running, what is told of it, and how it ends."""

from __future__ import annotations

import gc
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import Checkpoint
from ..errors import RequestError, UserError
from ..export.files import check_writable, jsonable
from ..generate import Step
from ..guidance.models import Models, load_models
from ..guidance.questions import about_relation
from ..presets import settings_for
from ..progress import ProgressBar
from ..run import run
from ..schema import SceneRequest, Settings, read_request
from .errors import as_body
from .folder import CHECKPOINT, FINAL, LOG, PREVIEW
from .memory import explain_memory, is_memory_error
from .preview import write_preview

Tell = Callable[..., None]
TELL_S = 0.25  # between two messages of progress
PREVIEW_S = 1.0  # between two pictures


class Stopped(Exception):
    """The job was told to stop."""


class LoadedModels:
    """The networks of the last job, which the next one mostly needs too."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._names: tuple[str, str] | None = None
        self._models: Models | None = None

    def get(self, settings: Settings) -> Models:
        """The models the settings name. Raises ModelError."""
        names = settings.prior, settings.vlm
        if self._models is None or names != self._names:
            self.free()  # both pairs at once might not fit
            self._models, self._names = load_models(settings, self.device), names
        return self._models

    def free(self) -> bool:
        """Whether there was something to free."""
        there = self._models is not None
        self._models = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return there


def run_job(message: dict[str, Any], models: LoadedModels, stops: dict[str, str], tell: Tell) -> None:
    """Run the job of the message to its end, and tell what became of it."""
    job, folder = message["job"], Path(message["folder"])

    def tell_of_job(kind: str, **what: Any) -> None:
        tell(kind, job=job, **what)

    try:
        with _log_to(folder / LOG):
            kind, what = _outcome(message, folder, models, lambda: stops.get(job), tell_of_job)
    except Exception as error:  # the log itself cannot be written
        kind, what = "failed", as_body(_fault(error))
    gc.collect()
    tell_of_job(kind, **what)


def _outcome(
    message: dict[str, Any], folder: Path, models: LoadedModels, why_stop: Callable[[], str | None], tell: Tell
) -> tuple[str, dict[str, Any]]:
    """The last message about the job: its kind and content. Everything that goes wrong ends here."""
    settings = None
    try:
        request, resume = _request(message)
        settings = settings_for(request.preset, request.settings)
        check_writable(folder)
        watcher = Watcher(folder, why_stop, tell)
        watcher.say(f"from step {resume.step}" if resume else "from the start")
        watcher.stop_if_told()
        watcher.say(f"loading the models {settings.prior} and {settings.vlm} on {models.device}")
        loaded = models.get(settings)
        watcher.stop_if_told()
        # Only where there are some: the parameter is for slots that begin from the user's own meshes.
        meshes = {"meshes": Path(message["meshes"])} if message["meshes"] else {}
        run(request, folder, models.device, watcher.on_step, watcher.warn, resume, loaded, **meshes)
        return "done", result_of(folder)
    except Stopped as stop:
        return "cancelled" if str(stop) == "cancel" else "interrupted", {}
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return "failed", as_body(error)
    except Exception as error:
        traceback.print_exc()
        if settings and is_memory_error(error):
            fault: UserError = explain_memory(error, settings, models.device)
            error.__traceback__ = None  # it holds the tensors
            models.free()
        else:
            fault = _fault(error)
        return "failed", as_body(fault)


def _request(message: dict[str, Any]) -> tuple[SceneRequest, Checkpoint | None]:
    """What to run. A resumed job keeps the boxes it was begun with; its settings may have been raised since."""
    data = message["request"]
    if not message["checkpoint"]:
        return read_request(data), None
    try:
        checkpoint = Checkpoint(Path(message["checkpoint"]))
    except RequestError as error:
        remedy = "Start a new job with the same request"
        raise RequestError(error.what, where=error.where, remedy=remedy) from error
    return read_request(checkpoint.request | {"settings": data.get("settings", {})}), checkpoint


def _fault(error: Exception) -> UserError:
    remedy = "This is a fault of the program: please report it with the job's log"
    return UserError(f"{type(error).__name__}: {error}", where="worker", remedy=remedy)


class Watcher:
    """What is done after each step: tell, take a picture, stop when told to, keep the last state."""

    def __init__(self, folder: Path, why_stop: Callable[[], str | None], tell: Tell) -> None:
        self._folder, self._why_stop, self._tell = folder, why_stop, tell
        self._bar = ProgressBar(sys.stderr)
        self._told = self._pictured = -math.inf
        self._preview = int(time.time())  # goes on growing when a job is resumed

    def on_step(self, step: Step) -> None:
        """Raises Stopped."""
        self._bar.show(step)
        last, now = step.step == step.steps, time.monotonic()
        if last:
            step.save(self._folder / FINAL)  # refining begins here
        elif self._why_stop():
            try:
                step.save(self._folder / CHECKPOINT)
            finally:  # on a full disk the last checkpoint has to do
                self.stop_if_told()
        if last or now - self._pictured >= PREVIEW_S:
            self._pictured = now
            self._preview += write_preview(step.pictures, self._folder / PREVIEW)
        if last or now - self._told >= TELL_S:
            self._told = now
            self._tell("progress", progress=jsonable(self._progress(step, last)))

    def say(self, text: str) -> None:
        """A line for the log, and for who follows the job."""
        print(text, file=sys.stderr, flush=True)
        self._tell("log", text=text)

    def warn(self, text: str) -> None:
        print(f"warning: {text}", file=sys.stderr, flush=True)
        self._tell("warning", text=text)

    def stop_if_told(self) -> None:
        """Raises Stopped, with the reason."""
        if why := self._why_stop():
            raise Stopped(why)

    def _progress(self, step: Step, last: bool) -> dict[str, Any]:
        return {
            "step": step.step,
            "steps": step.steps,
            "losses": step.losses,
            "rewards": step.rewards,
            "seconds_left": step.seconds_left,
            "preview": self._preview,
            "phase": "exporting" if last else "optimising",
        }


def result_of(folder: Path) -> dict[str, Any]:
    """What the report says of warnings and relations, each relation with the probability of the VLM's Yes."""
    report = json.loads((folder / "report.json").read_bytes())
    prompts = {slot["name"]: slot["prompt"] for slot in report["request"]["slots"]}
    relations = []
    for row in report["relations"]:
        asked = about_relation(prompts[row["subject"]], row["relation"], prompts[row["object"]])
        reward = report["rewards"].get(asked)
        relations.append(
            {key: row[key] for key in ("subject", "relation", "object", "fulfilled")}
            | {"probability": None if reward is None else 1 / (1 + math.exp(-max(-50.0, min(50.0, reward))))}
        )
    return {"warnings": report["warnings"], "relations": relations}


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Standard output and error go to the end of the file, those of libraries written in C too."""
    kept = [(number, os.dup(number)) for number in (1, 2)]
    with open(path, "ab") as file:
        try:
            for number, _ in kept:
                os.dup2(file.fileno(), number)
            yield
        finally:
            sys.stderr.flush()
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)
