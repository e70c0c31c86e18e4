"""Less memory for the same numbers: work done in chunks whose activations are computed again for the gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
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
