"""What the session does with each message of the network thread; all of it on the main thread, and quick."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

from . import mirror
from .answers import Job
from .arrivals import Arrived, Read
from .messages import BackendError
from .opening import open_path

if TYPE_CHECKING:
    from .session import Session

WAITS = "A result of another file has arrived: it waits in Results"


def _heard_backend(current: "Session", data: dict[str, str]) -> None:
    current.backend = data
    mirror.show_backend(mirror.status(), data)
    if data["state"] != "ready":
        return
    current.asked.clear()
    current.want_words()
    if current.fault is not None and current.fault.mend in ("install", "start", "restart"):
        current.clear_fault()


def _heard_stopped(current: "Session", _: None) -> None:
    if current.busy():
        mirror.show_idle(mirror.status())
        current.say("The run was interrupted: it can go on from Results")
    current.job = None


def _heard_unloaded(current: "Session", freed: bool) -> None:
    current.say("The models have left the memory" if freed else "No models were freed: none is loaded, or all are busy")


def _heard_presets(current: "Session", presets: list[dict[str, Any]]) -> None:
    current.presets = [preset for preset in presets if isinstance(preset.get("name"), str)]


def _heard_vocabulary(current: "Session", data: tuple[str, dict[str, Any]]) -> None:
    current.vocabulary[data[0]] = data[1]


def _heard_submitted(current: "Session", data: tuple[Job, int]) -> None:
    job, ticket = data
    if ticket != current.ticket:  # cancelled while it was being sent
        current.ask("cancel", id=job.id)
        return
    current.sent.add(job.id)
    if current.sender is not None:
        current.origins[job.id] = current.sender
        scene = bpy.data.scenes.get(current.sender.scene)
        if scene is not None:
            scene.diorama.last_job = job.id
            if job.kind == "scene":
                mirror.clear_outcomes(scene)
    current.sender, current.sending = None, False
    _heard_job(current, job)


def _heard_other(current: "Session", job: Job) -> None:
    current.history = [job, *(other for other in current.history if other.id != job.id)]
    current.history.sort(key=lambda other: other.created, reverse=True)
    mirror.show_history(mirror.status(), current.history, current.history_more)


def _heard_job(current: "Session", job: Job) -> None:
    _heard_other(current, job)
    if job.id != current.watched and not current.own(job):
        return
    current.job = job
    status, scene = mirror.status(), current.scene_of(job)
    mirror.show_job(status, job)
    if job.state in ("failed", "interrupted"):
        current.fault = mirror.job_fault(job)
    if not job.ended or job.id in current.wanted:
        return
    if scene is not None and job.kind == "scene":
        mirror.show_outcomes(scene, job)
    if job.state == "done" and job.has_result:
        if scene is not None:
            current.ask("result", id=job.id)
        else:
            status.notice = WAITS


def _heard_progress(current: "Session", data: tuple[str, Any]) -> None:
    if current.job is not None and current.job.id == data[0]:
        current.job = current.job._replace(progress=data[1])
        mirror.show_progress(mirror.status(), data[1])


def _heard_picture(current: "Session", data: tuple[str, Path]) -> None:
    current.pictures.show(*data)


def _heard_result(current: "Session", data: tuple[Job, Path]) -> None:
    job, path = data
    if not current.fetched(job.id):  # it was asked for twice
        return
    asked, left = job.id in current.wanted, job.id in current.left
    current.wanted.discard(job.id)
    current.left.discard(job.id)
    if asked or (not left and current.scene_of(job) is not None):
        current.waiting.append(Arrived(job, path, asked, time.monotonic()))
    else:
        mirror.status().notice = WAITS


def _heard_history(current: "Session", data: tuple[list[Job], str | None, bool]) -> None:
    jobs, before, more = data
    current.history = jobs if before is None else [*current.history, *jobs]
    current.history_more = more
    mirror.show_history(mirror.status(), current.history, more)
    running = next((job for job in jobs if not job.ended and current.own(job)), None)
    if running is not None and not current.busy():  # begun before Blender was closed
        current.show_run(running)


def _heard_deleted(current: "Session", id: str) -> None:
    current.history = [job for job in current.history if job.id != id]
    current.wanted.discard(id)
    if any(arrived.job.id == id for arrived in current.waiting):
        current.waiting = [arrived for arrived in current.waiting if arrived.job.id != id]
        current.say("")
    mirror.show_history(mirror.status(), current.history, current.history_more)


def _heard_parsed(current: "Session", answer: tuple[str, dict[str, Any]]) -> None:
    prompt, data = answer
    if current.reading is None or current.reading[0] != prompt:  # asked for in a file that is closed now
        return
    current.read = Read(current.reading[1], data, time.monotonic())


def _heard_files(current: "Session", folder: Path) -> None:
    try:
        open_path(folder)
    except BackendError as error:
        current.fail(error)


def _heard_install_line(current: "Session", line: str) -> None:
    current.install_line = line
    mirror.status().install_line = line


def _heard_installed(current: "Session", _: None) -> None:
    current.clear_fault()
    mirror.status().notice = "The backend is installed"


def _heard_cancelled(current: "Session", name: str) -> None:
    if name == "install":
        _heard_backend(current, {"state": "none"})
        mirror.status().notice = "The installation was cancelled; it goes on from there when repeated"
    elif current.backend["state"] == "starting":
        _heard_backend(current, {"state": "none"})
    if name == "parse":
        current.reading = None


def _heard_fault(current: "Session", data: tuple[str, BackendError]) -> None:
    name, error = data
    if error.mend in ("install", "start", "restart", "settings") or current.backend["state"] in (
        "starting",
        "installing",
    ):
        _heard_backend(current, {"state": "none"})
    if name == "vocabulary":
        current.ask_words_again()
        return  # words are not checked until then; nothing the user asked for has failed
    if error.ticket not in (0, current.ticket):
        return  # of a request that was cancelled while it was being sent
    if name == "cancel" and current.job is not None:  # it goes on
        mirror.show_job(mirror.status(), current.job)
    current.fail(error)
    if name == "parse":
        current.reading = None
    if name in ("submit", "resume"):
        current.sender, current.sending = None, False
        mirror.show_idle(mirror.status())
    if name == "result":
        _no_result(current, error.job or next(iter(current.fetching), ""))


def _no_result(current: "Session", id: str) -> None:
    if current.fetched(id):
        current.wanted.discard(id)
        current.left.discard(id)


HANDLERS = {
    "backend": _heard_backend,
    "stopped": _heard_stopped,
    "unloaded": _heard_unloaded,
    "presets": _heard_presets,
    "vocabulary": _heard_vocabulary,
    "submitted": _heard_submitted,
    "job": _heard_job,
    "other": _heard_other,
    "progress": _heard_progress,
    "preview": _heard_picture,
    "thumbnail": _heard_picture,
    "result": _heard_result,
    "history": _heard_history,
    "deleted": _heard_deleted,
    "parsed": _heard_parsed,
    "files": _heard_files,
    "install_line": _heard_install_line,
    "installed": _heard_installed,
    "cancelled": _heard_cancelled,
    "fault": _heard_fault,
}
