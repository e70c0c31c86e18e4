"""Named functions of progress in [0, 1]."""

from __future__ import annotations

import math
from typing import Literal

Annealing = Literal["none", "two stages", "linear", "square root", "cosine"]


def linear(start: float, end: float, progress: float) -> float:
    """From start to end, staying at the end once progress has passed 1."""
    return start + (end - start) * min(max(progress, 0.0), 1.0)


def after(onset: float, progress: float) -> float:
    """0 before the onset, 1 from it on."""
    return 1.0 if progress >= onset else 0.0


def between(start: float, end: float, progress: float) -> float:
    """0 up to start, 1 from end on, a straight line in between; a jump where start is end."""
    if progress >= end:
        return 1.0
    return 0.0 if progress <= start else (progress - start) / (end - start)


def annealed(name: Annealing, start: float, end: float, progress: float) -> float:
    """A noise level on its way from start to end, as papers let timesteps sink.

    none: stays at the start (DreamFusion, arXiv 2209.14988). two stages: jumps half-way (ProlificDreamer, 2305.16213).
    linear: MVDream (2308.16512). square root: falls early (HiFA, 2305.18766, equation 10). cosine: slow
    at both ends.
    """
    at = min(max(progress, 0.0), 1.0)
    share = {"none": 0.0, "two stages": after(0.5, at), "linear": at, "square root": at**0.5}.get(name)
    if share is None:
        assert name == "cosine", name
        share = 0.5 - 0.5 * math.cos(math.pi * at)
    return start + (end - start) * share
