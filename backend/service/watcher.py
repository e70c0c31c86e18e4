"""What the worker does after each step of any job: tell, take a picture, stop when told to, keep the last state."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ..export.files import jsonable
from ..progress import ProgressBar, Step
from .folder import CHECKPOINT, PREVIEW
from .preview import write_preview

Tell = Callable[..., None]
TELL_S = 0.25  # between two messages of progress
PREVIEW_S = 1.0  # between two pictures


class Stopped(Exception):
    """The job was told to stop."""


class _Done(NamedTuple):
    """The step of a run that is resumed after its last one."""

    step: int
    steps: int
    losses: dict[str, float]
    rewards: dict[str, float]
    seconds_left: float


class Watcher:
    """Follows one job."""

    def __init__(self, folder: Path, why_stop: Callable[[], str | None], tell: Tell) -> None:
        self._folder, self._why_stop, self._tell = folder, why_stop, tell
        self._bar = ProgressBar(sys.stderr)
        self._told = self._pictured = -math.inf
        self._preview = int(time.time())  # goes on growing when a job is resumed

    def on_step(self, step: Step, pictures: Callable[[], Tensor], save: Callable[[Path], None] | None = None) -> None:
        """Raises Stopped.

        pictures: gives (B, H, W, 3) sRGB in [0, 1], what is made so far. save: writes a checkpoint; None where jobs of
        this kind have none.
        """
        self._bar.show(step)
        last, now = step.step == step.steps, time.monotonic()
        if not last and self._why_stop():
            try:
                if save:
                    save(self._folder / CHECKPOINT)
            finally:  # on a full disk the last checkpoint has to do
                self.stop_if_told()
        if last or now - self._pictured >= PREVIEW_S:
            self._pictured = now
            self._preview += write_preview(pictures(), self._folder / PREVIEW)
        if last or now - self._told >= TELL_S:
            self._told = now
            self._tell("progress", progress=jsonable(self._progress(step, last)))

    def on_part(self, done: int, rewards: dict[str, float]) -> None:
        """Before each part of a result. Raises Stopped.

        done, rewards: where the run began; told where it had no step left to do, as nothing was then.
        """
        if self._told == -math.inf:
            self._told = time.monotonic()
            self._tell("progress", progress=jsonable(self._progress(_Done(done, done, {}, rewards, 0.0), True)))
        self.stop_if_told()

    def say(self, text: str) -> None:
        """A line for the log, and for who follows the job."""
        print(text, file=sys.stderr, flush=True)
        self._tell("log", text=text)

    def warn(self, text: str) -> None:
        print(f"warning: {text}", file=sys.stderr, flush=True)
        self._tell("warning", text=text)

    def stop_if_told(self) -> None:
        """Raises Stopped, with the reason."""
        if why := self._why_stop():
            raise Stopped(why)

    def _progress(self, step: Step, last: bool) -> dict[str, Any]:
        return {
            "step": step.step,
            "steps": step.steps,
            "losses": step.losses,
            "rewards": step.rewards,
            "seconds_left": step.seconds_left,
            "preview": self._preview,
            "phase": "exporting" if last else "optimising",
        }
