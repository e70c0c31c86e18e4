"""RewardSDS and RewardVSD for views of an object (arXiv 2503.09601, in 3D): critics.prior_pull with candidates."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..render.cameras import Cameras, pose_vectors
from ..schema import Settings
from .candidates import Weighing, candidate_weights, score_candidates
from .critics import Pull, distance_to, draw_timestep
from .diffusion import DiffusionPrior
from .distillation import add_noise, guide, reconstruct, score_losses
from .rewards import Reward
from .variational import VariationalScore


class Exploration(NamedTuple):
    """How candidates are made and weighed."""

    weighing: Weighing
    candidates: int = 4  # noises, each for all views
    steps: int = 8  # of the whole DDIM schedule
    guidance_scale: float = 7.5  # while exploring
    batch: int = 32  # samples in one network call, conditional and unconditional counted; one candidate at least


def rewarded_pull(
    prior: DiffusionPrior,
    pictures: Tensor,
    text: tuple[Tensor, Tensor],
    cameras: Cameras,
    settings: Settings,
    progress: float,
    generator: torch.Generator,
    exploration: Exploration,
    reward: Reward,
    prompt: str,
    variational: VariationalScore | None = None,
) -> tuple[Pull, Tensor]:
    """What prior_pull gives, but the weighted sum over candidates; and the candidates' scores (N,).

    The first arguments are prior_pull's; with one candidate and the strategy "none" so is the result. A candidate is
    one noise for each view, all at one t; the reward sees all views it leads to. variational: takes the place of the
    reconstruction loss by VSD's; to call its `learn` after the step is up to the caller.
    """
    leaf = pictures.detach().requires_grad_()
    latents = prior.encode(leaf)
    views, count = len(latents), exploration.candidates
    t = draw_timestep(prior, settings, progress, generator)
    noise = torch.randn((count, *latents.shape), generator=generator).to(latents.device)
    alpha_bar = prior.alphas_cumprod[t].expand(views)
    noisy = torch.stack([add_noise(latents.detach(), one, alpha_bar) for one in noise])
    poses = pose_vectors(cameras, torch.zeros(3, device=latents.device))
    denoiser = _Views(prior, text, poses, exploration)
    weights, scores = torch.ones(1, device=latents.device), torch.zeros(1, device=latents.device)
    if count > 1:
        scores = score_candidates(
            noisy, t, denoiser.guided, prior.alphas_cumprod, exploration.steps, prior.decode, reward, prompt
        )
        weights = candidate_weights(scores, exploration.weighing)
    conditional, unconditional = (x.unflatten(0, (count, views)) for x in denoiser.both(noisy.flatten(0, 1), t))
    losses = []
    for i in range(count):
        if variational:
            own = variational.predict_noise(noisy[i], torch.full((views,), t, device=noisy.device), text[0], poses)
            predicted = guide(conditional[i], unconditional[i], settings.guidance_scale)
            losses.append(settings.latent_weight * score_losses(latents, predicted, own, alpha_bar).mean())
        else:
            scale, rescale = settings.guidance_scale, settings.guidance_rescale
            target = reconstruct(noisy[i], conditional[i], unconditional[i], alpha_bar, scale, rescale)
            losses.append(distance_to(target, leaf, latents, prior, settings))
    loss = (weights * torch.stack(losses)).sum()
    return Pull(loss.detach(), torch.autograd.grad(loss, leaf)[0]), scores


class _Views:
    """The prior's noise for candidates of V views each, (N V, c, h, w), a few candidates a call."""

    def __init__(
        self, prior: DiffusionPrior, text: tuple[Tensor, Tensor], poses: Tensor, exploration: Exploration
    ) -> None:
        self.prior, self.text, self.poses, self.scale = prior, text, poses, exploration.guidance_scale
        self.at_once = max(1, exploration.batch // (2 * len(poses))) * len(poses)

    def guided(self, noisy: Tensor, t: int) -> Tensor:
        return guide(*self.both(noisy, t), self.scale)

    def both(self, noisy: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """The noise for the prompt and for the negative prompt."""
        sides: tuple[list[Tensor], list[Tensor]] = ([], [])
        for part in noisy.split(self.at_once):
            copies = len(part) // len(self.poses)
            words = torch.cat([side.repeat(copies, 1, 1) for side in self.text])
            times = torch.full((2 * len(part),), t, device=noisy.device)
            poses = self.poses.repeat(2 * copies, 1)
            predicted = self.prior.predict_noise(part.repeat(2, 1, 1, 1), times, words, poses)
            for side, values in zip(sides, predicted.chunk(2), strict=True):
                side.append(values)
        return torch.cat(sides[0]), torch.cat(sides[1])
