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


@torch.no_grad()
def reconstruct(
    noisy: Tensor, conditional: Tensor, unconditional: Tensor, alpha_bar: Tensor, scale: float, rescale: float
) -> Tensor:
    """The clean latents (B, c, h, w) that guidance sees behind the noisy ones.

    MVDream, arXiv 2308.16512, section 3.3 and appendix: SDS written in x0, whose weight does not blow up at high noise.
    `rescale` is the share of pulling the reconstruction's standard deviation back to that of the unguided one, over all
    views together, which keeps colours from burning out (arXiv 2305.08891, section 3.4).
    """
    guided = clean_latents(noisy, guide(conditional, unconditional, scale), alpha_bar)
    plain = clean_latents(noisy, conditional, alpha_bar)
    factor = plain.std() / guided.std().clamp_min(1e-8)
    return rescale * guided * factor + (1 - rescale) * guided


def reconstruction_loss(values: Tensor, target: Tensor) -> Tensor:
    """Half the squared distance to a fixed target, summed, over B: a scalar.

    With latents and their reconstruction this is MVDream's x0 loss; with pictures and the decoded reconstruction it is
    HiFA's image-space loss (arXiv 2305.18766, section 3.1), which knows what colours can be shown.
    """
    return 0.5 * (values - target.detach()).square().sum() / values.shape[0]
