"""How the starter denoiser's camera embedding begins: as harmonics of where the camera stands."""

from __future__ import annotations

import math

import torch
from diffusers.models.embeddings import TimestepEmbedding
from torch import Tensor, nn

from ..render.cameras import orbit, pose_vectors

FREQUENCIES = (
    6  # a cube looks the same after a quarter turn: the azimuth's fourth harmonic tells its corner from its face
)
STEEPNESS = (
    2.0  # standard deviation of the weights that see the pose, which makes the ridges the harmonics are built of
)
LOUDNESS = 1.4  # standard deviation of what the embedding puts out, about that of the timestep's
CAMERAS = 4000


@torch.no_grad()
def begin_with_harmonics(embedding: TimestepEmbedding) -> None:
    """Fit the second layer on a random first one, so that the output mixes `harmonics` at about equal strength.

    Networks learn slow functions of their input first (arXiv 2006.10739). With torch's own start the denoiser did not
    tell one azimuth from the next after thousands of steps; with this one it does after fifty.
    """
    first, second = embedding.linear_1, embedding.linear_2
    nn.init.normal_(first.weight, std=STEEPNESS)
    nn.init.uniform_(first.bias, -2 * STEEPNESS, 2 * STEEPNESS)
    azimuth_deg, elevation_deg = torch.rand(CAMERAS) * 360.0, torch.rand(CAMERAS) * 100.0 - 18.0
    cameras = orbit(azimuth_deg, elevation_deg, torch.ones(CAMERAS), torch.full((CAMERAS,), 40.0), torch.zeros(3))
    wanted = harmonics(azimuth_deg, elevation_deg)
    mix = torch.randn(wanted.shape[1], second.out_features) * LOUDNESS / math.sqrt(wanted.shape[1] / 2)
    hidden = embedding.act(first(pose_vectors(cameras, torch.zeros(3))))
    design = torch.cat([hidden, torch.ones(CAMERAS, 1)], 1).double()
    ridge = 1e-4 * design.square().mean() * CAMERAS * torch.eye(design.shape[1])
    solution = torch.linalg.solve(design.T @ design + ridge, design.T @ (wanted @ mix).double()).float()
    second.weight.copy_(solution[:-1].T)
    second.bias.copy_(solution[-1])


def harmonics(azimuth_deg: Tensor, elevation_deg: Tensor) -> Tensor:
    """Sines and cosines of the azimuth's multiples, alone and times the sine of the elevation: (B, 4 FREQUENCIES + 2).

    azimuth_deg, elevation_deg: (B,). The last two columns know the elevation alone.
    """
    turns = torch.deg2rad(azimuth_deg)[:, None] * torch.arange(1, FREQUENCIES + 1)
    height = torch.deg2rad(elevation_deg).sin()[:, None]
    around = torch.cat([turns.cos(), turns.sin()], 1)
    return torch.cat([around, around * height, height, 2 * height.square() - 1], 1)
