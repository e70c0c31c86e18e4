"""The starter trainings: they learn, and stopping and going on gives what an uninterrupted training gives."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.guidance.diffusion import load_prior
from backend.guidance.vlm import load_vlm
from backend.starter import dataset, train_prior, train_vlm
from backend.starter.checkpoint import learning_rate
from backend.starter.scenes import load_scenes

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for kind in ("singles", "pairs"):
        np.savez(folder / f"{kind}.npz", **dataset.build(12, kind, seed=3))
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_vlm(folder / "model", CPU).network.state_dict())


def test_vlm_training_goes_on_exactly_where_it_stopped(data, tmp_path) -> None:
    singles, pairs = (load_scenes([data], kind) for kind in ("singles", "pairs"))
    whole = train_vlm.Schedule(eyes_steps=2, steps=4, batch=2, questions=2)
    train_vlm.train(singles, pairs, tmp_path / "whole", whole, CPU, 0, 1e9)
    train_vlm.train(singles, pairs, tmp_path / "cut", whole, CPU, 0, 1e9, stop_at=3)
    train_vlm.train(singles, pairs, tmp_path / "cut", whole, CPU, 0, 1e9)
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_state_saved_late_in_the_schedule_can_be_read_again(data, tmp_path) -> None:
    assert type(learning_rate(500, 1000, 1e-3)) is float  # NumPy's own would make the state unreadable


def test_vlm_training_can_begin_with_a_trained_model(data, tmp_path) -> None:
    singles, pairs = (load_scenes([data], kind) for kind in ("singles", "pairs"))
    schedule = train_vlm.Schedule(eyes_steps=0, steps=1, batch=2, questions=2)
    train_vlm.train(singles, pairs, tmp_path / "one", schedule, CPU, 0, 1e9)
    still = schedule._replace(lr=1e-12)
    train_vlm.train(singles, pairs, tmp_path / "two", still, CPU, 5, 1e9, start_from=tmp_path / "one" / "model")
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)


def test_a_log_tells_means_of_the_steps_that_were_made_since_the_training_was_gone_on_with(data, tmp_path) -> None:
    pictures = train_prior.load_pictures([data])
    for steps in (49, 50):  # the log's first line comes after 50, of which this time one is made
        vae = train_prior.train_vae(pictures, tmp_path, train_prior.Stage(steps, 1, 2e-3), CPU, 0)
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    target = train_prior.to_pixels(pictures.images, CPU)
    with torch.no_grad():
        error = (vae.decode(vae.encode(target).latent_dist.mean).sample - target).abs().mean().item() / 2
    assert 0.3 < json.loads(line)["mean_abs_error"] / error < 3


def test_prior_training_learns_and_saves_a_pipeline(data, tmp_path) -> None:
    pictures = train_prior.load_pictures([data])
    target = train_prior.to_pixels(pictures.images[:8], CPU)

    def error(vae) -> float:
        with torch.no_grad():
            return (vae.decode(vae.encode(target).latent_dist.mean).sample - target).abs().mean().item()

    untrained = train_prior.train_vae(pictures, tmp_path / "untrained", train_prior.Stage(0, 4, 1e-2), CPU, 0)
    vae = train_prior.train_vae(pictures, tmp_path / "vae", train_prior.Stage(150, 4, 2e-3), CPU, 0)
    assert error(vae) < 0.7 * error(untrained)
    train_prior.train_denoiser(
        pictures, vae, tmp_path / "denoiser", tmp_path / "model", train_prior.Stage(2, 8, 1e-3), CPU, 0
    )
    prior = load_prior(tmp_path / "model", CPU)
    latents = prior.encode(torch.from_numpy(pictures.images[:24]).float() / 255)
    assert 0.5 < latents.std().item() < 2.0  # the scaling factor makes it about one
    assert prior.decode(latents[:1]).shape == (1, 64, 64, 3)
    assert prior.knows_cameras and prior.image_px == 64
