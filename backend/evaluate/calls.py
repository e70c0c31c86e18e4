"""How often the frozen networks are run forward: counted by hooks on the networks themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..guidance.models import Models

Counts = dict[str, dict[str, int]]  # network -> {"forwards", "samples"}


@contextmanager
def counted(models: Models) -> Iterator[Counts]:
    """Counts of the networks' forward passes in the block, and of what passed through them.

    Samples are pictures or latents; of the language part, questions in messages. A forward that is made again for the
    gradient (see guidance.memory) counts again. VSD's LoRA denoiser is a copy of the prior's, made in the block, and
    counts with it.
    """
    vlm = models.vlm.network.model
    networks: dict[str, tuple[nn.Module, Callable[[tuple, dict], int]]] = {
        "denoiser": (models.prior.unet, _rows),
        "encoder": (models.prior.vae.encoder, _rows),
        "decoder": (models.prior.vae.decoder, _rows),
        "vision": (vlm.visual, lambda args, kwargs: len(kwargs["grid_thw"])),
        "language": (
            models.vlm.network,
            lambda args, kwargs: len(kwargs["input_ids"]) * len(kwargs["logits_to_keep"]),
        ),
    }
    counts: Counts = {name: {"forwards": 0, "samples": 0} for name in networks}
    handles = [
        network.register_forward_pre_hook(_hook(counts[name], samples), with_kwargs=True)
        for name, (network, samples) in networks.items()
    ]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def _rows(args: tuple, kwargs: dict[str, Any]) -> int:
    """Rows of the batch, which comes as the first argument."""
    return len(args[0])


def _hook(count: dict[str, int], samples: Callable[[tuple, dict], int]) -> Callable[..., None]:
    """A plain function: it stays the same one in a deep copy of its network, and goes on counting."""

    def before(network: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        count["forwards"] += 1
        count["samples"] += samples(args, kwargs)

    return before
