"""The session from register() to unregister(): a timer turns the network thread's messages into properties."""

import queue
import time
import traceback
from typing import Any

import bpy
from bpy.app.handlers import persistent

from . import mirror
from .arrivals import use_arrived
from .heard import HANDLERS, WAITS
from .messages import BackendError
from .session import Session
from .slots import forget_slots

BUSY_S, IDLE_S = 0.1, 0.5  # between two looks at the messages
BUDGET_S = 0.005  # for the messages of one look
CLOSE_S = 5.0  # for the thread to end when the add-on is switched off

_session: Session | None = None  # Blender's timers, handlers and panels have no other way to find it


def session() -> Session:
    """The running session; there is one from register() to unregister()."""
    assert _session is not None
    return _session


def start() -> None:
    """Begin the session; called by register()."""
    global _session
    _session = Session()
    bpy.app.timers.register(_timer, first_interval=IDLE_S, persistent=True)
    bpy.app.handlers.load_post.append(_file_loaded)


def stop() -> None:
    """End it, with its thread, timer, handler and backend; called by unregister()."""
    global _session
    if bpy.app.timers.is_registered(_timer):
        bpy.app.timers.unregister(_timer)
    if _file_loaded in bpy.app.handlers.load_post:
        bpy.app.handlers.load_post.remove(_file_loaded)
    if _session is not None:
        _session.network.close(CLOSE_S)
        if _session.local is not None:
            _session.local.leave()
        _session.pictures.close()
        _session = None


def settings_changed() -> None:
    """The user chose another backend: see whether it runs."""
    if _session is not None:
        _session.clear_fault()
        _session.vocabulary.clear()
        _session.asked.clear()
        _session.ask("adopt")
        _session.want_words()


@persistent
def _file_loaded(*_: Any) -> None:
    """A file has no state of the run in it: show it anew. Its own scenes say which results belong to it."""
    forget_slots()
    if _session is not None:
        _session.origins.clear()
        _session.sender = _session.reading = _session.read = None
        _session.left |= _session.wanted
        _session.wanted.clear()
        here = [a for a in _session.waiting if not a.asked and _session.scene_of(a.job) is not None]
        left, _session.waiting = len(here) < len(_session.waiting), here
        mirror.show_all(_session)
        if left:
            _session.say(WAITS)


def _timer() -> float | None:
    if _session is None:
        return None
    try:
        if not _session.begun:
            _session.begun = True
            settings_changed()
        changed = drain(_session, BUDGET_S)
        if time.monotonic() >= _session.words_due and _session.backend["state"] == "ready":
            _session.want_words()
        use_arrived(_session)
    except Exception as error:  # a timer that raises is never called again
        traceback.print_exc()
        _session.fail(BackendError(f"The add-on met a fault of its own: {error}", "", "Please report it", "log"))
        changed = True
    if changed:
        mirror.redraw()
    return BUSY_S if changed or _session.busy() else IDLE_S


def drain(current: Session, budget_s: float) -> bool:
    """True when there were messages; those that take longer than the budget wait for the next look."""
    started, any_message = time.perf_counter(), False
    while time.perf_counter() - started < budget_s:
        try:
            message = current.network.messages.get_nowait()
        except queue.Empty:
            break
        any_message = True
        HANDLERS[message.kind](current, message.data)
    return any_message
