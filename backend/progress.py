"""How far a run is: what a step tells, and the progress bar that shows it."""

from __future__ import annotations

import math
import time
from typing import Protocol, TextIO

WIDTH = 24  # characters of the bar
EVERY_S = 10.0  # between two lines where the output is no terminal


class Step(Protocol):
    """What runs of all kinds tell after a step: generate.Step as image.steps.Step."""

    @property
    def step(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def losses(self) -> dict[str, float]: ...
    @property
    def rewards(self) -> dict[str, float]: ...
    @property
    def seconds_left(self) -> float: ...


class ProgressBar:
    """Step, losses, reward and time left: one line that is rewritten, or a line now and then in a log file."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.live = stream.isatty()
        self.last = -math.inf  # when a line was printed

    def show(self, step: Step) -> None:
        """Print how far the run is."""
        now = time.monotonic()
        if not self.live and step.step != step.steps and now - self.last < EVERY_S:
            return
        self.last = now
        line = describe(step)
        self.stream.write(f"\r{line}\x1b[K" if self.live else f"{line}\n")
        self.stream.flush()

    def close(self) -> None:
        """Leave the line, if one was begun."""
        if self.live and self.last > -math.inf:
            self.stream.write("\n")
            self.stream.flush()


def describe(step: Step) -> str:
    """Such as `[#####-----]  50/100  prior 3.10  relation 0.00  reward 71 %  0:42 left`."""
    full = round(WIDTH * step.step / step.steps)
    shown = [f"{name} {step.losses[name]:.2f}" for name in ("prior", "relation") if name in step.losses]
    if step.rewards:
        yes = [probability(reward) for reward in step.rewards.values()]
        shown.append(f"reward {100 * sum(yes) / len(yes):.0f} %")
    minutes, seconds = divmod(round(step.seconds_left), 60)
    bar = "#" * full + "-" * (WIDTH - full)
    shown.append(f"{minutes}:{seconds:02d} left" if step.step < step.steps else "writing the result")
    return f"[{bar}] {step.step}/{step.steps}  {'  '.join(shown)}"


def probability(log_odds: float) -> float:
    """Of Yes, where these are its log-odds."""
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, log_odds))))
