"""What the frozen networks say of pictures, as a pull on the pixels: the gradient that would improve them.

Each network is run backward once, down to the pictures; the loop adds the pulls up and goes on through the renderer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..render.cameras import Cameras, pose_vectors, view_name
from ..schedules import linear
from ..schema import Settings
from .diffusion import DiffusionPrior
from .distillation import add_noise, reconstruct, reconstruction_loss
from .vlm import VisionLanguageModel


class Pull(NamedTuple):
    """One term's value and its gradient in the pictures."""

    value: Tensor  # loss: scalar; reward: (Q,) log-odds
    gradient: Tensor  # (B, H, W, 3), of what is to be made smaller


def prior_pull(
    prior: DiffusionPrior,
    pictures: Tensor,
    text: tuple[Tensor, Tensor],
    cameras: Cameras,
    settings: Settings,
    progress: float,
    generator: torch.Generator,
) -> Pull:
    """Score distillation of views of one object.

    pictures: (B, H, W, 3) sRGB in [0, 1]. text: embeddings (B, L, C) of the prompt and of the negative prompt.
    All views share one timestep, drawn from an interval that sinks with progress.
    """
    leaf = pictures.detach().requires_grad_()
    latents = prior.encode(leaf)
    t = torch.full((len(latents),), draw_timestep(prior, settings, progress, generator), device=latents.device)
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    alpha_bar = prior.alphas_cumprod[t]
    noisy = add_noise(latents.detach(), noise, alpha_bar)
    poses = pose_vectors(cameras, torch.zeros(3, device=latents.device)).repeat(2, 1)
    predicted = prior.predict_noise(noisy.repeat(2, 1, 1, 1), t.repeat(2), torch.cat(text), poses)
    conditional, unconditional = predicted.chunk(2)
    target = reconstruct(
        noisy, conditional, unconditional, alpha_bar, settings.guidance_scale, settings.guidance_rescale
    )
    loss = distance_to(target, leaf, latents, prior, settings)
    return Pull(loss.detach(), torch.autograd.grad(loss, leaf)[0])


def draw_timestep(prior: DiffusionPrior, settings: Settings, progress: float, generator: torch.Generator) -> int:
    """A timestep of the interval that the settings give for this progress."""
    low = linear(*settings.t_min, progress / settings.t_until)
    high = linear(*settings.t_max, progress / settings.t_until)
    level = low + (high - low) * torch.rand((), generator=generator).item()
    return int(level * (len(prior.alphas_cumprod) - 1))


def distance_to(target: Tensor, pictures: Tensor, latents: Tensor, prior: DiffusionPrior, settings: Settings) -> Tensor:
    """The reconstruction loss to the target latents, in latents and in pictures, as the settings weigh them."""
    loss = settings.latent_weight * reconstruction_loss(latents, target)
    if settings.pixel_weight:
        loss = loss + settings.pixel_weight * reconstruction_loss(pictures, prior.decode(target))
    return loss


def reward_pull(vlm: VisionLanguageModel, pictures: Tensor, questions: Sequence[str]) -> Pull:
    """The VLM's log-odds of Yes for each question about the pictures, and the gradient that raises what is low.

    The gradient is that of sum softplus(-r), VLM3D's reward through the logistic loss: a question that is answered
    Yes with confidence no longer pulls.
    """
    leaf = pictures.detach().requires_grad_()
    log_odds = vlm.log_odds(leaf, questions)
    loss = torch.nn.functional.softplus(-log_odds).sum()
    return Pull(log_odds.detach(), torch.autograd.grad(loss, leaf)[0])


def balanced(pull: Tensor, reference_norm: Tensor, weight: float | Tensor) -> Tensor:
    """`pull` scaled so that its norm is `weight` times the reference norm; nothing where there is no pull."""
    return pull * (weight * reference_norm / pull.norm().clamp_min(1e-12))


def view_prompts(prompt: str, cameras: Cameras, prior: DiffusionPrior) -> list[str]:
    """The prompt for each view; a prior without cameras is told the direction in words (DreamFusion, section 3.2)."""
    if prior.knows_cameras:
        return [prompt] * len(cameras.position)
    angles = zip(cameras.azimuth_deg.tolist(), cameras.elevation_deg.tolist(), strict=True)
    return [f"{prompt}, {view_name(*angle)} view" for angle in angles]
