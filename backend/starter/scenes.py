"""The written pictures, read back for training and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .lessons import Facts, facts_of

VIEWS = 2  # pictures in a message


class Scenes(NamedTuple):
    """One kind of scenes: pictures in memory, and what is known of them."""

    images: np.ndarray  # (N, V, H, W, 3) uint8
    cells: np.ndarray  # (N, V, CELLS, CELLS) uint8
    boxes: np.ndarray  # (N, V, K, 4) float32
    facts: Facts


def load_scenes(folders: list[Path], kind: str) -> Scenes:
    """All scenes of a kind ("singles" or "pairs") in the folders."""
    parts = [dict(np.load(folder / f"{kind}.npz")) for folder in folders if (folder / f"{kind}.npz").is_file()]
    scenes = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return Scenes(scenes["images"], scenes["cells"], scenes["boxes"], facts_of(scenes))


def pictures(scenes: Scenes, rows: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """Two views of each scene, (B, 2, H, W, 3) in [0, 1], and which: pairs as they are, singles any two."""
    if scenes.images.shape[1] == VIEWS:
        chosen = np.tile(np.arange(VIEWS), (len(rows), 1))
    else:
        first = rng.integers(4, size=len(rows))
        chosen = np.stack([first, (first + rng.integers(1, 4, size=len(rows))) % 4], 1)
    return torch.from_numpy(scenes.images[rows[:, None], chosen]).float() / 255, chosen
