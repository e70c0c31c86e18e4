"""Which device a run uses."""

from __future__ import annotations

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
