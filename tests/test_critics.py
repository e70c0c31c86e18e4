"""The pulls of the frozen networks on the pixels: right lengths, right gradients, right direction."""

import pytest
import torch

from backend.guidance.critics import balanced, reward_pull
from backend.guidance.diffusion import DiffusionPrior, load_prior
from backend.guidance.distillation import add_noise, clean_latents, guide
from backend.guidance.questions import about_object
from backend.guidance.score_pull import score_pull
from backend.guidance.view_denoiser import Condition, ViewDenoiser
from backend.guidance.vlm import VisionLanguageModel, load_vlm
from backend.presets import settings_for
from backend.render.cameras import Cameras, pose_vectors
from backend.render.views import object_views
from backend.schema import Settings
from tests.small_models import write_small_models

CPU = torch.device("cpu")
SMALL = {"guidance_scale": 4.0, "guidance_rescale": 0.0, "views": 2}
SETTINGS = settings_for("starter", {**SMALL, "latent_weight": 1.0, "pixel_weight": 0.0})
ON_PIXELS = settings_for("starter", {**SMALL, "latent_weight": 0.0, "pixel_weight": 1.0})
PROGRESS = 0.3
ASKED = [question.text for question in about_object("a red cube")]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[DiffusionPrior, VisionLanguageModel]:
    """The prior in double precision, so that finite differences mean something."""
    prior, vlm = write_small_models(tmp_path_factory.mktemp("models"))
    return load_prior(prior, CPU, torch.float64), load_vlm(vlm, CPU)


@pytest.fixture
def cameras() -> Cameras:
    return object_views(2, torch.Generator().manual_seed(1), CPU)


def pictures(dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pull_of_prior(prior: DiffusionPrior, images: torch.Tensor, cameras: Cameras, settings: Settings = SETTINGS):
    text = prior.encode_text(["a red cube"] * 2), prior.encode_text(["a broken thing"] * 2)
    denoiser = ViewDenoiser(prior, Condition(*text, pose_vectors(cameras, torch.zeros(3))))
    return score_pull(denoiser, images, settings, PROGRESS, torch.Generator().manual_seed(7)).pull


def reconstruction(prior: DiffusionPrior, images: torch.Tensor, cameras: Cameras) -> torch.Tensor:
    """The guided reconstruction of the clean latents, for the noise that seed 7 draws, written out once more."""
    generator = torch.Generator().manual_seed(7)
    s, share = SETTINGS, PROGRESS / SETTINGS.t_until
    low = s.t_min[0] + (s.t_min[1] - s.t_min[0]) * share
    high = s.t_max[0] + (s.t_max[1] - s.t_max[0]) * share
    level = low + (high - low) * torch.rand((), generator=generator).item()
    t = torch.full((2,), int(level * 999))
    with torch.no_grad():
        latents = prior.encode(images)
        noise, alpha_bar = torch.randn(latents.shape, generator=generator), prior.alphas_cumprod[t]
        noisy, poses = add_noise(latents, noise, alpha_bar), pose_vectors(cameras, torch.zeros(3))
        with_prompt, without = (
            prior.predict_noise(noisy, t, prior.encode_text([words] * 2), poses)
            for words in ("a red cube", "a broken thing")
        )
        return clean_latents(noisy, guide(with_prompt, without, s.guidance_scale), alpha_bar)


def test_the_priors_gradient_is_that_of_the_distance_to_its_reconstruction(models, cameras) -> None:
    prior, images = models[0], pictures(torch.float64)
    target = reconstruction(prior, images, cameras)  # fixed: score distillation does not go through the denoiser

    def loss(at: torch.Tensor) -> float:
        with torch.no_grad():
            return (0.5 * (prior.encode(at) - target).square().sum() / 2).item()

    pull = pull_of_prior(prior, images, cameras)
    assert pull.value.item() == pytest.approx(loss(images), rel=1e-5)
    step = 1e-5
    for seed in (11, 12):
        direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        slope = (loss(images + step * direction) - loss(images - step * direction)) / (2 * step)
        assert (pull.gradient * direction).sum().item() == pytest.approx(slope, rel=1e-4)


def test_pixel_weight_alone_pulls_pictures_straight_to_the_decoded_reconstruction(models, cameras) -> None:
    prior, images = models[0], pictures(torch.float64)
    shown = prior.decode(reconstruction(prior, images, cameras))
    pull = pull_of_prior(prior, images, cameras, ON_PIXELS)
    assert pull.value.item() == pytest.approx(0.5 * (images - shown).square().sum().item() / 2, rel=1e-5)
    torch.testing.assert_close(pull.gradient, (images - shown) / 2, atol=1e-5, rtol=1e-5)


def test_the_pulls_on_latents_and_on_pixels_add_up_by_their_weights(models, cameras) -> None:
    both = settings_for("starter", {**SMALL, "latent_weight": 0.5, "pixel_weight": 3.0})
    images = pictures(torch.float64)
    latent, pixel, sum_ = (pull_of_prior(models[0], images, cameras, s) for s in (SETTINGS, ON_PIXELS, both))
    torch.testing.assert_close(sum_.gradient, 0.5 * latent.gradient + 3.0 * pixel.gradient)
    torch.testing.assert_close(sum_.value, 0.5 * latent.value + 3.0 * pixel.value)


def test_the_same_generator_gives_the_same_pull_and_leaves_the_pictures_alone(models, cameras) -> None:
    images = pictures(torch.float64)
    one, two = (pull_of_prior(models[0], images, cameras) for _ in range(2))
    assert torch.equal(one.gradient, two.gradient)
    assert torch.equal(images, pictures(torch.float64))
    assert images.grad is None and not images.requires_grad


def test_following_the_rewards_pull_raises_every_answer_asked_alone(models) -> None:
    vlm, images = models[1], pictures()
    for question in ASKED:
        pull = reward_pull(vlm, images, [question])
        step = 0.05 * pull.gradient / pull.gradient.norm()
        with torch.no_grad():
            assert vlm.log_odds(images - step, [question]) > pull.value > vlm.log_odds(images + step, [question])


@pytest.mark.parametrize("form", ["logistic", "log-odds", "probability"])
def test_the_rewards_gradient_is_that_of_its_form(models, form) -> None:
    vlm = models[1]
    pull = reward_pull(vlm, pictures(), ASKED, form)
    leaf = pictures().requires_grad_()
    answers = vlm.ask(vlm.look(leaf), ASKED)
    values = answers.margin if form == "probability" else answers.log_odds
    each = [torch.autograd.grad(value, leaf, retain_graph=True)[0] for value in values]
    doubt = torch.sigmoid(-pull.value) if form == "logistic" else torch.ones(len(ASKED))
    expected = -sum(d * g for d, g in zip(doubt, each, strict=True))
    torch.testing.assert_close(pull.value, answers.log_odds)
    torch.testing.assert_close(pull.gradient, expected, atol=1e-5 * expected.abs().max().item(), rtol=1e-3)


@pytest.mark.parametrize("weight", [0.3, torch.tensor(2.0)])
def test_balancing_gives_the_length_asked_for_and_keeps_the_direction(weight) -> None:
    pull = torch.randn(2, 8, 8, 3, generator=torch.Generator().manual_seed(0)) * 1e-4
    scaled = balanced(pull, torch.tensor(5.0), weight)
    assert scaled.norm().item() == pytest.approx(5.0 * float(weight), rel=1e-4)
    assert torch.nn.functional.cosine_similarity(scaled.flatten(), pull.flatten(), dim=0).item() == pytest.approx(1.0)


def test_balancing_nothing_gives_nothing() -> None:
    assert torch.equal(balanced(torch.zeros(3), torch.tensor(5.0), 1.0), torch.zeros(3))
