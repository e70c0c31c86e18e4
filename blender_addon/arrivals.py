"""What has arrived and changes the scene. It waits until the user is not in the middle of something."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import bpy

from . import mirror
from .answers import Job
from .messages import BackendError
from .parsed import add_parsed
from .results import AGAIN

if TYPE_CHECKING:
    from .session import Session

PATIENCE_S = 5.0  # with tools that add-ons bring: some of them run for as long as Blender does
IN_OBJECT_MODE = "A result has arrived: it is imported as soon as you are in object mode"


class Arrived(NamedTuple):
    """A result that has been fetched."""

    job: Job
    path: Path
    asked: bool  # for the open scene and in any mode; else it goes where it was sent from, once in object mode
    since: float  # time.monotonic()


class Read(NamedTuple):
    """What the backend read from the prompt of a scene."""

    scene: str
    data: dict[str, Any]
    since: float  # time.monotonic()


def use_arrived(current: "Session") -> None:
    """Change the scene by the next of what has arrived, or say what it waits for."""
    if current.read is not None:
        _use_read(current, current.read)
    elif current.waiting:
        _use_result(current)


def running_tool(waited_s: float) -> str:
    """The name of what the user is in the middle of, which a change of the scene would disturb, or crash; or ""."""
    for window in bpy.context.window_manager.windows:
        for operator in getattr(window, "modal_operators", ()):
            if disturbed(operator, waited_s):
                return operator.name
    return ""


def disturbed(operator: bpy.types.Operator, waited_s: float) -> bool:
    """Whether something that has waited so long goes on waiting for the end of this tool.

    Blender's own, such as Move, a brush or a render, end some time; those written in Python have the attribute `modal`.
    """
    return waited_s < PATIENCE_S or not hasattr(operator, "modal")


def _use_read(current: "Session", read: Read) -> None:
    tool = running_tool(time.monotonic() - read.since)
    if tool:
        _tell(current, f"The prompt has been read: its slots come as soon as '{tool}' has ended")
        return
    current.read = current.reading = None
    scene = bpy.data.scenes.get(read.scene)
    if scene is None:
        return
    add_parsed(scene, read.data, scene.cursor.location)
    if bpy.context.mode == "OBJECT":
        bpy.ops.ed.undo_push(message="Diorama: Read From Prompt")
    current.say("")
    mirror.status().warnings = "\n".join(str(line) for line in read.data.get("warnings", ()))
    mirror.redraw()


def _use_result(current: "Session") -> None:
    object_mode = bpy.context.mode == "OBJECT"
    ready = next((a for a in current.waiting if object_mode or a.asked or a.job.kind != "scene"), None)
    if ready is None:
        _tell(current, IN_OBJECT_MODE)
        return
    tool = running_tool(time.monotonic() - ready.since)
    if tool:
        _tell(current, f"A result has arrived: it is imported as soon as '{tool}' has ended")
        return
    try:
        _import(current, ready)
    finally:
        current.waiting.remove(ready)
        mirror.redraw()


def _import(current: "Session", ready: Arrived) -> None:
    """Run the operator, so that it is one undo step. What goes wrong is in the panel afterwards."""
    place = bpy.ops.diorama.place if ready.job.kind == "scene" else bpy.ops.diorama.place_picture
    before = current.fault
    try:
        place("EXEC_DEFAULT", True, job=ready.job.id, filepath=str(ready.path), select=ready.asked)
    except RuntimeError as error:
        if current.fault is before:  # it did not come to say so itself
            said = str(error).strip().splitlines() or ["Blender gave no reason"]
            what = f"The result could not be imported: {said[-1]}"
            current.fail(BackendError(what, str(ready.path), AGAIN, "import", ready.job.id))


def _tell(current: "Session", notice: str) -> None:
    if mirror.status().notice != notice:
        current.say(notice)
        mirror.redraw()
