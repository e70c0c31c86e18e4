"""Jobs of the kinds "image" and "edit" in the worker."""

from __future__ import annotations

import json
from typing import Any

from ..image.request import ImageRequest, ImageSettings, settings_for
from ..image.run import REPORT, load_image_models, run_image
from ..image.steps import Step
from .kinds import read_any
from .loaded import Loaded
from .task import Task
from .watcher import Watcher


def run_picture(task: Task, loaded: Loaded, watcher: Watcher) -> dict[str, Any]:
    """Make or edit the picture; what is told of the result. There are no checkpoints: it always begins anew.

    Raises UserError, and Stopped when it was told to stop.
    """
    request = read_any(task.request)
    assert isinstance(request, ImageRequest)
    settings = settings_for(request)
    watcher.say("from the start")
    watcher.stop_if_told()
    scoring = f" and {settings.vlm if settings.reward == 'vlm' else settings.reward}" if request.rewarded else ""
    watcher.say(f"loading {settings.prior}{scoring} on {loaded.device}")
    models = loaded.get(_key(request, settings), lambda: load_image_models(request, settings, loaded.device))
    watcher.stop_if_told()

    def on_step(step: Step) -> None:
        watcher.on_step(step, step.picture)

    run_image(request, task.upload, task.folder, loaded.device, on_step, watcher.warn, models, watcher.stop_if_told)
    report = json.loads((task.folder / REPORT).read_bytes())
    return {"warnings": report["warnings"]}


def advise_picture(request: dict[str, Any], share: float) -> str:
    """What would fit where `share` of the memory is there that the request needed."""
    read = read_any(request)
    assert isinstance(read, ImageRequest)
    settings = settings_for(read)
    fewer = max(1, min(int(settings.batch * min(share, 1.0)), settings.batch - 1))
    if fewer < settings.batch:
        return f"Set batch to {fewer} (now {settings.batch})"
    return "Take the preset 'starter', or a machine with more memory"


def _key(request: ImageRequest, settings: ImageSettings) -> tuple[Any, ...]:
    """What makes two sets of networks different ones."""
    reward = (settings.reward, settings.vlm, settings.reward_folder) if request.rewarded else None
    return ("picture", settings.prior, settings.network_dtype, settings.vae_tile_px, reward)
