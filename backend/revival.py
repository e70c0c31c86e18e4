"""Bringing back objects whose surface vanished while they were optimised."""

from __future__ import annotations

import torch

from .errors import OptimisationError
from .scene.isosurface import Surface
from .scene.slots import Scene

MAX_REVIVALS = 30  # vanished surfaces brought back in one run before it is given up


class Reviver:
    """Counts the revivals of one run."""

    def __init__(self, names: list[str]) -> None:
        self.names = names  # of the slots
        self.count = 0

    def surfaces(self, scene: Scene, optimizer: torch.optim.Optimizer) -> list[Surface]:
        """Every slot's surface for a training step, vanished ones brought back first and without their momentum.

        Raises OptimisationError when that was needed too often.
        """
        surfaces = scene.surfaces(training=True)
        revived = scene.recover(surfaces)
        if not revived:
            return surfaces
        self.count += len(revived)
        if self.count > MAX_REVIVALS:
            raise OptimisationError(
                "the object keeps vanishing", where=self.names[revived[0]], remedy="Lower lr_geometry, or raise views"
            )
        for index in revived:
            for parameter in scene.model(index).shape.parameters():
                optimizer.state.pop(parameter, None)
        return scene.surfaces(training=True)
