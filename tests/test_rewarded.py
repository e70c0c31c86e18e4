"""RewardSDS on views of an object: what prior_pull gives with one candidate, the weighted sum of it with more."""

import pytest
import torch

from backend.guidance.candidates import Weighing
from backend.guidance.critics import prior_pull
from backend.guidance.diffusion import DiffusionPrior, load_prior
from backend.guidance.rewarded import Exploration, rewarded_pull
from backend.guidance.variational import VariationalScore
from backend.presets import PRESETS
from backend.render.cameras import orbit
from tests.small_models import write_small_models

CPU = torch.device("cpu")
SETTINGS = PRESETS["starter"].model_copy(update={"latent_weight": 0.5, "pixel_weight": 0.5})


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> DiffusionPrior:
    return load_prior(write_small_models(tmp_path_factory.mktemp("models"))[0], CPU)


def views(prior):
    """The arguments that prior_pull and rewarded_pull share."""
    ones = torch.ones(2)
    cameras = orbit(torch.tensor([0.0, 90.0]), 20 * ones, 2 * ones, 40 * ones, torch.zeros(3))
    pictures = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    text = prior.encode_text(["a red cube"] * 2), prior.encode_text([""] * 2)
    return prior, pictures, text, cameras, SETTINGS, 0.3


def brightness(images: torch.Tensor, prompt: str) -> torch.Tensor:
    return images.mean(dim=(1, 2, 3, 4))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_one_candidate_is_plain_score_distillation(prior) -> None:
    plain = prior_pull(*views(prior), seeded())
    found, _ = rewarded_pull(*views(prior), seeded(), Exploration(Weighing("none"), 1), brightness, "a red cube")
    torch.testing.assert_close(found.value, plain.value)
    torch.testing.assert_close(found.gradient, plain.gradient)


def test_small_network_calls_give_what_one_large_call_gives(prior) -> None:
    found = []
    for batch in (1, 64):
        exploration = Exploration(Weighing("min-max", extremes=1), 3, steps=3, batch=batch)
        found.append(rewarded_pull(*views(prior), seeded(), exploration, brightness, "a red cube"))
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[0][0].gradient, found[1][0].gradient, atol=1e-3, rtol=1e-3)


def test_the_best_is_taken_alone_and_the_mean_without_a_strategy(prior) -> None:
    def pull(strategy: str, reward=brightness):
        exploration = Exploration(Weighing(strategy), 2, steps=2)
        return rewarded_pull(*views(prior), seeded(), exploration, reward, "a red cube")

    brightest, scores = pull("best")
    darkest, _ = pull("best", lambda images, prompt: -brightness(images, prompt))
    mean, _ = pull("none")
    assert scores[0] != scores[1]
    torch.testing.assert_close((brightest.gradient + darkest.gradient) / 2, mean.gradient, atol=1e-5, rtol=1e-4)
    assert (brightest.gradient - darkest.gradient).abs().max() > 1e-6


def test_with_an_untrained_variational_score_only_guidance_pulls(prior) -> None:
    own = VariationalScore(prior, seeded())
    args = list(views(prior))
    args[4] = SETTINGS.model_copy(update={"guidance_scale": 1.0})
    exploration = Exploration(Weighing("none"), 1)
    still, _ = rewarded_pull(*args, seeded(), exploration, brightness, "a red cube", own)
    assert still.gradient.abs().max() < 1e-5
    args[4] = SETTINGS.model_copy(update={"guidance_scale": 7.5})
    moved, _ = rewarded_pull(*args, seeded(), exploration, brightness, "a red cube", own)
    assert moved.gradient.abs().max() > 1e-4
