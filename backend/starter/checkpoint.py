"""Trainings that can be stopped and gone on with: everything needed lies in one folder, written atomically."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

STATE = "training.pt"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values so that a reader sees the old state or the new one, never half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{STATE}.part"
    torch.save(state, temporary)
    os.replace(temporary, folder / STATE)


def resume(folder: Path, device: torch.device, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the state in `folder`, if there is one, and return the step to go on from."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / STATE).is_file():
        return 0
    state = torch.load(folder / STATE, map_location=device, weights_only=True)
    module.load_state_dict(state["modules"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def log_line(folder: Path, row: dict[str, Any]) -> None:
    """Print one line of the training log and append it to `log.jsonl`."""
    line = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()})
    print(line, flush=True)
    with open(folder / "log.jsonl", "a") as log:
        log.write(line + "\n")


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 100 steps, then a cosine down to a fiftieth."""
    if step < 100:
        return peak * (step + 1) / 100
    return peak * (0.02 + 0.49 * (1 + math.cos(math.pi * min(1.0, (step - 100) / max(1, steps - 100)))))


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set every group's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def take_over(module: nn.Module, trained: nn.Module) -> None:
    """Copy the trained weights of the same name and shape; what has another shape keeps its fresh start."""
    own, given = module.state_dict(), trained.state_dict()
    module.load_state_dict({**own, **{k: v for k, v in given.items() if k in own and v.shape == own[k].shape}})
