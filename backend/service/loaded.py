"""The networks of the worker's last job, which the next one mostly needs too."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

import torch

Models = TypeVar("Models")


class Loaded:
    """Holds one set of networks at a time: two at once might not fit."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._key: Hashable = None
        self._models: object = None

    def get(self, key: Hashable, load: Callable[[], Models]) -> Models:
        """What `load` gives, or gave when it was called for the same key. Raises what it raises."""
        if self._models is None or key != self._key:
            self.free()
            self._models, self._key = load(), key
        return cast(Models, self._models)

    def free(self) -> bool:
        """Whether there was something to free."""
        there = self._models is not None
        self._models = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return there
