"""A job of kind "scene" in the worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..checkpoint import Checkpoint
from ..errors import RequestError
from ..generate import Step
from ..guidance.models import HEEDED, load_models
from ..out_of_memory import suggest
from ..presets import settings_for
from ..progress import probability
from ..run import run
from ..schema import Relation, SceneRequest, Settings, read_request
from .folder import FINAL
from .loaded import Loaded
from .requests import without_kind
from .task import Task
from .watcher import Watcher


def run_scene(task: Task, loaded: Loaded, watcher: Watcher) -> dict[str, Any]:
    """Make the scene, from the task's checkpoint where it has one; what is told of the result.

    Raises UserError, and Stopped when it was told to stop.
    """
    request, resume = _request(task)
    settings = settings_for(request.preset, request.settings)
    watcher.say(f"from step {resume.step}" if resume else "from the start")
    watcher.stop_if_told()
    watcher.say(f"loading the models {settings.prior} and {settings.vlm} on {loaded.device}")
    models = loaded.get(_key(settings), lambda: load_models(settings, loaded.device))
    watcher.stop_if_told()

    def on_step(step: Step) -> None:
        watcher.on_step(step, lambda: step.pictures, step.save)

    def on_part() -> None:
        watcher.on_part(*(resume.step, resume.rewards) if resume else (0, {}))

    keep = task.folder / FINAL  # refining begins there
    run(request, task.folder, loaded.device, on_step, watcher.warn, resume, models, task.upload, on_part, keep)
    return result_of(task.folder)


def advise_scene(request: dict[str, Any], share: float) -> str:
    """What would fit where `share` of the memory is there that the request needed."""
    return suggest(settings_for(request.get("preset", "starter"), request.get("settings", {})), share)


def _request(task: Task) -> tuple[SceneRequest, Checkpoint | None]:
    """What to run. A resumed job keeps the boxes it was begun with; its settings may have been raised since."""
    data = without_kind(task.request)
    if not task.checkpoint:
        return read_request(data), None
    try:
        checkpoint = Checkpoint(task.checkpoint)
    except RequestError as error:
        remedy = "Start a new job with the same request"
        raise RequestError(error.what, where=error.where, remedy=remedy) from error
    return read_request(checkpoint.request | {"settings": data.get("settings", {})}), checkpoint


def _key(settings: Settings) -> tuple[Any, ...]:
    """What makes two sets of networks different ones."""
    return ("scene", *(getattr(settings, name) for name in HEEDED))


def result_of(folder: Path) -> dict[str, Any]:
    """What the report says of warnings and relations, each relation with the probability of the VLM's Yes."""
    report = json.loads((folder / "report.json").read_bytes())
    relations = []
    for row in report["relations"]:
        relation = Relation(subject=row["subject"], relation=row["relation"], object=row["object"])
        reward = next((odds for name, odds in report["rewards"].items() if name.startswith(f"{relation}: ")), None)
        relations.append(
            {key: row[key] for key in ("subject", "relation", "object", "fulfilled")}
            | {"probability": None if reward is None else probability(reward)}
        )
    return {"warnings": report["warnings"], "relations": relations}
