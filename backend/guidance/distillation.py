"""Score distillation: how a frozen denoiser's prediction becomes a loss on the latents. Pure functions.

Symbols are DDPM's: x_t = sqrt(alpha_bar) x + sqrt(1 - alpha_bar) eps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..weighing import Weighting


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


@torch.no_grad()
def perp_neg(conditional: Tensor, unconditional: Tensor, negatives: Tensor, weights: Tensor, scale: float) -> Tensor:
    """Guidance that turns away from negative prompts without undoing the prompt: Perp-Neg (arXiv 2304.04968).

    Of each negative direction only what is perpendicular to the prompt's own is subtracted, sample by sample.
    conditional, unconditional: (B, c, h, w) noise. negatives: (K, B, c, h, w). weights: (K, B), how much of each.
    """
    towards = conditional - unconditional
    away = negatives - unconditional
    axes = (-3, -2, -1)
    along = (away * towards).sum(axes, keepdim=True) / towards.square().sum(axes, keepdim=True).clamp_min(1e-12)
    perpendicular = away - along * towards
    return unconditional + scale * (towards - (weights[:, :, None, None, None] * perpendicular).sum(0))


def timestep_weight(alpha_bar: Tensor, weighting: Weighting = "sigma squared") -> Tensor:
    """w(t) of score distillation: (B,), of alpha_bar (B,).

    "x0" is sigma / sqrt(alpha_bar), with which the noise's error is that of the clean latents (MVDream, arXiv
    2308.16512); "sigma squared" and "uniform" are DreamFusion's (arXiv 2209.14988, section 3.2, which found both to
    work alike); "fantasia" is Fantasia3D's sigma^2 sqrt(1 - sigma^2) (arXiv 2303.13873), less at high noise.
    """
    if weighting == "uniform":
        return torch.ones_like(alpha_bar)
    variance = 1 - alpha_bar
    if weighting == "x0":
        return (variance / alpha_bar).sqrt()
    return variance if weighting == "sigma squared" else variance * alpha_bar.sqrt()


def score_losses(
    latents: Tensor, predicted: Tensor, baseline: Tensor, alpha_bar: Tensor, weighting: Weighting = "sigma squared"
) -> Tensor:
    """A loss for each sample (B,), whose gradient in that sample is w(t) (predicted - baseline).

    What all score distillation has in common: predicted is the prior's guided noise; the baseline is the noise that was
    added (SDS: DreamFusion, arXiv 2209.14988, equation 3), what a denoiser fitted to the samples themselves predicts
    (VSD: ProlificDreamer, arXiv 2305.16213, equation 9), or what the prior predicts for the source picture and its
    prompt under the same noise (DDS, arXiv 2304.07090). Neither gets a gradient.
    All (B, c, h, w); alpha_bar: (B,). The value is half the squared length of the gradient.
    """
    weight = timestep_weight(alpha_bar, weighting)[:, None, None, None]
    target = (latents - weight * (predicted - baseline)).detach()
    return 0.5 * (latents - target).square().flatten(1).sum(1)


def native_target(clean: Tensor, noise: Tensor, alpha_bar: Tensor, prediction_type: str) -> Tensor:
    """What a denoiser trained on epsilon or on v (arXiv 2202.00512, appendix D) is to put out. All (B, c, h, w)."""
    if prediction_type == "epsilon":
        return noise
    assert prediction_type == "v_prediction", prediction_type
    a = alpha_bar[:, None, None, None]
    return a.sqrt() * noise - (1 - a).sqrt() * clean


@torch.no_grad()
def reconstruct(noisy: Tensor, guided: Tensor, conditional: Tensor, alpha_bar: Tensor, rescale: float) -> Tensor:
    """The clean latents (B, c, h, w) that guided noise sees behind the noisy ones.

    MVDream, arXiv 2308.16512, section 3.3 and appendix: SDS written in x0, whose weight does not blow up at high noise.
    `rescale` is the share of pulling the reconstruction's standard deviation back to that of the unguided one, over all
    views together, which keeps colours from burning out (arXiv 2305.08891, section 3.4).
    """
    clean = clean_latents(noisy, guided, alpha_bar)
    plain = clean_latents(noisy, conditional, alpha_bar)
    factor = plain.std() / clean.std().clamp_min(1e-8)
    return rescale * clean * factor + (1 - rescale) * clean


def weighted_target(latents: Tensor, target: Tensor, alpha_bar: Tensor, weighting: Weighting) -> Tensor:
    """What to draw latents to, so that the reconstruction loss pulls with w(t): as `score_losses` does, per sample.

    target: what they are drawn to with the weight "x0", for which it stays as it is. All (B, c, h, w); alpha_bar: (B,).
    """
    if weighting == "x0":
        return target
    share = timestep_weight(alpha_bar, weighting) / timestep_weight(alpha_bar, "x0")
    return (latents + share[:, None, None, None] * (target - latents)).detach()


def reconstruction_loss(values: Tensor, target: Tensor) -> Tensor:
    """Half the squared distance to a fixed target, summed, over B: a scalar.

    With latents and their reconstruction this is MVDream's x0 loss; with pictures and the decoded reconstruction it is
    HiFA's image-space loss (arXiv 2305.18766, section 3.1), which knows what colours can be shown.
    """
    return 0.5 * (values - target.detach()).square().sum() / values.shape[0]
