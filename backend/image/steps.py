"""What the loops of the 2D tasks share: the timestep, the guided denoiser, the noises and what they are worth."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import OptimisationError
from ..guidance.candidates import chosen, explores, score_candidates
from ..guidance.diffusion import DiffusionPrior
from ..guidance.distillation import add_noise, guide
from ..guidance.rewards import Reward
from ..render.cameras import orbit, pose_vectors
from ..schedules import annealed
from .request import ImageSettings


class Step(NamedTuple):
    """What the caller is told after each step."""

    step: int  # steps done
    steps: int  # steps in all
    losses: dict[str, float]  # "prior": half the squared pull on the latents; "score": of the last candidates, mean
    rewards: dict[str, float]  # the VLM's log-odds for the last candidates, "best" and "mean"; empty for other rewards
    seconds_left: float
    picture: Callable[[], Tensor]  # gives the picture so far, (1, H, W, 3) sRGB in [0, 1]; costs a pass of the decoder


OnStep = Callable[[Step], None]


class Noises(NamedTuple):
    """The N noises of a step: one, or those of its candidates that count, with their weights."""

    noise: Tensor  # (N, c, h, w)
    noisy: Tensor  # (N, c, h, w)
    weights: Tensor  # (N,)
    scores: Tensor | None  # of all candidates, in a step that explores


class Denoiser:
    """The prior's guided noise for one pair of prompts: a function of noisy latents (B, c, h, w) and t."""

    def __init__(self, prior: DiffusionPrior, prompt: str, against: str, scale: float, settings: ImageSettings) -> None:
        self.prior, self.scale = prior, scale
        self.text, self.against = prior.encode_text([prompt]), prior.encode_text([against])
        self.poses = fixed_pose(prior, settings)
        self.batch = settings.batch

    def __call__(self, noisy: Tensor, t: int) -> Tensor:
        return guide(*self.both(noisy, t), self.scale)

    def both(self, noisy: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """The noise for the prompt and the noise for what it is guided away from."""
        parts = [self._both(part, t) for part in noisy.split(self.batch)]
        conditional, unconditional = (torch.cat(side) for side in zip(*parts, strict=True))
        return conditional, unconditional

    def _both(self, noisy: Tensor, t: int) -> tuple[Tensor, ...]:
        count = len(noisy)
        texts = torch.cat([self.text.expand(count, -1, -1), self.against.expand(count, -1, -1)])
        return self._predict(noisy.repeat(2, 1, 1, 1), t, texts).chunk(2)

    def _predict(self, noisy: Tensor, t: int, text: Tensor) -> Tensor:
        times = torch.full((len(noisy),), t, device=noisy.device)
        poses = None if self.poses is None else self.poses.expand(len(noisy), -1)
        return self.prior.predict_noise(noisy, times, text, poses)


def fixed_pose(prior: DiffusionPrior, settings: ImageSettings) -> Tensor | None:
    """The camera (1, 16) a picture is taken from, for a prior that knows cameras."""
    if not prior.knows_cameras:
        return None
    device = prior.unet.device
    azimuth, elevation, one = torch.tensor([[settings.azimuth_deg], [settings.elevation_deg], [1.0]], device=device)
    origin = torch.zeros(3, device=device)
    return pose_vectors(orbit(azimuth, elevation, one, 40 * one, origin), origin)


def draw_timestep(prior: DiffusionPrior, settings: ImageSettings, progress: float, generator: torch.Generator) -> int:
    """A timestep between the settings' bounds, uniformly."""
    high = annealed(settings.annealing, *settings.t_max, progress)
    level = settings.t_min + (high - settings.t_min) * torch.rand((), generator=generator).item()
    return int(level * (len(prior.alphas_cumprod) - 1))


def draw_noises(
    latents: Tensor,
    t: int,
    step: int,
    prior: DiffusionPrior,
    settings: ImageSettings,
    generator: torch.Generator,
    reward: Reward | None,
    explorer: Denoiser,
    prompt: str,
) -> Noises:
    """The noises of this step, and their weights: RewardSDS's exploration where there is a reward, else one noise.

    latents: (1, c, h, w). explorer: the denoiser that shows where a noise leads.
    """
    exploring = reward is not None and explores(step, settings.steps, settings.explore_every, settings.explore_until)
    count = settings.candidates if exploring else 1
    noise = torch.randn((count, *latents.shape[1:]), generator=generator).to(latents.device)
    noisy = add_noise(latents.detach().expand(count, -1, -1, -1), noise, prior.alphas_cumprod[t].expand(count))
    if not exploring or reward is None:
        return Noises(noise, noisy, torch.ones(1, device=latents.device), None)
    scores = score_candidates(
        noisy[:, None], t, explorer, prior.alphas_cumprod, settings.explore_steps, prior.decode, reward, prompt
    )
    rows, weights = chosen(scores, settings.weighing)
    return Noises(noise[rows], noisy[rows], weights, scores)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of the optimiser. Raises OptimisationError when the loss is not finite."""
    if not loss.isfinite():
        raise OptimisationError(
            "the loss 'prior' is not finite", remedy="Lower settings.lr or settings.guidance_scale, or use float32"
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


class Reporter:
    """Tells the caller of each step, with the time left."""

    def __init__(self, prior: DiffusionPrior, settings: ImageSettings, on_step: OnStep) -> None:
        self.prior, self.steps, self.on_step, self.started = prior, settings.steps, on_step, time.monotonic()
        self.log_odds = settings.reward == "vlm"
        self.scores: dict[str, float] = {}

    def tell(self, step: int, losses: Tensor, scores: Tensor | None, latents: Tensor) -> None:
        """After step `step` (counted from 0). losses: (N,) of the noises."""
        if scores is not None:
            self.scores = {"best": scores.max().item(), "mean": scores.mean().item()}
        each = (time.monotonic() - self.started) / (step + 1)
        left = each * (self.steps - step - 1)
        told = {"prior": losses.detach().mean().item()}
        if self.scores:
            told["score"] = self.scores["mean"]
        rewards = self.scores if self.log_odds else {}
        now = latents.detach()
        self.on_step(Step(step + 1, self.steps, told, rewards, left, lambda: self.prior.decode(now)))
