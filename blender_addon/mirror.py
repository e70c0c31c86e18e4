"""What is known of backend and runs, written into the properties that the panels draw."""

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import bpy

from .answers import Job, Progress, as_list, text
from .messages import BackendError

if TYPE_CHECKING:
    from .session import Session

ACTIVE = ("queued", "running", "cancelling")


def status() -> Any:
    """The DioramaStatus of this Blender."""
    return bpy.data.window_managers[0].diorama


def show_all(session: "Session") -> None:
    """Fill the status of a window manager that is new, as after a file was loaded."""
    current = status()
    show_backend(current, session.backend)
    show_history(current, session.history, session.history_more)
    current.install_line = session.install_line
    if session.job is not None:
        show_job(current, session.job)
    elif session.sending:
        show_sending(current)
    else:
        show_idle(current)
    if session.fault is not None:
        show_fault(current, session.fault, session.job)
    else:
        clear_fault(current)


def show_backend(current: Any, data: dict[str, str]) -> None:
    current.backend = data.get("state", "unknown")
    current.device = data.get("device", "")


def show_sending(current: Any) -> None:
    """A run is on its way to the backend."""
    show_idle(current)
    current.state = "sending"


def show_idle(current: Any) -> None:
    """No run to show."""
    current.job, current.kind, current.state, current.phase = "", "", "", ""
    current.notice, current.warnings = "", ""
    current.step, current.steps, current.factor, current.seconds_left = 0, 0, 0.0, 0.0
    current.rewards.clear()


def show_job(current: Any, job: Job) -> None:
    """The run in the Generate panel."""
    current.job, current.kind, current.state = job.id, job.kind, job.state
    current.position = job.position or 0
    current.warnings = "\n".join(job.warnings)
    if job.progress is not None:
        show_progress(current, job.progress)
    elif job.state == "queued":
        current.step, current.factor = 0, 0.0
    if job.state in ("failed", "interrupted"):
        show_fault(current, job_fault(job), job)
    current.notice = "" if job.state in ACTIVE else current.notice


def show_progress(current: Any, progress: Progress) -> None:
    current.phase, current.step, current.steps = progress.phase, progress.step, progress.steps
    current.factor, current.seconds_left = progress.factor, progress.seconds_left
    if [row.name for row in current.rewards] != list(progress.rewards):
        current.rewards.clear()
        for name in progress.rewards:
            current.rewards.add().name = name
    for row, value in zip(current.rewards, progress.rewards.values(), strict=True):
        row.log_odds = value


def job_fault(job: Job) -> BackendError:
    """Why a run did not come to its end."""
    if job.fault is not None:
        what, where, remedy = job.fault
        return BackendError(what.rstrip("."), where, remedy, "log" if job.state == "failed" else "")
    if job.state == "interrupted":
        if job.result.resumes and job.has_checkpoint:
            remedy, mend = "'Go On' lets it go on from where it was", "resume"
        else:
            remedy, mend = "'Start Again' begins it anew", "again"
        return BackendError("The run was interrupted", "", remedy, mend, job.id)
    return BackendError("The run failed", "", "The log says more", "log")


def show_fault(current: Any, error: BackendError, job: Job | None = None) -> None:
    """An error, with the button that mends it."""
    current.fault, current.fault_where = error.what, named_slots(error.where, job)
    current.fault_remedy, current.fault_mend, current.fault_job = error.remedy, error.mend, error.job


def clear_fault(current: Any) -> None:
    current.fault, current.fault_where, current.fault_remedy = "", "", ""
    current.fault_mend, current.fault_job = "", ""
    current.notice = ""


def named_slots(where: str, job: Job | None) -> str:
    """`slots[2].prompt` with the slot's own name."""
    slots = as_list(job.request.get("slots")) if job is not None else []

    def name(match: re.Match[str]) -> str:
        index = int(match[1])
        known = index < len(slots) and isinstance(slots[index], dict)
        return f"slot '{text(slots[index].get('name'))}', " if known else match[0]

    return re.sub(r"slots\[(\d{1,6})\]\.?", name, where).rstrip(", ")


def show_history(current: Any, history: list[Job], more: bool) -> None:
    """The rows of the Results panel; the chosen one stays chosen."""
    chosen = current.history[current.history_index].name if 0 <= current.history_index < len(current.history) else ""
    current.history.clear()
    for job in history:
        row = current.history.add()
        row.name, row.kind, row.state, row.prompt = job.id, job.kind, job.state, job.prompt
        row.created, row.seconds = local_time(job.created), job.seconds or 0.0
        row.has_result, row.has_checkpoint = job.has_result, job.has_checkpoint
    current.history_index = max(current.history.find(chosen), 0)
    current.history_more = more


def local_time(stamp: str) -> str:
    """A UTC time stamp as the user's clock says it."""
    try:
        return datetime.fromisoformat(stamp.replace("Z", "+00:00")).astimezone().strftime("%d %b %H:%M")
    except (ValueError, OverflowError, OSError):
        return stamp[:16]


def show_outcomes(scene: bpy.types.Scene, job: Job) -> None:
    """Each relation's row says what became of it."""
    from .collect import relation_of

    results = {(row.subject, row.relation, row.object): row for row in job.relations}
    for row in scene.diorama.relations:
        if row.subject is None or row.object is None:
            continue
        result = results.get(tuple(relation_of(row).values()))
        row.outcome = "none" if result is None else ("yes" if result.fulfilled else "no")
        row.probability = -1.0 if result is None or result.probability is None else result.probability


def clear_outcomes(scene: bpy.types.Scene) -> None:
    for row in scene.diorama.relations:
        row.outcome, row.probability = "none", -1.0


def redraw() -> None:
    """Have the areas that show the add-on drawn again."""
    for window in bpy.data.window_managers[0].windows:
        for area in window.screen.areas:
            if area.type in ("VIEW_3D", "IMAGE_EDITOR", "PREFERENCES"):
                area.tag_redraw()
