"""Work in chunks: the same latents and the same gradient as all at once, fewer activations held; settings reach it."""

from pathlib import Path

import pytest
import torch

from backend.guidance.diffusion import DiffusionPrior, load_prior
from backend.guidance.memory import in_chunks
from backend.guidance.models import load_models, network_dtype
from backend.presets import PRESETS, settings_for
from tests.small_models import write_small_models

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    return write_small_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def prior(folders) -> DiffusionPrior:
    return load_prior(folders[0], CPU)


def encoded(prior: DiffusionPrior, at_once: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents of three pictures, and the gradient of a weighted sum of them in the pictures."""
    prior.encode_at_once = at_once
    pictures = torch.rand(3, 64, 64, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    latents = prior.encode(pictures)
    weights = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    return latents.detach(), torch.autograd.grad((latents * weights).sum(), pictures)[0]


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_encoding_in_chunks_changes_neither_latents_nor_gradient(prior, at_once) -> None:
    for got, wanted in zip(encoded(prior, at_once), encoded(prior, 0), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


def test_decoding_in_chunks_changes_nothing(prior) -> None:
    latents = torch.randn(3, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    prior.encode_at_once = 0
    wanted = prior.decode(latents)
    prior.encode_at_once = 2
    torch.testing.assert_close(prior.decode(latents), wanted, atol=1e-5, rtol=1e-4)


def test_only_one_chunk_s_activations_are_held() -> None:
    held = [0, 0]
    batch = torch.rand(8, 100).requires_grad_()
    for which, at_once in enumerate((0, 1)):

        def count(tensor: torch.Tensor, which: int = which) -> torch.Tensor:
            held[which] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            in_chunks(lambda x: x.sin().cos().exp().sigmoid(), batch, at_once)
    assert held[1] < held[0] / 2


def test_settings_reach_both_networks(folders) -> None:
    prior, vlm = (str(folder) for folder in folders)
    settings = settings_for("starter", {"prior": prior, "vlm": vlm, "encode_at_once": 2, "vlm_px": 64})
    models = load_models(settings, CPU)
    assert models.prior.encode_at_once == 2
    assert models.vlm.preprocessing.max_pixels == 64 * 64


def test_the_cpu_always_computes_in_float32() -> None:
    settings = PRESETS["draft"]
    assert network_dtype(settings, CPU) == torch.float32
    assert network_dtype(settings, torch.device("cuda")) == torch.bfloat16
