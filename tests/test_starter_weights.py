"""The bundled starter models: there, small, loadable, and as good on unseen pictures as their evaluation says."""

import json

import numpy as np
import pytest
import torch

from backend.guidance import questions
from backend.guidance.diffusion import load_prior
from backend.guidance.distillation import add_noise
from backend.guidance.vlm import load_vlm
from backend.presets import WEIGHTS
from backend.render.cameras import orbit, pose_vectors
from backend.starter import dataset
from backend.starter.dataset import COLOUR_NAMES, NOUN_NAMES
from backend.starter.evaluate_prior import sample
from backend.starter.shapes import assemble, parts_of, phrase

CPU = torch.device("cpu")
LIMIT_MB = 40


@pytest.fixture(scope="module")
def vlm():
    return load_vlm(WEIGHTS / "vlm", CPU)


def test_all_weights_together_are_small_and_half_precision() -> None:
    files = [f for f in WEIGHTS.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < LIMIT_MB * 1e6
    assert not [f for f in files if f.suffix in (".bin", ".pt", ".ckpt", ".pkl")]


def test_logs_and_evaluations_lie_beside_the_weights() -> None:
    for name in ("prior/training_vae.jsonl", "prior/training_denoiser.jsonl", "vlm/training.jsonl"):
        assert json.loads((WEIGHTS / name).read_text().splitlines()[-1])["step"] > 0
    for name in ("prior/evaluation.json", "vlm/evaluation.json"):
        assert json.loads((WEIGHTS / name).read_text())


def test_vlm_tells_right_from_wrong_colours_on_unseen_objects(vlm) -> None:
    scenes = dataset.build(30, "singles", seed=991)
    right = 0
    for row in range(30):
        images = torch.from_numpy(scenes["images"][row, :2]).float() / 255
        colour, noun = int(scenes["colour"][row, 0]), NOUN_NAMES[scenes["noun"][row, 0]]
        other = COLOUR_NAMES[(colour + 1 + row % 8) % 10]
        asked = [questions.CONTENT.format(prompt=phrase(c, noun)) for c in (COLOUR_NAMES[colour], other)]
        with torch.no_grad():
            true, false = vlm.log_odds(images, asked).tolist()
        right += true > false
    assert right >= 25


def test_prior_paints_the_colour_it_is_asked_for() -> None:
    prior = load_prior(WEIGHTS / "prior", CPU)
    azimuth_deg = torch.tensor([20.0, 110.0])
    ones = torch.ones(2)
    cameras = orbit(azimuth_deg, 20 * ones, 2 * ones, 40 * ones, torch.zeros(3))
    generator = torch.Generator().manual_seed(0)
    poses = pose_vectors(cameras, torch.zeros(3))
    for channel, colour in enumerate(("red", "green", "blue")):
        images = sample(prior, [phrase(colour, "sphere")] * 2, poses, 20, generator)
        middle = images[:, 26:38, 26:38].mean((0, 1, 2))
        assert int(np.argmax(middle.numpy())) == channel, (colour, middle)


@pytest.mark.parametrize("noun", ["cube", "table"])
def test_prior_knows_from_which_side_it_looks(noun) -> None:
    """It is less surprised by a picture seen from where it is told than by one seen from 45 degrees further."""
    prior = load_prior(WEIGHTS / "prior", CPU)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    azimuth_deg, ones = torch.arange(16.0) * 22.5, torch.ones(16)
    looks = [orbit(azimuth_deg + turn, 55 * ones, 2.2 * ones, 40 * ones, torch.zeros(3)) for turn in (0.0, 45.0)]
    thing = dataset.make_object(assemble(parts_of(noun, rng)), "red", rng)
    pictures, _ = dataset.photograph([thing], looks[0], generator)
    latents, text = prior.encode(pictures.rgb), prior.encode_text([phrase("red", noun)] * 16)
    errors = np.zeros(2)
    for t in (850, 900, 950):
        times = torch.full((16,), t)
        noise = torch.randn(latents.shape, generator=generator)
        noisy = add_noise(latents, noise, prior.alphas_cumprod[times])
        for side, cameras in enumerate(looks):
            with torch.no_grad():
                predicted = prior.predict_noise(noisy, times, text, pose_vectors(cameras, torch.zeros(3)))
            errors[side] += (predicted - noise).square().mean().item()
    assert errors[0] < 0.8 * errors[1], errors
