"""Text to image by score distillation: SDS, VSD, RewardSDS, RewardVSD (arXiv 2503.09601, algorithm 1) on one latent."""

from __future__ import annotations

import torch
from torch import Tensor

from ..guidance.diffusion import DiffusionPrior
from ..guidance.distillation import score_losses
from ..guidance.rewards import Reward
from ..guidance.variational import VariationalScore
from .request import ImageRequest, ImageSettings
from .steps import Denoiser, OnStep, Reporter, descend, draw_noises, draw_timestep, fixed_pose


def text_to_image(
    request: ImageRequest,
    settings: ImageSettings,
    prior: DiffusionPrior,
    reward: Reward | None,
    generator: torch.Generator,
    on_step: OnStep,
) -> Tensor:
    """The latents (1, c, h, w) of a picture of the request's prompt, distilled from noise.

    reward: scores the candidates; None for sds and vsd. An exception from `on_step` ends the run. Raises
    OptimisationError when the loss is not finite.
    """
    guided = Denoiser(prior, request.prompt, settings.negative_prompt, settings.guidance_scale, settings)
    explorer = Denoiser(prior, request.prompt, settings.negative_prompt, settings.explore_scale, settings)
    own = _Own(prior, guided, generator, settings) if request.method.endswith("vsd") else None
    size = prior.unet.config.sample_size
    start = torch.randn(1, prior.unet.config.in_channels, size, size, generator=generator)
    latents = start.to(prior.unet.device).requires_grad_()
    optimizer = torch.optim.AdamW([latents], lr=settings.lr)
    reporter = Reporter(prior, settings, on_step)
    for step in range(settings.steps):
        t = draw_timestep(prior, settings, step / settings.steps, generator)
        noises = draw_noises(latents, t, step, prior, settings, generator, reward, explorer, request.prompt)
        predicted = guided(noises.noisy, t)
        baseline = own.predict(noises.noisy, t) if own else noises.noise
        alpha_bar = prior.alphas_cumprod[t].expand(len(noises.noise))
        losses = score_losses(
            latents.expand_as(noises.noise), predicted, baseline, alpha_bar, settings.weighting
        )  # SDS: w(t) (eps_prior - eps); VSD: w(t) (eps_prior - eps_own)
        descend(optimizer, (noises.weights * losses).sum())
        if own:
            own.learn(latents)
        reporter.tell(step, losses, noises.scores, latents)
    return latents.detach()


class _Own:
    """The variational score of the picture in the making, for its one prompt and camera."""

    def __init__(
        self, prior: DiffusionPrior, guided: Denoiser, generator: torch.Generator, settings: ImageSettings
    ) -> None:
        self.score = VariationalScore(
            prior, generator, rank=settings.lora_rank, lr=settings.lora_lr, drop=settings.lora_drop
        )
        self.text, self.empty = guided.text, prior.encode_text([""])
        self.poses = fixed_pose(prior, settings)
        self.batch = settings.batch

    def predict(self, noisy: Tensor, t: int) -> Tensor:
        return torch.cat([self._predict(part, t) for part in noisy.split(self.batch)])

    def _predict(self, noisy: Tensor, t: int) -> Tensor:
        count = len(noisy)
        times = torch.full((count,), t, device=noisy.device)
        poses = None if self.poses is None else self.poses.expand(count, -1)
        return self.score.predict_noise(noisy, times, self.text.expand(count, -1, -1), poses)

    def learn(self, latents: Tensor) -> None:
        self.score.learn(latents, self.text, self.empty, self.poses)
