"""One step of score distillation on views of an object: SDS, VSD, RewardSDS and RewardVSD, as one loss.

MVDream's x0 form (arXiv 2308.16512): the pictures are drawn to where the prior's guided noise would have them. SDS
measures that from the noise that was added, VSD (arXiv 2305.16213, equation 9) from the noise that the variational
score predicts. Other weights of the noise levels, such as DreamFusion's (arXiv 2209.14988), move that target.
RewardSDS and RewardVSD (arXiv 2503.09601) sum over several noises, weighed by what each leads to.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..schedules import annealed
from ..schema import Settings
from ..weighing import Weighing
from .candidates import chosen, score_candidates
from .critics import Pull
from .diffusion import DiffusionPrior
from .distillation import add_noise, clean_latents, reconstruct, reconstruction_loss, weighted_target
from .rewards import Reward
from .variational import VariationalScore
from .view_denoiser import ViewDenoiser


class Exploration(NamedTuple):
    """How candidates are made and weighed."""

    weighing: Weighing
    candidates: int  # noises, each for all views
    steps: int  # of the whole DDIM schedule
    guidance_scale: float  # while exploring
    reward: Reward
    prompt: str  # that the reward judges by


class Distilled(NamedTuple):
    """What a step of score distillation gives."""

    pull: Pull  # on the pictures
    latents: Tensor  # (V, c, h, w) of the pictures, without gradient
    scores: Tensor  # (N,) of the candidates; empty without exploration
    wanted: Tensor | None  # (V, H, W, 3), what the pictures are drawn to; None where only latents are compared


def score_pull(
    denoiser: ViewDenoiser,
    pictures: Tensor,
    settings: Settings,
    progress: float,
    generator: torch.Generator,
    own: VariationalScore | None = None,
    exploration: Exploration | None = None,
) -> Distilled:
    """The pull of the prior on pictures (V, H, W, 3) of one object, sRGB in [0, 1].

    All views and candidates share one timestep, drawn from an interval that sinks with progress. own: the variational
    score, for VSD. exploration: for several candidates.
    """
    prior = denoiser.prior
    leaf = pictures.detach().requires_grad_()
    latents = prior.encode(leaf)
    views = len(latents)
    t = draw_timestep(prior, settings, progress, generator)
    count = exploration.candidates if exploration else 1
    noise = torch.randn((count, *latents.shape), generator=generator).to(latents.device)
    alpha_bar = prior.alphas_cumprod[t].expand(views)
    noisy = torch.stack([add_noise(latents.detach(), one, alpha_bar) for one in noise])
    weights, scores = torch.ones(1, device=noise.device), torch.zeros(0, device=noise.device)
    if exploration:
        scores = _explore(exploration, denoiser, noisy, t)
        rows, weights = chosen(scores, exploration.weighing)
        noisy = noisy[rows]
    guided, conditional = (
        x.unflatten(0, (-1, views)) for x in denoiser.predict(noisy.flatten(0, 1), t, settings.guidance_scale)
    )
    if own:
        learnt = denoiser.predict_variational(own, noisy.flatten(0, 1), t).unflatten(0, (-1, views))
    losses, wanted = [], []
    for i in range(len(noisy)):
        target = reconstruct(noisy[i], guided[i], conditional[i], alpha_bar, settings.guidance_rescale)
        if own:
            target = latents.detach() + target - clean_latents(noisy[i], learnt[i], alpha_bar)
        target = weighted_target(latents, target, alpha_bar, settings.weighting)
        distance, shown = distance_to(target, leaf, latents, prior, settings)
        losses.append(distance)
        wanted.append(shown)
    loss = (weights * torch.stack(losses)).sum()
    pull = Pull(loss.detach(), torch.autograd.grad(loss, leaf)[0])
    return Distilled(pull, latents.detach(), scores, wanted[int(weights.argmax())])


def draw_timestep(prior: DiffusionPrior, settings: Settings, progress: float, generator: torch.Generator) -> int:
    """A timestep of the interval that the settings give for this progress."""
    at = progress / settings.t_until
    low, high = (annealed(settings.annealing, *ends, at) for ends in (settings.t_min, settings.t_max))
    level = low + (high - low) * torch.rand((), generator=generator).item()
    return int(level * (len(prior.alphas_cumprod) - 1))


def distance_to(
    target: Tensor, pictures: Tensor, latents: Tensor, prior: DiffusionPrior, settings: Settings
) -> tuple[Tensor, Tensor | None]:
    """The reconstruction loss to the target latents, in latents and in pictures, as the settings weigh them.

    Returns the pictures it is measured to as well, (V, H, W, 3), if there are any. They are always decoded from one
    latent: an autoencoder may show a colour it hardly knows as its opposite, so that a difference of two pictures can
    point the wrong way.
    """
    loss = settings.latent_weight * reconstruction_loss(latents, target)
    if not settings.pixel_weight:
        return loss, None
    shown = prior.decode(target)
    return loss + settings.pixel_weight * reconstruction_loss(pictures, shown), shown.detach()


def _explore(exploration: Exploration, denoiser: ViewDenoiser, noisy: Tensor, t: int) -> Tensor:
    """The scores (N,) of candidates (N, V, c, h, w)."""
    prior = denoiser.prior
    return score_candidates(
        noisy,
        t,
        lambda x, now: denoiser.predict(x, now, exploration.guidance_scale).guided,
        prior.alphas_cumprod,
        exploration.steps,
        prior.decode,
        exploration.reward,
        exploration.prompt,
    )
