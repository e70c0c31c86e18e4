"""Score distillation of a run's objects, by its settings: which noises, which score, and what is learnt on the way."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..schema import Settings
from .candidates import explores
from .diffusion import DiffusionPrior
from .rewards import Reward
from .score_pull import Distilled, Exploration, score_pull
from .variational import VariationalScore
from .view_denoiser import Condition, ViewDenoiser


class Distiller:
    """The prior, and for VSD a variational score of each object, which learns from that object's views."""

    def __init__(
        self,
        prior: DiffusionPrior,
        settings: Settings,
        objects: Sequence[int],
        reward: Reward,
        generator: torch.Generator,
    ) -> None:
        """objects: the indices of those that change. reward: of all views of an object, for the candidates."""
        self.prior, self.settings, self.reward, self.generator = prior, settings, reward, generator
        self.own: dict[int, VariationalScore] = {}
        if settings.distillation == "vsd":
            rank, lr, drop = settings.lora_rank, settings.lora_lr, settings.lora_drop
            self.own = {i: VariationalScore(prior, generator, rank=rank, lr=lr, drop=drop) for i in objects}
            self._empty = prior.encode_text([""])

    def pull(
        self, index: int, pictures: Tensor, prompt: str, condition: Condition, progress: float
    ) -> tuple[Distilled, Tensor | None]:
        """The pull on pictures (V, H, W, 3) of an object, and the loss of its variational score, where it has one.

        That score takes its optimiser's steps here, on the same pictures (ProlificDreamer, arXiv 2305.16213,
        algorithm 1).
        """
        own = self.own.get(index)
        distilled = score_pull(
            ViewDenoiser(self.prior, condition, self.settings.denoise_at_once),
            pictures,
            self.settings,
            progress,
            self.generator,
            own,
            self._exploration(prompt, progress),
        )
        loss = None
        if own:
            for _ in range(self.settings.lora_steps):
                loss = own.learn(distilled.latents, condition.text, self._empty, condition.poses)
        return distilled, loss

    def _exploration(self, prompt: str, progress: float) -> Exploration | None:
        """RewardSDS's candidates, in a step that has some."""
        s = self.settings
        step = int(progress * s.steps + 1e-6)  # of this object
        if s.strategy == "none" or not explores(step, s.steps, s.explore_every, s.explore_until):
            return None
        return Exploration(s.weighing, s.candidates, s.explore_steps, s.explore_scale, self.reward, prompt)
