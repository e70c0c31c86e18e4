"""Score distillation against closed forms: a denoiser of a Gaussian, and gradients written out by hand."""

import pytest
import torch

from backend.guidance.distillation import (
    add_noise,
    clean_latents,
    guide,
    native_target,
    perp_neg,
    reconstruct,
    reconstruction_loss,
    score_losses,
    timestep_weight,
)

MEAN, STD = 1.5, 0.5


def gaussian_noise_prediction(noisy: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """E[eps | x_t] when x is N(MEAN, STD^2): the exact denoiser."""
    a = alpha_bar[:, None, None, None]
    variance = a * STD**2 + (1 - a)
    return (1 - a).sqrt() * (noisy - a.sqrt() * MEAN) / variance


@pytest.fixture
def drawn() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    shape = (4, 4, 8, 8)
    return {
        "latents": torch.randn(shape, generator=generator),
        "noise": torch.randn(shape, generator=generator),
        "alpha_bar": torch.tensor([0.9, 0.5, 0.2, 0.05]),
    }


def test_clean_latents_undoes_add_noise(drawn) -> None:
    noisy = add_noise(drawn["latents"], drawn["noise"], drawn["alpha_bar"])
    torch.testing.assert_close(
        clean_latents(noisy, drawn["noise"], drawn["alpha_bar"]), drawn["latents"], atol=1e-5, rtol=1e-5
    )


def test_add_noise_keeps_unit_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    x, eps = torch.randn(2, 8, 4, 64, 64, generator=generator)
    for level in (0.99, 0.5, 0.01):
        assert add_noise(x, eps, torch.full((8,), level)).std().item() == pytest.approx(1.0, abs=0.01)


def test_sds_moves_a_sample_to_the_gaussians_mode() -> None:
    generator = torch.Generator().manual_seed(1)
    latents = torch.zeros(1, 4, 8, 8, requires_grad=True)
    optimizer = torch.optim.Adam([latents], lr=0.05)
    for _ in range(400):
        alpha_bar = 0.1 + 0.85 * torch.rand(1, generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        noisy = add_noise(latents.detach(), noise, alpha_bar)
        optimizer.zero_grad()
        score_losses(latents, gaussian_noise_prediction(noisy, alpha_bar), noise, alpha_bar).mean().backward()
        optimizer.step()
    assert (latents.mean() - MEAN).abs().item() < 0.05
    assert latents.std().item() < STD / 2  # the mode, not the distribution


def test_reconstruction_moves_a_sample_to_the_gaussians_mode() -> None:
    generator = torch.Generator().manual_seed(1)
    latents = torch.zeros(1, 4, 8, 8, requires_grad=True)
    optimizer = torch.optim.Adam([latents], lr=0.05)
    for _ in range(400):
        alpha_bar = 0.05 + 0.9 * torch.rand(1, generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        noisy = add_noise(latents.detach(), noise, alpha_bar)
        predicted = gaussian_noise_prediction(noisy, alpha_bar)
        optimizer.zero_grad()
        target = reconstruct(noisy, predicted, predicted, alpha_bar, 0.0)
        reconstruction_loss(latents, target).backward()
        optimizer.step()
    assert (latents.mean() - MEAN).abs().item() < 0.1


def test_reconstruction_gradient_is_the_distance_to_the_guided_clean_latents(drawn) -> None:
    generator = torch.Generator().manual_seed(5)
    conditional, unconditional = torch.randn(2, *drawn["latents"].shape, generator=generator)
    latents = drawn["latents"].clone().requires_grad_()
    noisy = add_noise(drawn["latents"], drawn["noise"], drawn["alpha_bar"])
    seen = reconstruct(noisy, guide(conditional, unconditional, 7.5), conditional, drawn["alpha_bar"], 0.0)
    reconstruction_loss(latents, seen).backward()
    target = clean_latents(noisy, guide(conditional, unconditional, 7.5), drawn["alpha_bar"])
    torch.testing.assert_close(latents.grad, (drawn["latents"] - target) / 4, atol=1e-5, rtol=1e-5)


def test_full_rescale_gives_the_unguided_standard_deviation(drawn) -> None:
    generator = torch.Generator().manual_seed(5)
    conditional, unconditional = torch.randn(2, *drawn["latents"].shape, generator=generator)
    noisy = add_noise(drawn["latents"], drawn["noise"], drawn["alpha_bar"])
    target = reconstruct(noisy, guide(conditional, unconditional, 50.0), conditional, drawn["alpha_bar"], 1.0)
    plain = clean_latents(noisy, conditional, drawn["alpha_bar"])
    assert target.std().item() == pytest.approx(plain.std().item(), rel=1e-4)


def test_guidance_scale_one_is_the_conditional_prediction(drawn) -> None:
    torch.testing.assert_close(guide(drawn["noise"], drawn["latents"], 1.0), drawn["noise"])
    torch.testing.assert_close(guide(drawn["noise"], drawn["latents"], 0.0), drawn["latents"])


def test_the_reconstruction_is_a_fixed_target(drawn) -> None:
    target, latents = (drawn[name].clone().requires_grad_() for name in ("noise", "latents"))
    assert not reconstruct(target, latents, latents, drawn["alpha_bar"], 0.5).requires_grad
    reconstruction_loss(latents, target).backward()
    assert target.grad is None


@pytest.mark.parametrize("weighting", ["x0", "sigma squared", "uniform", "fantasia"])
def test_the_score_loss_has_the_gradient_of_its_equation(drawn, weighting) -> None:
    latents, a = drawn["latents"].clone().requires_grad_(), drawn["alpha_bar"]
    predicted, baseline = torch.randn(2, *latents.shape, generator=torch.Generator().manual_seed(9))
    score_losses(latents, predicted, baseline, a, weighting).mean().backward()
    weights = {"sigma squared": 1 - a, "uniform": torch.ones(4), "fantasia": (1 - a) * a.sqrt()}
    weight = (weights | {"x0": ((1 - a) / a).sqrt()})[weighting]
    torch.testing.assert_close(latents.grad, weight[:, None, None, None] * (predicted - baseline) / 4)


def test_neither_prediction_of_a_score_loss_gets_a_gradient(drawn) -> None:
    latents, predicted, baseline = (drawn[name].clone().requires_grad_() for name in ("latents", "noise", "noise"))
    score_losses(latents, predicted * 2, baseline, drawn["alpha_bar"]).mean().backward()
    assert predicted.grad is None and baseline.grad is None and latents.grad.abs().sum() > 0


def test_losses_of_samples_are_their_own(drawn) -> None:
    args = drawn["latents"], drawn["noise"] * 2, drawn["noise"], drawn["alpha_bar"]
    together = score_losses(*args)
    alone = torch.cat([score_losses(*(arg[i : i + 1] for arg in args)) for i in range(4)])
    torch.testing.assert_close(together, alone)


def test_a_weighting_falls_with_less_noise_or_is_even() -> None:
    a = torch.tensor([0.01, 0.3, 0.99])
    assert timestep_weight(a).tolist() == pytest.approx([0.99, 0.7, 0.01])
    assert timestep_weight(a, "uniform").tolist() == [1, 1, 1]
    assert timestep_weight(a, "fantasia").argmax() == 1


def test_delta_denoising_does_not_move_a_picture_that_is_what_both_prompts_say(drawn) -> None:
    latents = drawn["latents"].clone().requires_grad_()
    noisy = add_noise(drawn["latents"], drawn["noise"], drawn["alpha_bar"])
    seen = gaussian_noise_prediction(noisy, drawn["alpha_bar"])
    score_losses(latents, seen, seen.clone(), drawn["alpha_bar"]).mean().backward()
    assert latents.grad.abs().max() == 0


def distil_particles(variational: bool) -> torch.Tensor:
    """512 numbers, distilled from the Gaussian prior; VSD's score is that of the Gaussian fitted to the numbers."""
    generator = torch.Generator().manual_seed(1)
    x = (0.1 * torch.randn(512, 1, 1, 1, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.03)
    for _ in range(300):
        a = (0.1 + 0.85 * torch.rand(1, generator=generator)).expand(512)
        noise = torch.randn(x.shape, generator=generator)
        noisy = add_noise(x.detach(), noise, a)
        mean, variance = x.detach().mean(), x.detach().var()
        own = (1 - a[0]).sqrt() * (noisy - a[0].sqrt() * mean) / (a[0] * variance + 1 - a[0])
        optimizer.zero_grad()
        predicted = gaussian_noise_prediction(noisy, a)
        score_losses(x, predicted, own if variational else noise, a).sum().backward()
        optimizer.step()
    return x.detach()


def test_vsd_with_the_exact_variational_score_finds_the_gaussian_and_sds_its_mode() -> None:
    following, seeking = distil_particles(variational=True), distil_particles(variational=False)
    assert following.mean().item() == pytest.approx(MEAN, abs=0.05)
    assert following.std().item() == pytest.approx(STD, rel=0.1)
    assert seeking.mean().item() == pytest.approx(MEAN, abs=0.1)
    assert seeking.std().item() < STD / 2


def test_perp_neg_subtracts_only_what_is_perpendicular_to_the_prompt(drawn) -> None:
    conditional, unconditional = drawn["noise"], torch.zeros_like(drawn["noise"])
    aside = torch.randn(conditional.shape, generator=torch.Generator().manual_seed(6))
    axes = (1, 2, 3)
    share = (aside * conditional).sum(axes, keepdim=True) / conditional.square().sum(axes, keepdim=True)
    aside = aside - share * conditional
    negatives = torch.stack([3.0 * conditional + aside, -2.0 * conditional])
    found = perp_neg(conditional, unconditional, negatives, torch.tensor([0.5, 9.0])[:, None].expand(2, 4), 7.5)
    torch.testing.assert_close(found, 7.5 * (conditional - 0.5 * aside), atol=1e-4, rtol=1e-4)


def test_perp_neg_without_weight_is_plain_guidance(drawn) -> None:
    args = drawn["noise"], drawn["latents"]
    found = perp_neg(*args, torch.randn(3, *drawn["noise"].shape), torch.zeros(3, 4), 7.5)
    torch.testing.assert_close(found, guide(*args, 7.5))


def test_a_denoiser_that_puts_out_its_target_sees_the_true_noise(drawn) -> None:
    clean, noise, a = drawn["latents"], drawn["noise"], drawn["alpha_bar"]
    assert native_target(clean, noise, a, "epsilon") is noise
    v = native_target(clean, noise, a, "v_prediction")
    b = a[:, None, None, None]
    torch.testing.assert_close(b.sqrt() * v + (1 - b).sqrt() * add_noise(clean, noise, a), noise)
