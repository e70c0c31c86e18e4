"""One job in the worker: the way of its kind is taken, and however that ends, it is told."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from ..export.files import check_writable
from ..out_of_memory import explain_memory, is_memory_error
from .errors import as_body
from .folder import LOG
from .kinds import kind_of
from .loaded import Loaded
from .requests import KindName
from .run_picture import advise_picture, run_picture
from .run_scene import advise_scene, run_scene
from .task import Task, read_task
from .watcher import Stopped, Tell, Watcher


class Way(NamedTuple):
    """How jobs of a kind are done."""

    run: Callable[[Task, Loaded, Watcher], dict[str, Any]]  # gives what is told of the result
    advise: Callable[[dict[str, Any], float], str]  # what would fit into a share of the memory the request needed


WAYS: dict[KindName, Way] = {
    "scene": Way(run_scene, advise_scene),
    "image": Way(run_picture, advise_picture),
    "edit": Way(run_picture, advise_picture),
}


def run_job(message: dict[str, Any], loaded: Loaded, stops: dict[str, str], tell: Tell) -> None:
    """Run the job of the message to its end, and tell what became of it."""
    task = read_task(message)

    def tell_of_job(kind: str, **what: Any) -> None:
        tell(kind, job=task.job, **what)

    try:
        with _log_to(task.folder / LOG):
            kind, what = _outcome(task, loaded, lambda: stops.get(task.job), tell_of_job)
    except Exception as error:  # the log itself cannot be written
        kind, what = "failed", as_body(_fault(error))
    gc.collect()
    tell_of_job(kind, **what)


def _outcome(task: Task, loaded: Loaded, why_stop: Callable[[], str | None], tell: Tell) -> tuple[str, dict[str, Any]]:
    """The last message about the job: its kind and content. Everything that goes wrong ends here."""
    try:
        check_writable(task.folder)
        return "done", WAYS[kind_of(task.request)].run(task, loaded, Watcher(task.folder, why_stop, tell))
    except Stopped as stop:
        return "cancelled" if str(stop) == "cancel" else "interrupted", {}
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return "failed", as_body(error)
    except Exception as error:
        traceback.print_exc()
        if not is_memory_error(error):
            return "failed", as_body(_fault(error))
        way = WAYS[kind_of(task.request)]
        fault = explain_memory(error, lambda share: way.advise(task.request, share), loaded.device)
        error.__traceback__ = None  # it holds the tensors
        loaded.free()
        return "failed", as_body(fault)


def _fault(error: Exception) -> UserError:
    remedy = "This is a fault of the program: please report it with the job's log"
    return UserError(f"{type(error).__name__}: {error}", where="worker", remedy=remedy)


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
