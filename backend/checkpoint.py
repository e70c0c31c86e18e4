"""A run's state in one safetensors file, from which it goes on as if it had never stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .errors import RequestError
from .export.files import atomic_write
from .guidance.variational import VariationalScore
from .scene.slots import Scene


def save_checkpoint(
    path: Path,
    scene: Scene,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    pull_norms: Mapping[int, Tensor],
    variational: Mapping[int, VariationalScore],
    step: int,
    request: str,
    rewards: Mapping[str, float],
) -> None:
    """Write everything the next step depends on. `request` is the effective request as JSON. Raises OutputError.

    rewards: the last score of each question or candidate (Step.rewards). pull_norms: by slot, what they are measured
    against (Objective.pull_norms). variational: by slot, for VSD.
    """
    tensors = {f"scene.{key}": value.detach().cpu().contiguous() for key, value in scene.state_dict().items()}
    tensors |= _moments(optimizer, "optimizer")
    for index, score in variational.items():
        tensors |= {f"lora.{index}.{key}": value.cpu().contiguous() for key, value in score.tensors().items()}
        tensors |= _moments(score.optimizer, f"lora_optimizer.{index}")
    tensors |= {f"pull_norm.{index}": norm.detach().cpu() for index, norm in pull_norms.items()}
    tensors["generator"] = generator.get_state()
    with atomic_write(path) as file:
        metadata = {"step": str(step), "request": request, "rewards": json.dumps(dict(rewards))}
        file.write(save(tensors, metadata=metadata))


def _moments(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """What an optimiser remembers of each parameter, by name."""
    state = optimizer.state_dict()["state"]
    return {f"{prefix}.{i}.{key}": torch.as_tensor(v).cpu() for i, one in state.items() for key, v in one.items()}


class Checkpoint:
    """A checkpoint that was read; `restore` puts it into a freshly made scene and optimiser of the same request."""

    def __init__(self, path: Path) -> None:
        """Raises RequestError when the file is missing or damaged; so does each `restore` when it does not fit."""
        self.path = path
        with self._usable():
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                # Copies: a mapped file could not be replaced by the next checkpoint on Windows.
                self._tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
            self.step = int(metadata["step"])
            self.request: dict = json.loads(metadata["request"])
            self.rewards: dict[str, float] = json.loads(metadata.get("rewards", "{}"))

    def restore_scene(self, scene: Scene) -> None:
        """Put shapes, colours and placements back, on the grid they were saved on."""
        with self._usable():
            scene.load_state_dict(self._part("scene."))

    def restore_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Put the optimiser's moments back; to be called after restore_scene, with an optimiser of its parameters."""
        with self._usable():
            self._restore_moments(optimizer, "optimizer.")

    def restore_variational(self, scores: Mapping[int, VariationalScore]) -> None:
        """Put what VSD's scores have learnt, and their optimisers' moments, back."""
        with self._usable():
            for index, score in scores.items():
                score.restore(self._part(f"lora.{index}."))
                self._restore_moments(score.optimizer, f"lora_optimizer.{index}.")

    def pull_norms(self, device: torch.device) -> dict[int, Tensor]:
        """What was saved under this name."""
        with self._usable():
            return {int(index): norm.to(device) for index, norm in self._part("pull_norm.").items()}

    def restore_generator(self, generator: torch.Generator) -> None:
        """Put the random generator back to where it was."""
        with self._usable():
            generator.set_state(self._tensors["generator"])

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, SafetensorError, RuntimeError, LookupError, ValueError, TypeError) as error:
            raise RequestError(
                f"no usable checkpoint ({error})", where=str(self.path), remedy="Start the run anew, without --resume"
            ) from error

    def _restore_moments(self, optimizer: torch.optim.Optimizer, prefix: str) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in self._part(prefix).items():
            index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

    def _part(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in self._tensors.items() if key.startswith(prefix)}
