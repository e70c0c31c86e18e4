"""Editing a picture by score distillation: delta denoising and the bridge loss, with RewardSDS's candidates or without.

Both begin at the picture's latents and follow the difference of two predictions, so that what the prompts share stays.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..guidance.diffusion import DiffusionPrior
from ..guidance.distillation import add_noise, guide, score_losses
from ..guidance.rewards import Reward
from .request import ImageRequest, ImageSettings
from .steps import Denoiser, Noises, OnStep, Reporter, descend, draw_noises, draw_timestep


def edit(
    request: ImageRequest,
    settings: ImageSettings,
    picture: Tensor,
    prior: DiffusionPrior,
    reward: Reward | None,
    generator: torch.Generator,
    on_step: OnStep,
) -> Tensor:
    """The latents (1, c, h, w) of the picture (1, H, W, 3), sRGB in [0, 1], changed from request.source to .prompt.

    reward: scores the candidates; None for dds and bridge. An exception from `on_step` ends the run. Raises
    OptimisationError when the loss is not finite.
    """
    with torch.no_grad():
        source = prior.encode(picture).float()
    pair = (_Delta if request.method.endswith("dds") else _Bridge)(request, settings, prior, source)
    explorer = Denoiser(prior, request.prompt, settings.negative_prompt, settings.explore_scale, settings)
    latents = source.clone().requires_grad_()
    optimizer = torch.optim.AdamW([latents], lr=settings.lr, weight_decay=0.0)  # decay would fade what is to stay
    reporter = Reporter(prior, settings, on_step)
    for step in range(settings.steps):
        progress = step / settings.steps
        t = draw_timestep(prior, settings, progress, generator)
        noises = draw_noises(latents, t, step, prior, settings, generator, reward, explorer, request.prompt)
        predicted, baseline = pair.predict(noises, t, progress)
        alpha_bar = prior.alphas_cumprod[t].expand(len(noises.noise))
        losses = score_losses(latents.expand_as(noises.noise), predicted, baseline, alpha_bar, settings.weighting)
        descend(optimizer, (noises.weights * losses).sum())
        reporter.tell(step, losses, noises.scores, latents)
    return latents.detach()


class _Delta:
    """DDS (arXiv 2304.07090): the guided noise of the edited picture for the target prompt, less that of the source
    picture for the source prompt, under the same noise."""

    def __init__(self, request: ImageRequest, settings: ImageSettings, prior: DiffusionPrior, source: Tensor) -> None:
        scale, against = settings.guidance_scale, settings.negative_prompt
        self.target = Denoiser(prior, request.prompt, against, scale, settings)
        self.source = Denoiser(prior, request.source, against, scale, settings)
        self.latents, self.alphas_cumprod = source, prior.alphas_cumprod

    def predict(self, noises: Noises, t: int, progress: float) -> tuple[Tensor, Tensor]:
        alpha_bar = self.alphas_cumprod[t].expand(len(noises.noise))
        noisy_source = add_noise(self.latents.expand_as(noises.noise), noises.noise, alpha_bar)
        return self.target(noises.noisy, t), self.source(noisy_source, t)


class _Bridge:
    """The bridge from the picture's own distribution to the prompt's (arXiv 2406.09417): s (eps_target - eps_source).

    First stage: the source is the source prompt. Second: it is the target prompt with flaws, the distribution that
    distilled pictures come from, which takes the flaws away.
    """

    def __init__(self, request: ImageRequest, settings: ImageSettings, prior: DiffusionPrior, source: Tensor) -> None:
        scale, flawed = settings.guidance_scale, f"{request.prompt}, {settings.flaws}"
        self.stages = [Denoiser(prior, request.prompt, text, scale, settings) for text in (request.source, flawed)]
        self.second_at = settings.bridge_at

    def predict(self, noises: Noises, t: int, progress: float) -> tuple[Tensor, Tensor]:
        stage = self.stages[progress >= self.second_at]
        target, source = stage.both(noises.noisy, t)
        return guide(target, source, stage.scale), source
