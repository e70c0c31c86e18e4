"""Jobs of the kinds "image" and "edit" in the worker."""

from __future__ import annotations

import json
from typing import Any

from ..image.request import ImageRequest, ImageSettings, settings_for
from ..image.run import HEEDED, HEEDED_TO_SCORE, REPORT, load_image_models, run_image
from ..image.steps import Step
from ..out_of_memory import lighter_vlm
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
    s, ways = settings_for(read), []
    fewer = max(1, min(int(s.batch * min(share, 1.0)), s.batch - 1))
    if read.rewarded and fewer < s.batch:  # one noise is one sample
        ways.append(f"set batch to {fewer} (now {s.batch})")
    if read.rewarded and s.reward == "vlm":
        if s.prior != "starter" and not s.offload_idle:
            ways.append("turn on offload_idle, where there is a GPU")
        ways += lighter_vlm(s.vlm, s.vlm_px, s.vlm_four_bit, share)
    text = ", or ".join(ways) or "take the preset 'starter', or a machine with more memory"
    return text[0].upper() + text[1:]


def _key(request: ImageRequest, settings: ImageSettings) -> tuple[Any, ...]:
    """What makes two sets of networks different ones."""
    names = HEEDED + HEEDED_TO_SCORE if request.rewarded else HEEDED
    return ("picture", *(getattr(settings, name) for name in names))
