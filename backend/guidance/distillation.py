"""Score distillation: how a frozen denoiser's prediction becomes a loss on the latents. Pure functions.

Symbols are DDPM's: x_t = sqrt(alpha_bar) x + sqrt(1 - alpha_bar) eps.
"""

from __future__ import annotations

import torch
from torch import Tensor


def add_noise(latents: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t of clean latents (B, c, h, w): DDPM, arXiv 2006.11239, equation 4. alpha_bar: (B,)."""
    a = alpha_bar[:, None, None, None]
    return a.sqrt() * latents + (1 - a).sqrt() * noise


def clean_latents(noisy: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """The x that would give x_t with this noise: DDPM, equation 15. Shapes as in add_noise."""
    a = alpha_bar[:, None, None, None]
    return (noisy - (1 - a).sqrt() * noise) / a.sqrt()


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: unconditional + s (conditional - unconditional), arXiv 2207.12598."""
    return unconditional + scale * (conditional - unconditional)


def sds_loss(latents: Tensor, predicted: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """A scalar whose gradient in the latents is w(t) (predicted - noise) / B with w = 1 - alpha_bar.

    DreamFusion, arXiv 2209.14988, equation 3. All (B, c, h, w); alpha_bar: (B,).
    """
    weight = (1 - alpha_bar)[:, None, None, None]
    target = (latents - weight * (predicted - noise)).detach()
    return 0.5 * (latents - target).square().sum() / latents.shape[0]


def reconstruction_loss(
    latents: Tensor,
    noisy: Tensor,
    conditional: Tensor,
    unconditional: Tensor,
    alpha_bar: Tensor,
    scale: float,
    rescale: float,
) -> Tensor:
    """Half the squared distance to the guided reconstruction of the clean latents, over B: a scalar.

    MVDream, arXiv 2308.16512, section 3.3 and appendix: SDS written in x0, whose weight does not blow up at high noise.
    `rescale` is the share of pulling the reconstruction's standard deviation back to that of the unguided one, over all
    views together, which keeps colours from burning out (arXiv 2305.08891, section 3.4).
    """
    with torch.no_grad():
        guided = clean_latents(noisy, guide(conditional, unconditional, scale), alpha_bar)
        plain = clean_latents(noisy, conditional, alpha_bar)
        factor = plain.std() / guided.std().clamp_min(1e-8)
        target = rescale * guided * factor + (1 - rescale) * guided
    return 0.5 * (latents - target).square().sum() / latents.shape[0]
