"""Score distillation against closed forms: a denoiser of a Gaussian, and gradients written out by hand."""

import pytest
import torch

from backend.guidance.distillation import (
    add_noise,
    clean_latents,
    guide,
    reconstruct,
    reconstruction_loss,
    sds_loss,
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


def test_sds_gradient_is_the_equations(drawn) -> None:
    latents = drawn["latents"].clone().requires_grad_()
    predicted = torch.randn(latents.shape, generator=torch.Generator().manual_seed(9))
    sds_loss(latents, predicted, drawn["noise"], drawn["alpha_bar"]).backward()
    weight = (1 - drawn["alpha_bar"])[:, None, None, None]
    torch.testing.assert_close(latents.grad, weight * (predicted - drawn["noise"]) / 4)


def test_sds_moves_a_sample_to_the_gaussians_mode() -> None:
    generator = torch.Generator().manual_seed(1)
    latents = torch.zeros(1, 4, 8, 8, requires_grad=True)
    optimizer = torch.optim.Adam([latents], lr=0.05)
    for _ in range(400):
        alpha_bar = 0.1 + 0.85 * torch.rand(1, generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        noisy = add_noise(latents.detach(), noise, alpha_bar)
        optimizer.zero_grad()
        sds_loss(latents, gaussian_noise_prediction(noisy, alpha_bar), noise, alpha_bar).backward()
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
        target = reconstruct(noisy, predicted, predicted, alpha_bar, 1.0, 0.0)
        reconstruction_loss(latents, target).backward()
        optimizer.step()
    assert (latents.mean() - MEAN).abs().item() < 0.1


def test_reconstruction_gradient_is_the_distance_to_the_guided_clean_latents(drawn) -> None:
    generator = torch.Generator().manual_seed(5)
    conditional, unconditional = torch.randn(2, *drawn["latents"].shape, generator=generator)
    latents = drawn["latents"].clone().requires_grad_()
    noisy = add_noise(drawn["latents"], drawn["noise"], drawn["alpha_bar"])
    seen = reconstruct(noisy, conditional, unconditional, drawn["alpha_bar"], 7.5, 0.0)
    reconstruction_loss(latents, seen).backward()
    target = clean_latents(noisy, guide(conditional, unconditional, 7.5), drawn["alpha_bar"])
    torch.testing.assert_close(latents.grad, (drawn["latents"] - target) / 4, atol=1e-5, rtol=1e-5)


def test_full_rescale_gives_the_unguided_standard_deviation(drawn) -> None:
    generator = torch.Generator().manual_seed(5)
    conditional, unconditional = torch.randn(2, *drawn["latents"].shape, generator=generator)
    noisy = add_noise(drawn["latents"], drawn["noise"], drawn["alpha_bar"])
    target = reconstruct(noisy, conditional, unconditional, drawn["alpha_bar"], 50.0, 1.0)
    plain = clean_latents(noisy, conditional, drawn["alpha_bar"])
    assert target.std().item() == pytest.approx(plain.std().item(), rel=1e-4)


def test_guidance_scale_one_is_the_conditional_prediction(drawn) -> None:
    torch.testing.assert_close(guide(drawn["noise"], drawn["latents"], 1.0), drawn["noise"])
    torch.testing.assert_close(guide(drawn["noise"], drawn["latents"], 0.0), drawn["latents"])


def test_the_reconstruction_is_a_fixed_target(drawn) -> None:
    target, latents = (drawn[name].clone().requires_grad_() for name in ("noise", "latents"))
    assert not reconstruct(target, latents, latents, drawn["alpha_bar"], 7.5, 0.5).requires_grad
    reconstruction_loss(latents, target).backward()
    assert target.grad is None
