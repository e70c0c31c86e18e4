"""Less memory for the same numbers: work done in chunks, and networks that wait elsewhere while another one works."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def in_chunks(function: Callable[[Tensor], Tensor], batch: Tensor, at_once: int) -> Tensor:
    """function(batch), computed for `at_once` rows at a time; 0: for all.

    Only one chunk's activations are held at a time: the backward pass computes each chunk again (arXiv 1604.06174),
    which costs one forward pass more. The function must treat its rows alone.
    """
    if not at_once:
        return function(batch)
    kept = torch.is_grad_enabled() and batch.requires_grad
    run = (lambda rows: checkpoint(function, rows, use_reentrant=False)) if kept else function
    return torch.cat([run(rows) for rows in batch.split(at_once)])


class Turns:
    """Groups of networks of which one is on the device; the others wait in the CPU's memory.

    What is computed must not lean on a group's weights once another group has had its turn: a gradient is taken before.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.at_work = device, -1
        self.groups: list[Sequence[nn.Module]] = []

    def add(self, networks: Sequence[nn.Module]) -> Callable[[], None]:
        """What to call before each use of these networks. They wait until then."""
        index = len(self.groups)
        self.groups.append(networks)
        _move(networks, torch.device("cpu"))
        return lambda: self._take(index)

    def _take(self, index: int) -> None:
        if index == self.at_work:
            return
        if self.at_work >= 0:
            _move(self.groups[self.at_work], torch.device("cpu"))
        _move(self.groups[index], self.device)
        self.at_work = index


def ready() -> None:
    """What a network that never waits calls before it is used."""


def _move(networks: Sequence[nn.Module], device: torch.device) -> None:
    for network in networks:
        network.to(device)
