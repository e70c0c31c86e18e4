"""Reward-weighted search over placements: what RewardSDS (arXiv 2503.09601) does to noises, done to layouts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SHRINK = 0.8  # of the spread, per round
TEMPERATURE = 0.5  # of the weights, in standard deviations of a round's scores: scores of any scale weigh alike


def search(
    score: Callable[[Tensor], Tensor],
    start: Tensor,
    locked: Tensor,
    generator: torch.Generator,
    rounds: int = 12,
    samples: int = 64,
    spread: float = 0.5,
) -> Tensor:
    """The best placement found around start: (S, 3) metres; never worse than start.

    score: (N, S, 3) placements in metres -> (N,) rewards, higher is better; called once a round under no_grad.
    start: (S, 3) metres. locked: (S,) bool, slots that stay.
    spread: standard deviation of the first round's samples, metres. Each round samples around the mean of the last
    round's placements weighed by softmax(scores), the weights of RewardSDS's "weighted" strategy.
    """
    assert start.ndim == 2 and locked.shape == start.shape[:1], (start.shape, locked.shape)
    assert rounds > 0 and samples > 1 and spread > 0.0, (rounds, samples, spread)
    centre = best = start.detach()
    best_score = torch.tensor(-torch.inf, device=start.device)
    with torch.no_grad():
        for number in range(rounds):
            placements = _sample(centre, locked, generator, samples, spread * SHRINK**number)
            if number == 0:
                placements[0] = start
            scores = torch.nan_to_num(score(placements).float(), nan=-torch.inf, neginf=-torch.inf)
            top = scores.argmax()
            if scores[top] > best_score:
                best, best_score = placements[top], scores[top]
            centre = _weighted_mean(placements, scores, fallback=centre)
            centre = torch.where(locked[:, None], start, centre)
    return best.clone()


def _sample(centre: Tensor, locked: Tensor, generator: torch.Generator, samples: int, spread: float) -> Tensor:
    """Placements (N, S, 3) around centre, the first being centre itself; locked slots do not move."""
    noise = torch.randn(samples, *centre.shape, generator=generator, device=generator.device).to(centre)
    noise[0] = 0.0
    return centre + spread * noise * ~locked[:, None]


def _weighted_mean(placements: Tensor, scores: Tensor, fallback: Tensor) -> Tensor:
    """Mean (S, 3) of the placements weighed by softmax of the standardised scores; infinite ones are left out."""
    usable = scores.isfinite()
    if not usable.any():
        return fallback
    scale = scores[usable].std(correction=0).clamp_min(1e-12)
    standard = torch.where(usable, (scores - scores[usable].mean()) / scale, -torch.inf)
    weights = torch.softmax(standard / TEMPERATURE, 0).to(placements.dtype)
    return (weights[:, None, None] * placements).sum(0)
