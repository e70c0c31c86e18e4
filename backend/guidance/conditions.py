"""What the prior is told of views: the prompt as it is, with the view in words, or with Perp-Neg's mixture of views."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..render.cameras import OVERHEAD_DEG, Cameras, pose_vectors, view_name
from .diffusion import DiffusionPrior
from .view_denoiser import Condition

VIEW_NAMES = ("front", "side", "back", "overhead")


class Conditions:
    """Conditions for one prior and negative prompt; every text is embedded once."""

    def __init__(self, prior: DiffusionPrior, negative_prompt: str, perp_neg: bool) -> None:
        """perp_neg: for a prior without cameras, mix the views' words and turn away from the wrong ones."""
        self.prior, self.negative_prompt = prior, negative_prompt
        self.perp_neg = perp_neg and not prior.knows_cameras
        self._texts: dict[str, Tensor] = {}

    def of(self, prompt: str, cameras: Cameras) -> Condition:
        """What the prior is told of these views of what the prompt says."""
        views = len(cameras.position)
        poses = pose_vectors(cameras, torch.zeros(3, device=cameras.position.device))
        against = self._text(self.negative_prompt).expand(views, -1, -1)
        if not self.perp_neg:
            text = torch.stack([self._text(p) for p in view_prompts(prompt, cameras, self.prior)])
            return Condition(text, against, poses)
        mixture = view_mixture(cameras.azimuth_deg, cameras.elevation_deg)
        named = torch.stack([self._text(f"{prompt}, {name} view") for name in VIEW_NAMES])
        text = torch.einsum("vn,nlc->vlc", mixture.positive.to(named.dtype), named)
        kept = len(mixture.negative)
        negatives = named[:kept, None].expand(-1, views, -1, -1)
        return Condition(text, against, poses, negatives, mixture.negative)

    def _text(self, prompt: str) -> Tensor:
        """(L, C)."""
        if prompt not in self._texts:
            self._texts[prompt] = self.prior.encode_text([prompt])[0]
        return self._texts[prompt]


def view_prompts(prompt: str, cameras: Cameras, prior: DiffusionPrior) -> list[str]:
    """The prompt for each view; a prior without cameras is told the direction in words (DreamFusion, section 3.2)."""
    if prior.knows_cameras:
        return [prompt] * len(cameras.position)
    angles = zip(cameras.azimuth_deg.tolist(), cameras.elevation_deg.tolist(), strict=True)
    return [f"{prompt}, {view_name(*angle)} view" for angle in angles]


class Mixture(NamedTuple):
    """How much of each named view is in V views, and how much of it they are turned away from."""

    positive: Tensor  # (V, 4), of VIEW_NAMES, each row sums to 1
    negative: Tensor  # (2, V), of front and side, 0 or more


def view_mixture(azimuth_deg: Tensor, elevation_deg: Tensor) -> Mixture:
    """Perp-Neg's mixture for views (V,) (arXiv 2304.04968, section 4.2).

    The words change over continuously, front to side to back. A view from the side or behind is turned away from the
    front, which priors have seen most of and which makes the Janus problem, and near the front from the side. The
    weights a exp(-b r) + c are threestudio's defaults; they vanish where a view is what its words say and do not jump
    between the quarters. From overhead there is nothing to turn away from.
    """
    turn = ((azimuth_deg + 180.0) % 360.0 - 180.0).abs() / 90.0  # 0 front, 1 side, 2 back
    front, back = (1.0 - turn).clamp_min(0.0), (turn - 1.0).clamp_min(0.0)
    side = 1.0 - front - back
    ahead, above = turn <= 1.0, elevation_deg > OVERHEAD_DEG
    not_front = torch.where(ahead, 4.0 * (-0.5 * front).exp() - 2.426, (-0.5 * side).exp() + 0.967)
    not_side = torch.where(ahead, 4.0 * (-0.5 * side).exp() - 2.426, (-0.5 * side).exp() - 0.606)
    around = torch.stack([front, side, back, torch.zeros_like(side)], 1)
    overhead = torch.tensor([0.0, 0.0, 0.0, 1.0], device=around.device)
    negative = torch.stack([not_front, not_side]).clamp_min(0.0) * ~above
    return Mixture(torch.where(above[:, None], overhead, around), negative)
