"""Trainings that can be stopped and gone on with: everything needed lies in one folder, written atomically."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

STATE = "training.pt"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values so that a reader sees the old state or the new one, never half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{STATE}.part"
    torch.save(state, temporary)
    os.replace(temporary, folder / STATE)


def load_state(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The saved state, or None when there is none."""
    path = folder / STATE
    return torch.load(path, map_location=device, weights_only=True) if path.is_file() else None


def log_line(folder: Path, row: dict[str, Any]) -> None:
    """Print one line of the training log and append it to `log.jsonl`."""
    line = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()})
    print(line, flush=True)
    with open(folder / "log.jsonl", "a") as log:
        log.write(line + "\n")
