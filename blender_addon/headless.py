"""Generate without a window: everything in one go, until the result is in the scene."""

import shutil
from collections.abc import Callable
from pathlib import Path

import bpy

from . import link, preferences
from .answers import Job, check_glb, read_job, read_progress
from .client import Client
from .collect import collect
from .messages import BackendError
from .mirror import job_fault, show_outcomes
from .place import place


def say(line: str) -> None:
    """Print at once, whatever the output goes to."""
    print(line, flush=True)


def generate(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    glb: Path | None = None,
    on_line: Callable[[str], None] = say,
) -> bpy.types.Collection:
    """The result's collection in the scene. glb: a copy of the file goes there.

    Raises LayoutError, BackendError or PlaceError. Ctrl-C cancels the run.
    """
    collected = collect(scene, view_layer)
    config = preferences.config()
    client, _ = link.connect(config)
    job = read_job(client.submit(collected.request, collected.meshes))
    try:
        job = _wait(client, job, on_line)
    except KeyboardInterrupt:
        client.cancel(job.id)
        raise
    if job.state != "done" or not job.has_result:
        raise _why(job)
    folder = config.cache / job.id
    folder.mkdir(parents=True, exist_ok=True)
    path = check_glb(client.download(job.id, "result.glb", folder / "result.glb"))
    if glb is not None:
        _copy(path, glb)
    collection = place(path, job, scene, select=True)
    scene.diorama.last_job = job.id
    show_outcomes(scene, job)
    return collection


def _wait(client: Client, job: Job, on_line: Callable[[str], None]) -> Job:
    """The job when it has ended."""
    for warning in job.warnings:
        on_line(f"warning: {warning}")
    shown = -1
    for _, kind, data in client.events(job.id):
        if kind in ("state", "done"):
            job = read_job(data)
            on_line(f"{job.id}: {job.state}")
        elif kind == "progress":
            progress = read_progress(data)
            if int(20 * progress.factor) != shown:  # a line for every 5 %
                shown = int(20 * progress.factor)
                on_line(f"step {progress.step} of {progress.steps}, {progress.seconds_left:.0f} s left")
        if job.ended:
            break
    return job


def _why(job: Job) -> BackendError:
    if job.state == "cancelled":
        return BackendError("The run was cancelled")
    return job_fault(job)


def _copy(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        raise BackendError("The GLB cannot be written", str(target), error.strerror or str(error)) from error
