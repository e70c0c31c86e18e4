"""Score distillation on views of an object: RewardSDS's weighted sums, VSD's difference of two scores, and both."""

from typing import NamedTuple

import pytest
import torch

from backend.guidance.diffusion import DiffusionPrior, load_prior
from backend.guidance.distillation import add_noise, guide
from backend.guidance.score_pull import Distilled, Exploration, draw_timestep, score_pull
from backend.guidance.variational import VariationalScore
from backend.guidance.view_denoiser import Condition, ViewDenoiser
from backend.presets import PRESETS
from backend.render.cameras import orbit, pose_vectors
from backend.weighing import Weighing
from tests.small_models import write_small_models

CPU = torch.device("cpu")
SETTINGS = PRESETS["starter"].model_copy(update={"latent_weight": 0.5, "pixel_weight": 0.5})
LATENT = {"latent_weight": 1.0, "pixel_weight": 0.0, "guidance_rescale": 0.0}
PROGRESS = 0.3


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> DiffusionPrior:
    return load_prior(write_small_models(tmp_path_factory.mktemp("models"))[0], CPU)


@pytest.fixture(scope="module")
def condition(prior) -> Condition:
    ones = torch.ones(2)
    cameras = orbit(torch.tensor([0.0, 90.0]), 20 * ones, 2 * ones, 40 * ones, torch.zeros(3))
    text = prior.encode_text(["a red cube"] * 2), prior.encode_text([""] * 2)
    return Condition(*text, pose_vectors(cameras, torch.zeros(3)))


def pictures() -> torch.Tensor:
    return torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))


def brightness(images: torch.Tensor, prompt: str) -> torch.Tensor:
    return images.mean(dim=(1, 2, 3, 4))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def exploring(strategy: str, candidates: int, steps: int = 2, reward=brightness, **weighing) -> Exploration:
    return Exploration(Weighing(strategy, **weighing), candidates, steps, 7.5, reward, "a red cube")


def distilled(prior, condition, own=None, exploration=None, at_once=32, **changes) -> Distilled:
    denoiser, settings = ViewDenoiser(prior, condition, at_once), SETTINGS.model_copy(update=changes)
    return score_pull(denoiser, pictures(), settings, PROGRESS, seeded(), own, exploration)


def taught(prior, condition) -> VariationalScore:
    """A variational score that has seen something else than the prior."""
    own = VariationalScore(prior, seeded(), lr=1e-2, drop=0.0)
    for _ in range(3):
        own.learn(prior.encode(pictures()), condition.text, prior.encode_text([""]), condition.poses)
    return own


def test_one_candidate_is_plain_score_distillation(prior, condition) -> None:
    plain, found = distilled(prior, condition), distilled(prior, condition, exploration=exploring("none", 1))
    torch.testing.assert_close(found.pull, plain.pull)


@pytest.mark.parametrize("variational", [False, True])
def test_small_network_calls_give_what_one_large_call_gives(prior, condition, variational) -> None:
    own = taught(prior, condition) if variational else None
    exploration = exploring("min-max", 3, steps=3, extremes=1)
    one, two = (distilled(prior, condition, own, exploration, at_once) for at_once in (1, 64))
    torch.testing.assert_close(one.scores, two.scores, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one.pull.gradient, two.pull.gradient, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("at_once", "calls"), [(1, [2, 2, 2]), (5, [4, 2]), (32, [6])])
def test_the_variational_score_is_asked_of_as_many_candidates_at_once_as_may_be(
    prior, condition, monkeypatch, at_once, calls
) -> None:
    own, seen = taught(prior, condition), []
    predict = own.predict_noise
    monkeypatch.setattr(own, "predict_noise", lambda noisy, *rest: seen.append(len(noisy)) or predict(noisy, *rest))
    distilled(prior, condition, own, exploring("none", 3), at_once)  # of two views each
    assert seen == calls


@pytest.mark.parametrize("variational", [False, True])
def test_the_best_is_taken_alone_and_the_mean_without_a_strategy(prior, condition, variational) -> None:
    own = taught(prior, condition) if variational else None

    def pull(strategy: str, reward=brightness) -> Distilled:
        return distilled(prior, condition, own, exploring(strategy, 2, reward=reward))

    brightest, darkest = pull("best"), pull("best", lambda images, prompt: -brightness(images, prompt))
    mean = pull("none")
    assert brightest.scores[0] != brightest.scores[1]
    both = brightest.pull.gradient + darkest.pull.gradient
    torch.testing.assert_close(both / 2, mean.pull.gradient, atol=1e-5, rtol=1e-4)
    assert (brightest.pull.gradient - darkest.pull.gradient).abs().max() > 1e-6


def test_with_an_untrained_variational_score_only_guidance_pulls(prior, condition) -> None:
    own = VariationalScore(prior, seeded())
    still = distilled(prior, condition, own, guidance_scale=1.0, **LATENT)
    moved = distilled(prior, condition, own, guidance_scale=7.5, **LATENT)
    assert still.pull.gradient.abs().max() < 1e-5 < 1e-4 < moved.pull.gradient.abs().max()


def test_where_both_scores_agree_pictures_are_wanted_as_the_autoencoder_shows_them(prior, condition) -> None:
    changes = {"latent_weight": 0.0, "pixel_weight": 1.0, "guidance_rescale": 0.0, "guidance_scale": 1.0}
    found = distilled(prior, condition, VariationalScore(prior, seeded()), **changes)
    shown = prior.decode(prior.encode(pictures()))
    torch.testing.assert_close(found.wanted, shown, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.pull.gradient, (pictures() - shown) / 2, atol=1e-4, rtol=1e-3)


class ByHand(NamedTuple):
    """What a step draws and what the prior says of it, written out a second time."""

    leaf: torch.Tensor
    latents: torch.Tensor
    noise: torch.Tensor
    noisy: torch.Tensor
    t: torch.Tensor
    alpha_bar: torch.Tensor
    conditional: torch.Tensor
    unconditional: torch.Tensor

    def on_pictures(self, weight: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
        """The gradient in the pictures of one whose gradient in the latents is weight (V,) times difference / V."""
        direction = weight[:, None, None, None] * difference / len(self.latents)
        return torch.autograd.grad((self.latents * direction).sum(), self.leaf)[0]


def by_hand(prior, condition, choice: int = 0, count: int = 1) -> ByHand:
    """choice: which of `count` noises."""
    generator, leaf = seeded(), pictures().requires_grad_()
    share = PROGRESS / SETTINGS.t_until
    low, high = (a + (b - a) * share for a, b in (SETTINGS.t_min, SETTINGS.t_max))
    t = torch.full((2,), int((low + (high - low) * torch.rand((), generator=generator).item()) * 999))
    latents = prior.encode(leaf)
    noise = torch.randn((count, *latents.shape), generator=generator)[choice]
    alpha_bar = prior.alphas_cumprod[t]
    noisy = add_noise(latents.detach(), noise, alpha_bar)
    both = (prior.predict_noise(noisy, t, text, condition.poses) for text in condition[:2])
    return ByHand(leaf, latents, noise, noisy, t, alpha_bar, *both)


@pytest.mark.parametrize("choice", [None, 0, 1])
def test_vsd_pulls_along_the_difference_of_the_two_scores_under_the_chosen_noise(prior, condition, choice) -> None:
    """choice: the candidate that the reward prefers; None: there is one noise."""
    own, exploration = taught(prior, condition), None
    if choice is not None:
        preference = torch.zeros(2).index_fill(0, torch.tensor(choice), 1.0)
        exploration = exploring("best", 2, reward=lambda images, prompt: preference)
    found = distilled(prior, condition, own, exploration, guidance_scale=4.0, **LATENT)
    hand = by_hand(prior, condition, choice or 0, 2 if exploration else 1)
    variational = own.predict_noise(hand.noisy, hand.t, condition.text, condition.poses)
    weight = ((1 - hand.alpha_bar) / hand.alpha_bar).sqrt()
    expected = hand.on_pictures(weight, guide(hand.conditional, hand.unconditional, 4.0) - variational)
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(found.pull.gradient, expected, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("weighting", ["x0", "sigma squared", "uniform", "fantasia"])
def test_sds_pulls_along_the_guided_noise_minus_the_noise_added_with_the_chosen_weight(
    prior, condition, weighting
) -> None:
    found = distilled(prior, condition, guidance_scale=4.0, weighting=weighting, **LATENT)
    hand = by_hand(prior, condition)
    a = hand.alpha_bar
    weight = {"x0": ((1 - a) / a).sqrt(), "sigma squared": 1 - a, "uniform": a / a, "fantasia": (1 - a) * a.sqrt()}
    expected = hand.on_pictures(weight[weighting], guide(hand.conditional, hand.unconditional, 4.0) - hand.noise)
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(found.pull.gradient, expected, atol=1e-6, rtol=1e-3)


def test_timesteps_sink_by_the_chosen_schedule(prior) -> None:
    settings = SETTINGS.model_copy(update={"t_max": (1.0, 0.5), "t_min": (1.0, 0.5), "t_until": 1.0})
    last = len(prior.alphas_cumprod) - 1

    def drawn(annealing: str, progress: float) -> int:
        return draw_timestep(prior, settings.model_copy(update={"annealing": annealing}), progress, seeded())

    assert [drawn("two stages", p) for p in (0.0, 0.49, 0.5, 1.0)] == [last, last, int(last / 2), int(last / 2)]
    assert drawn("linear", 0.5) == int(0.75 * last)
