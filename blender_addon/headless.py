"""Generate without a window: everything in one go, until the result is in the scene."""

import contextlib
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bpy

from . import jobs, link, preferences
from .answers import Job, Progress, read_job, read_progress
from .client import Client
from .collect import collect
from .collect_picture import CollectedPicture
from .messages import BackendError
from .mirror import job_fault, show_outcomes
from .parts import Part, meshes_part
from .place import place
from .place_picture import place_picture
from .teller import Teller

BESIDES_STEPS = {"loading": "Loading models", "exporting": "Writing the result"}  # phases in which no step is done


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

    Raises LayoutError, BackendError or PlaceError, and KeyboardInterrupt after Ctrl-C, which cancels the run.
    """
    collected = collect(scene, view_layer)
    part = None if collected.meshes is None else meshes_part(collected.meshes)
    job, path = _fetch(collected.request, part, on_line)
    if glb is not None:
        _copy(path, glb)
    collection = place(path, job, scene, select=True)
    scene.diorama.last_job = job.id
    show_outcomes(scene, job)
    for relation in job.relations:
        on_line(f"{relation.subject} {relation.relation} {relation.object}: {'yes' if relation.fulfilled else 'NO'}")
    return collection


def make_picture(
    scene: bpy.types.Scene, collected: CollectedPicture, on_line: Callable[[str], None] = say
) -> bpy.types.Image:
    """The result as a new image. Raises BackendError or PlaceError, and KeyboardInterrupt after Ctrl-C."""
    job, path = _fetch(collected.request, collected.part, on_line)
    image = place_picture(path, job)
    scene.diorama.last_job = job.id
    return image


@contextlib.contextmanager
def heeding_ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt inside: Blender's own handler only notes it, for renders."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield  # Python has signals in its main thread only; and who had them ignored, as nohup's like do, meant it
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        # Blender's is none of Python's (None), which cannot put it back: then Ctrl-C ends Blender, as it does programs.
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


def _fetch(request: dict[str, Any], part: Part | None, on_line: Callable[[str], None]) -> tuple[Job, Path]:
    """The job, run to its end, and its result, whole. Raises BackendError, and KeyboardInterrupt for Ctrl-C."""
    config = preferences.config()
    with heeding_ctrl_c(), Teller(on_line) as teller:
        teller.goes_on("Starting the backend", counts=True)
        client = _connected(config)
        job = _wait(client, read_job(client.submit(request, part)), teller)
        if job.state != "done" or not job.has_result:
            raise _why(job)
        teller.goes_on("Fetching the result", counts=True)
        path = client.download(job.id, job.result.name, config.cache / job.id / job.result.name)
        return job, job.result.check(path)


def _connected(config: link.Config) -> Client:
    """A client of a backend that answers; the session gives a local one up when the add-on is switched off."""
    session = jobs.session()
    client, backend = link.connect(config, link.Asking(before=session.local))
    session.local = backend or session.local
    return client


def _is_gone() -> bool:
    """Whether a local backend that was in use runs no longer."""
    config, local = preferences.config(), jobs.session().local
    return local is not None and not config.remote and not local.alive()


def _wait(client: Client, job: Job, teller: Teller) -> Job:
    """The job when it has ended. Ctrl-C cancels it, and comes out as KeyboardInterrupt."""
    try:
        return _ended(client, job, teller)
    except KeyboardInterrupt:
        try:
            client.cancel(job.id)
        except BackendError as error:
            teller.say(f"{job.id} could not be cancelled: {error}")
        raise


def _ended(client: Client, job: Job, teller: Teller) -> Job:
    """The job when it has ended."""
    shown, warned = -1, set[str]()
    for _, kind, data in client.events(job.id, gone=_is_gone):
        if kind in ("state", "done"):
            job = read_job(data)
            teller.say(f"{job.id}: {job.state}")
            teller.goes_on(f"{job.id}: {job.state}", counts=True)
            for warning in job.warnings:
                if warning not in warned:
                    teller.say(f"warning: {warning}")
            warned.update(job.warnings)
        elif kind == "progress":
            progress = read_progress(data)
            teller.goes_on(_told(progress), counts=progress.phase in BESIDES_STEPS)
            if int(20 * progress.factor) != shown:  # a line for every 5 %
                shown = int(20 * progress.factor)
                teller.say(_told(progress))
        if job.ended:
            break
    return job


def _told(progress: Progress) -> str:
    if progress.phase in BESIDES_STEPS:
        return BESIDES_STEPS[progress.phase]
    return f"step {progress.step} of {progress.steps}, {progress.seconds_left:.0f} s left"


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
