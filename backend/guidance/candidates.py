"""RewardSDS and RewardVSD (arXiv 2503.09601): several noises a step, explored, scored and weighed. Pure functions.

Each of N candidates is the same latents with another noise at the same t. A candidate is worth what its noise leads
to: it is denoised with a few DDIM steps that begin at t, decoded and scored. The scores become the weights of the
candidates' losses; no gradient flows through them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..weighing import Weighing, check_candidates
from .distillation import add_noise, clean_latents
from .rewards import Reward

Denoise = Callable[[Tensor, int], Tensor]  # noisy (B, c, h, w) and t -> guided noise (B, c, h, w)


def candidate_weights(scores: Tensor, weighing: Weighing) -> Tensor:
    """The factor of each candidate's loss: (N,), of scores (N,). Equal scores count in the order they come.

    none: all alike. best: the highest only. weighted: softmax of the scores, standardised, since reward models differ
    in scale. min-max: towards the mean of the best, away from the mean of the worst. A score that is not finite (a
    reward model failed on the picture) counts as the worst.
    """
    check_candidates(len(scores), weighing)
    known = scores[scores.isfinite()]
    scores = scores.float().nan_to_num(nan=float("-inf"), posinf=float("-inf"))
    if weighing.strategy == "none" or len(known) == 0:
        return torch.full_like(scores, 1 / len(scores))
    if weighing.strategy == "weighted":
        spread = known.float().std(correction=0).clamp_min(1e-6)
        return torch.softmax(scores / (spread * weighing.temperature), 0)
    order = scores.sort(descending=True, stable=True).indices
    weights = torch.zeros_like(scores)
    if weighing.strategy == "best":
        weights[order[0]] = 1.0
    else:
        weights[order[: weighing.extremes]] = weighing.best_weight / weighing.extremes
        weights[order[-weighing.extremes :]] = -weighing.worst_weight / weighing.extremes
    return weights


def chosen(scores: Tensor, weighing: Weighing) -> tuple[Tensor, Tensor]:
    """Which candidates count at all, (K,) indices, and the factors of their losses, (K,)."""
    weights = candidate_weights(scores, weighing)
    rows = weights.nonzero()[:, 0]
    return rows, weights[rows]


def ddim_timesteps(t: int, steps: int, levels: int) -> list[int]:
    """The timesteps an exploration visits, falling: t itself, then those below t of a `steps`-step schedule.

    The schedule spans all `levels` timesteps evenly, so that a low t costs fewer network calls than a high one.
    """
    schedule = [round(levels * (steps - k) / steps) - 1 for k in range(steps)]
    return [t] + [s for s in schedule if 0 <= s < t]


@torch.no_grad()
def explore(noisy: Tensor, t: int, denoise: Denoise, alphas_cumprod: Tensor, steps: int) -> Tensor:
    """The clean latents (B, c, h, w) that DDIM (arXiv 2010.02502, equation 12 without noise) makes of x_t.

    noisy: (B, c, h, w), all candidates at once. alphas_cumprod: (T,).
    """
    times = ddim_timesteps(t, steps, len(alphas_cumprod))
    x = noisy
    for now, later in zip(times, [*times[1:], None], strict=True):
        noise = denoise(x, now)
        clean = clean_latents(x, noise, alphas_cumprod[now].expand(len(x)))
        if later is None:
            return clean
        x = add_noise(clean, noise, alphas_cumprod[later].expand(len(x)))
    raise AssertionError("there is always at least t")


@torch.no_grad()
def score_candidates(
    noisy: Tensor,
    t: int,
    denoise: Denoise,
    alphas_cumprod: Tensor,
    steps: int,
    decode: Callable[[Tensor], Tensor],
    reward: Reward,
    prompt: str,
) -> Tensor:
    """How good what each candidate leads to is: (N,), float32.

    noisy: (N, V, c, h, w), V views of one object (1 in 2D) for each of N noises. decode: latents (B, c, h, w) to
    pictures (B, H, W, 3).
    """
    count, views = noisy.shape[:2]
    clean = explore(noisy.flatten(0, 1), t, denoise, alphas_cumprod, steps)
    pictures = decode(clean)
    scores = reward(pictures.unflatten(0, (count, views)), prompt).float()
    assert scores.shape == (count,), f"a reward gave {tuple(scores.shape)} for {count} candidates"
    return scores


def explores(step: int, steps: int, every: int, until: float) -> bool:
    """Whether a run explores in this step (counted from 0): every so many, until a share of the run has passed."""
    return step % every == 0 and step < until * steps
