"""A table of what a step of each preset costs on a GPU: seconds and peak memory, for its ways of score distillation.

python -m tests.bench.presets [STEPS]

Networks have the real sizes and random weights; grids are at their final resolution. docs/performance.md keeps it.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch

from backend.generate import Step, generate
from backend.guidance.models import Models, network_dtype
from backend.out_of_memory import is_memory_error
from backend.presets import settings_for
from backend.schema import Settings, read_request
from tests.real_networks import real_prior, real_vlm

PRESETS = ("draft", "standard", "paper")
WAYS = {
    "SDS + VLM": {},
    "SDS + VLM, networks take turns": {"offload_idle": True},
    "VSD + VLM": {"distillation": "vsd"},
    "RewardSDS + VLM": {"strategy": "min-max"},
}
STEPS = 12
WARM_UP = 3  # steps that are not counted: memory is taken, kernels are chosen
REQUEST = {"slots": [{"name": "cube", "prompt": "a red cube"}]}


class Cost(NamedTuple):
    """Of one step."""

    seconds: float  # the median
    peak_gib: float | None  # of GPU memory, all networks and the scene counted; None on the CPU


def timed(preset: str, way: dict, steps: int) -> Settings:
    """The preset's settings for a short run in which every step does all that a step of a long one can do.

    The reward neither waits nor fades: that a preset asks the VLM in a part of its steps is no part of what one costs.
    """
    always = {"reward_from": 0.0, "reward_fade": (1.0, 1.0), "explore_until": 1.0}
    settings = settings_for(preset, {**way, "steps": steps, **always})
    return settings.model_copy(update={"resolution": settings.final_resolution})


def cost(settings: Settings, models: Models, device: torch.device) -> Cost:
    """What a step of a run of one object costs. The run must have more than WARM_UP + 1 steps."""
    told: list[float] = []

    def on_step(step: Step) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        told.append(time.perf_counter())

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as folder:
        generate(read_request(REQUEST), settings, models, device, on_step, Path(folder) / "checkpoint.safetensors")
    seconds = [after - before for before, after in itertools.pairwise(told)][WARM_UP:]
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return Cost(statistics.median(seconds), peak)


def models_of(settings: Settings, device: torch.device) -> Models:
    """The preset's networks in their real sizes, untrained, set up as for a run."""
    prior = real_prior(settings.prior, device, network_dtype(settings.network_dtype, device))
    return Models(prior, real_vlm(settings.vlm, device, settings.vlm_px)).set_up(settings, device)


def row(preset: str, way: str, settings: Settings, found: Cost) -> str:
    """One line of the table, in Markdown."""
    memory = "-" if found.peak_gib is None else f"{found.peak_gib:.1f}"
    sizes = f"{settings.views} x {settings.final_resolution}"
    return f"| {preset} | {settings.prior} + {settings.vlm} | {way} | {sizes} | {found.seconds:.2f} | {memory} |"


def measured(preset: str, way: str, steps: int, device: torch.device) -> str:
    """The line of a preset and one of WAYS; it says so where the networks or the run do not fit."""
    settings = timed(preset, WAYS[way], steps)
    try:
        return row(preset, way, settings, cost(settings, models_of(settings, device), device))
    except (RuntimeError, MemoryError) as error:
        if not is_memory_error(error):
            raise
    return f"| {preset} | {settings.prior} + {settings.vlm} | {way} | | | too little memory |"


def main(steps: int) -> None:
    """Prints the table."""
    if not torch.cuda.is_available():
        print("presets: not measured, there is no GPU here")
        return
    device = torch.device("cuda")
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, {steps - WARM_UP - 1} steps each\n")
    print("| preset | networks | way | views x grid | seconds a step | peak GiB |\n|---|---|---|---|---|---|")
    for preset in PRESETS:
        for way in WAYS:
            torch.manual_seed(0)
            print(measured(preset, way, steps, device), flush=True)
            torch.cuda.empty_cache()  # the networks are gone with the call, their memory is kept


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else STEPS)
