"""What the prior is told of each view: nothing but its camera, words for the side, or Perp-Neg's mixture of words."""

import pytest
import torch

from backend.guidance.conditions import Conditions, view_mixture, view_prompts
from backend.guidance.diffusion import DiffusionPrior, load_prior
from backend.guidance.distillation import add_noise, guide, perp_neg
from backend.guidance.score_pull import score_pull
from backend.guidance.view_denoiser import ViewDenoiser
from backend.presets import settings_for
from backend.render.cameras import Cameras, orbit
from tests.small_models import write_small_models
from tests.small_priors import write_small_prior

CPU = torch.device("cpu")
SETTINGS = {"t_max": (0.5, 0.5), "t_min": (0.5, 0.5), "guidance_scale": 7.5, "guidance_rescale": 0.0}
SETTINGS |= {"latent_weight": 1.0, "pixel_weight": 0.0}


@pytest.fixture(scope="module", params=["sd-1.5", "sd-2.1-v"])
def prior(request, tmp_path_factory) -> DiffusionPrior:
    return load_prior(write_small_prior(request.param, tmp_path_factory.mktemp("models") / "prior"), CPU)


def seen_from(azimuth_deg: list[float], elevation_deg: float = 20.0) -> Cameras:
    ones = torch.ones(len(azimuth_deg))
    return orbit(torch.tensor(azimuth_deg), elevation_deg * ones, 2 * ones, 40 * ones, torch.zeros(3))


def mixed(azimuth_deg: float, elevation_deg: float = 20.0) -> tuple[list[float], list[float]]:
    mixture = view_mixture(torch.tensor([azimuth_deg]), torch.tensor([elevation_deg]))
    return mixture.positive[0].tolist(), mixture.negative[:, 0].tolist()


def test_a_prior_without_cameras_is_told_the_view_in_words(prior) -> None:
    cameras = seen_from([0.0, 90.0, 180.0, 10.0])
    cameras = cameras._replace(elevation_deg=torch.tensor([0.0, 0.0, 0.0, 75.0]))
    told = view_prompts("a mug", cameras, prior)
    assert told == ["a mug, front view", "a mug, side view", "a mug, back view", "a mug, overhead view"]
    text = Conditions(prior, "", perp_neg=False).of("a mug", cameras).text
    torch.testing.assert_close(text, prior.encode_text(told))


def test_a_prior_with_cameras_is_told_the_prompt_alone_whatever_is_set(tmp_path) -> None:
    prior, cameras = load_prior(write_small_models(tmp_path)[0], CPU), seen_from([0.0, 180.0])
    assert view_prompts("a red cube", cameras, prior) == ["a red cube"] * 2
    condition = Conditions(prior, "", perp_neg=True).of("a red cube", cameras)
    torch.testing.assert_close(condition.text, prior.encode_text(["a red cube"] * 2))
    assert condition.negatives is None


@pytest.mark.parametrize(
    ("azimuth_deg", "positive", "negative"),
    [
        (0.0, [1, 0, 0, 0], [0.0, 1.574]),
        (45.0, [0.5, 0.5, 0, 0], [0.689, 0.689]),
        (90.0, [0, 1, 0, 0], [1.574, 0.0]),
        (-90.0, [0, 1, 0, 0], [1.574, 0.0]),
        (270.0, [0, 1, 0, 0], [1.574, 0.0]),
        (135.0, [0, 0.5, 0.5, 0], [1.746, 0.173]),
        (180.0, [0, 0, 1, 0], [1.967, 0.394]),
    ],
)
def test_the_words_of_a_view_change_over_with_its_azimuth(azimuth_deg, positive, negative) -> None:
    found = mixed(azimuth_deg)
    assert found[0] == pytest.approx(positive, abs=1e-6)
    assert found[1] == pytest.approx(negative, abs=1e-3)


@pytest.mark.parametrize("azimuth_deg", [0.0, 90.0, 180.0, 270.0])
def test_nothing_jumps_between_the_quarters(azimuth_deg) -> None:
    before, after = mixed(azimuth_deg - 0.01), mixed(azimuth_deg + 0.01)
    for one, other in zip(before, after, strict=True):
        assert one == pytest.approx(other, abs=2e-3)


def test_from_overhead_there_is_one_word_and_nothing_to_turn_away_from() -> None:
    assert mixed(100.0, 70.0) == ([0, 0, 0, 1], [0, 0])


def test_guidance_is_perp_negs_with_the_front_and_the_side_as_negatives(prior) -> None:
    cameras = seen_from([20.0, 150.0])
    condition = Conditions(prior, "ugly", perp_neg=True).of("a mug", cameras)
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def noise(text: torch.Tensor) -> torch.Tensor:
        return prior.predict_noise(noisy, torch.full((2,), 500), text, None)

    front, side, back = (prior.encode_text([f"a mug, {name} view"]) for name in ("front", "side", "back"))
    share = torch.tensor([20 / 90, 60 / 90])
    conditional = noise(torch.cat([front + (side - front) * share[0], side + (back - side) * share[1]]))
    unconditional = noise(prior.encode_text(["ugly"] * 2))
    negatives = torch.stack([noise(text.expand(2, -1, -1)) for text in (front, side)])
    weights = view_mixture(cameras.azimuth_deg, cameras.elevation_deg).negative
    assert (weights > 0.1).all()
    expected = perp_neg(conditional, unconditional, negatives, weights, 7.5)
    found = ViewDenoiser(prior, condition).predict(noisy, 500, 7.5)
    torch.testing.assert_close(found.conditional, conditional, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.guided, expected, atol=1e-4, rtol=1e-4)
    plain = guide(conditional, unconditional, 7.5)
    assert (found.guided - plain).abs().max() > 1e-2 * plain.abs().max()
    two = ViewDenoiser(prior, condition, at_once=8).predict(noisy.repeat(3, 1, 1, 1), 500, 7.5)
    torch.testing.assert_close(two.guided, expected.repeat(3, 1, 1, 1), atol=1e-4, rtol=1e-4)


def test_the_pull_on_latents_is_that_of_perp_negs_guidance(prior) -> None:
    settings = settings_for("draft", SETTINGS)
    denoiser = ViewDenoiser(prior, Conditions(prior, "ugly", perp_neg=True).of("a mug", seen_from([20.0, 150.0])))
    pictures = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    found = score_pull(denoiser, pictures, settings, 0.0, torch.Generator().manual_seed(5))

    generator = torch.Generator().manual_seed(5)
    torch.rand((), generator=generator)
    leaf = pictures.clone().requires_grad_()
    latents = prior.encode(leaf)
    noise, t = torch.randn(latents.shape, generator=generator), int(0.5 * 999)
    a = prior.alphas_cumprod[t].expand(2)
    guided = denoiser.predict(add_noise(latents.detach(), noise, a), t, 7.5).guided
    direction = ((1 - a) / a).sqrt()[:, None, None, None] * (guided - noise) / 2
    expected = torch.autograd.grad((latents * direction).sum(), leaf)[0]
    torch.testing.assert_close(found.pull.gradient, expected, atol=1e-5 * expected.abs().max().item(), rtol=1e-3)
