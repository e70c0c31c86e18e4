"""The denoiser's camera embedding begins by telling azimuths apart: slow networks learn that last."""

import torch
from diffusers.models.embeddings import TimestepEmbedding

from backend.render.cameras import orbit, pose_vectors
from backend.starter.pose_embedding import CAMERAS, FREQUENCIES, LOUDNESS, begin_with_harmonics, harmonics


def poses(azimuth_deg: torch.Tensor, elevation_deg: torch.Tensor) -> torch.Tensor:
    ones = torch.ones_like(azimuth_deg)
    return pose_vectors(orbit(azimuth_deg, elevation_deg, 3 * ones, 30 * ones, torch.zeros(3)), torch.zeros(3))


def read_out(embedding: TimestepEmbedding) -> torch.Tensor:
    """Explained variance of each harmonic in a linear reading of the embedding, fitted to other cameras."""
    outputs, wanted = [], []
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        azimuth_deg = torch.rand(2000, generator=generator) * 360
        elevation_deg = torch.rand(2000, generator=generator) * 95 - 15
        with torch.no_grad():
            output = embedding(poses(azimuth_deg, elevation_deg)).double()
        # what is a hundredth of the rest is lost in a network's noise
        output = output + 1e-2 * output.std() * torch.randn(output.shape, generator=generator)
        outputs.append(torch.cat([output, torch.ones(2000, 1)], 1))
        wanted.append(harmonics(azimuth_deg, elevation_deg).double())
    reading = torch.linalg.lstsq(outputs[0], wanted[0]).solution
    return 1 - (outputs[1] @ reading - wanted[1]).square().mean(0) / wanted[1].var(0)


def test_every_harmonic_can_be_read_off() -> None:
    torch.manual_seed(0)
    embedding = TimestepEmbedding(16, 256)
    quarter_turn = 3  # column of cos(4 azimuth)
    assert read_out(embedding)[quarter_turn] < 0.1  # torch's own start
    begin_with_harmonics(embedding)
    assert read_out(embedding).min() > 0.9
    assert read_out(embedding)[quarter_turn] > 0.98


def test_it_is_as_loud_as_it_says() -> None:
    torch.manual_seed(0)
    embedding = TimestepEmbedding(16, 256)
    begin_with_harmonics(embedding)
    azimuth_deg, elevation_deg = torch.rand(CAMERAS) * 360, torch.rand(CAMERAS) * 95 - 15
    with torch.no_grad():
        output = embedding(poses(azimuth_deg, elevation_deg))
    assert 0.8 * LOUDNESS < output.std() < 1.2 * LOUDNESS


def test_harmonics_are_sines_of_the_multiples() -> None:
    row = harmonics(torch.tensor([90.0]), torch.tensor([30.0]))[0]
    assert row.shape == (4 * FREQUENCIES + 2,)
    torch.testing.assert_close(row[:2], torch.tensor([0.0, -1.0]), atol=1e-6, rtol=0)  # cos 90, cos 180
    torch.testing.assert_close(row[FREQUENCIES], torch.tensor(1.0))  # sin 90
    torch.testing.assert_close(row[2 * FREQUENCIES + 1], torch.tensor(-0.5))  # cos 180, times sin 30
    torch.testing.assert_close(row[-2:], torch.tensor([0.5, -0.5]))
