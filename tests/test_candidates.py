"""RewardSDS's candidates: weights by hand, exploration against a plain DDIM loop, the reward's pull on a sample."""

import math

import pytest
import torch

from backend.errors import RequestError
from backend.guidance.candidates import candidate_weights, ddim_timesteps, explore, explores, score_candidates
from backend.guidance.distillation import add_noise, score_losses
from backend.weighing import Weighing, check_candidates, needed

ALPHAS = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
SCORES = torch.tensor([0.1, 3.0, -2.0, 1.0, -5.0, 2.0])


@pytest.mark.parametrize(
    ("weighing", "expected"),
    [
        (Weighing("none"), [1 / 6] * 6),
        (Weighing("best"), [0, 1, 0, 0, 0, 0]),
        (Weighing("min-max"), [0, 0.45, -0.05, 0, -0.05, 0.45]),
        (Weighing("min-max", extremes=1, best_weight=1.0, worst_weight=0.5), [0, 1, 0, 0, -0.5, 0]),
        (Weighing("min-max", extremes=3), [-1 / 30, 0.3, -1 / 30, 0.3, -1 / 30, 0.3]),
    ],
)
def test_weights_are_those_made_by_hand(weighing, expected) -> None:
    torch.testing.assert_close(candidate_weights(SCORES, weighing), torch.tensor(expected, dtype=torch.float32))


def test_weighted_is_the_softmax_of_standardised_scores() -> None:
    weights = candidate_weights(torch.tensor([1.0, 3.0]), Weighing("weighted", temperature=2.0))
    assert weights[1] / weights[0] == pytest.approx(math.exp(2.0 / 1.0 / 2.0))  # 2 apart, deviation 1, temperature 2
    assert weights.sum() == pytest.approx(1.0)


def test_weighted_does_not_change_with_the_scores_scale() -> None:
    once, thrice = (candidate_weights(k * SCORES + 7, Weighing("weighted")) for k in (1.0, 3.0))
    torch.testing.assert_close(once, thrice)


def test_min_max_without_any_weight_is_refused_with_the_remedy() -> None:
    with pytest.raises(RequestError, match=r"settings\.best_weight: .*no candidate .*0\.9 and 0\.1"):
        check_candidates(4, Weighing("min-max", best_weight=0.0, worst_weight=0.0))


@pytest.mark.parametrize("strategy", ["none", "best", "weighted", "min-max"])
def test_equal_scores_give_finite_weights(strategy) -> None:
    assert candidate_weights(torch.zeros(4), Weighing(strategy)).isfinite().all()


def test_a_score_that_is_not_a_number_counts_as_the_worst() -> None:
    scores = torch.tensor([1.0, math.nan, 3.0, 2.0])
    assert candidate_weights(scores, Weighing("best")).tolist() == [0, 0, 1, 0]
    assert candidate_weights(scores, Weighing("weighted"))[1] == 0
    assert candidate_weights(scores, Weighing("min-max", extremes=1))[1] < 0
    torch.testing.assert_close(candidate_weights(scores * math.nan, Weighing("best")), torch.full((4,), 0.25))


@pytest.mark.parametrize(
    ("weighing", "fewest"),
    [(Weighing("none"), 1), (Weighing("best"), 2), (Weighing("weighted"), 2), (Weighing("min-max", extremes=3), 6)],
)
def test_fewer_candidates_than_the_strategy_needs_are_refused(weighing, fewest) -> None:
    assert needed(weighing) == fewest
    check_candidates(fewest, weighing)
    with pytest.raises(RequestError, match=rf"settings.candidates: .*needs {fewest} candidates or more, got"):
        check_candidates(fewest - 1, weighing)
    if fewest > 1:
        with pytest.raises(RequestError):
            candidate_weights(torch.zeros(fewest - 1), weighing)


def test_exploration_begins_at_t_itself_and_falls() -> None:
    assert ddim_timesteps(999, 4, 1000) == [999, 749, 499, 249]
    assert ddim_timesteps(500, 4, 1000) == [500, 499, 249]
    assert ddim_timesteps(249, 4, 1000) == [249]
    assert ddim_timesteps(0, 15, 1000) == [0]
    for t in range(0, 1000, 37):
        times = ddim_timesteps(t, 15, 1000)
        assert times[0] == t
        assert times == sorted(set(times), reverse=True)
        assert len(times) <= 16


def some_denoiser(noisy: torch.Tensor, t: int) -> torch.Tensor:
    """Not linear, different at every t, each sample on its own."""
    return torch.tanh(noisy * (1 + t / 500)) + 0.1 * noisy.roll(1, -1)


def plain_ddim(x: torch.Tensor, times: list[int]) -> torch.Tensor:
    """The sampler written out for one sample, in float64."""
    x = x.double()
    for i, t in enumerate(times):
        a = float(ALPHAS[t])
        eps = some_denoiser(x, t)
        clean = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
        if i + 1 == len(times):
            return clean
        later = float(ALPHAS[times[i + 1]])
        x = math.sqrt(later) * clean + math.sqrt(1 - later) * eps
    raise AssertionError


@pytest.mark.parametrize("t", [30, 420, 999])
def test_exploring_a_batch_is_a_plain_ddim_loop_over_each(t) -> None:
    noisy = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(t))
    batched = explore(noisy, t, some_denoiser, ALPHAS, 15)
    for one, found in zip(noisy, batched, strict=True):
        wanted = plain_ddim(one[None], ddim_timesteps(t, 15, 1000))[0]
        torch.testing.assert_close(found.double(), wanted, atol=1e-3, rtol=1e-4)


def test_exploration_with_the_true_noise_finds_the_clean_latents() -> None:
    generator = torch.Generator().manual_seed(2)
    clean, noise = torch.randn(2, 3, 4, 5, 5, generator=generator)
    noisy = add_noise(clean, noise, ALPHAS[700].expand(3))
    found = explore(noisy, 700, lambda x, t: noise, ALPHAS, 15)
    torch.testing.assert_close(found, clean, atol=1e-3, rtol=1e-3)


def test_scores_are_those_of_each_candidates_own_views() -> None:
    noisy = torch.randn(3, 2, 4, 5, 5, generator=torch.Generator().manual_seed(4))
    seen = {}

    def reward(pictures: torch.Tensor, prompt: str) -> torch.Tensor:
        seen["prompt"], seen["shape"] = prompt, pictures.shape
        return pictures.mean(dim=(1, 2, 3, 4))

    def decode(latents: torch.Tensor) -> torch.Tensor:
        return latents[:, :3].permute(0, 2, 3, 1)

    scores = score_candidates(noisy, 300, some_denoiser, ALPHAS, 5, decode, reward, "a cube")
    assert seen == {"prompt": "a cube", "shape": (3, 2, 5, 5, 3)}
    for views, score in zip(noisy, scores, strict=True):
        clean = explore(views, 300, some_denoiser, ALPHAS, 5)
        assert score.item() == pytest.approx(clean[:, :3].mean().item(), abs=1e-4)


def test_no_gradient_flows_through_the_scores() -> None:
    noisy = torch.randn(2, 1, 4, 5, 5, requires_grad=True)

    def decode(latents: torch.Tensor) -> torch.Tensor:
        return latents[:, :3].permute(0, 2, 3, 1)

    scores = score_candidates(
        noisy, 300, some_denoiser, ALPHAS, 5, decode, lambda p, prompt: p.mean(dim=(1, 2, 3, 4)), "a cube"
    )
    assert not scores.requires_grad


def test_exploring_is_rationed() -> None:
    assert [step for step in range(10) if explores(step, 10, 3, 0.7)] == [0, 3, 6]
    assert not any(explores(step, 10, 1, 0.0) for step in range(10))
    assert all(explores(step, 10, 1, 1.0) for step in range(10))


@pytest.mark.parametrize("strategy", ["best", "weighted", "min-max"])
@pytest.mark.parametrize("preferred", [1.0, -1.0])
def test_of_two_modes_a_sample_between_them_goes_to_the_one_the_reward_prefers(strategy, preferred) -> None:
    """Data N(-1, 0.2^2) or N(1, 0.2^2) and its exact denoiser; the noises are the same for both rewards."""

    def mixture(noisy: torch.Tensor, t: int) -> torch.Tensor:
        a = ALPHAS[t]
        variance = a * 0.2**2 + 1 - a
        mean = torch.tanh(a.sqrt() * noisy / variance)
        return (1 - a).sqrt() * (noisy - a.sqrt() * mean) / variance

    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(1, 1, 1, 1, requires_grad=True)
    optimizer = torch.optim.Adam([x], lr=0.05)
    for _ in range(80):
        t = int(torch.randint(100, 400, (), generator=generator))
        noise = torch.randn(4, 1, 1, 1, generator=generator)
        alpha_bar = ALPHAS[t].expand(4)
        noisy = add_noise(x.detach().expand(4, -1, -1, -1), noise, alpha_bar)
        scores = preferred * explore(noisy, t, mixture, ALPHAS, 5).flatten()
        losses = score_losses(x.expand(4, -1, -1, -1), mixture(noisy, t), noise, alpha_bar)
        optimizer.zero_grad()
        (candidate_weights(scores, Weighing(strategy)) * losses).sum().backward()
        optimizer.step()
    assert preferred * x.item() > 0.6
