"""Which device a run uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .errors import RequestError


def choose_device(name: str) -> torch.device:
    """The named device; "auto" takes CUDA where it is there, else the CPU. Raises RequestError when it is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if there["cuda"] else "cpu")
    if not there.get(name, False):
        raise RequestError(
            f"there is no {name!r} device here",
            where="--device",
            remedy=f"Devices here: {', '.join(n for n in there if there[n])}. `python -m backend doctor` says more",
        )
    return torch.device(name)


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Inside, a CPU computes the same numbers again, given the same number of threads.

    Without it the threads add gradients to the same vertex in the order in which they come. On other devices nothing
    changes: there not every operation has a repeatable form, and those that do are slower.
    """
    before = torch.get_deterministic_debug_mode()
    if device.type == "cpu" and before == 0:
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
