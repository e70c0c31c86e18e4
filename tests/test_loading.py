"""Weights that lack tensors are refused, where the libraries would fill them with noise."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.errors import ModelError
from backend.guidance.diffusion import load_prior
from backend.guidance.vlm import load_vlm

CPU = torch.device("cpu")


def without_a_tensor(folder: Path, copy: Path, part: str, tensor: str) -> Path:
    """A copy of a model whose weights in `part` lack one tensor."""
    shutil.copytree(folder, copy)
    weights = next((copy / part).glob("*.safetensors"))
    tensors = load_file(weights)
    name = next(name for name in tensors if tensor in name)
    del tensors[name]
    save_file(tensors, weights, {"format": "pt"})
    return copy


@pytest.mark.parametrize(
    ("part", "tensor"), [("unet", "conv_in.weight"), ("vae", "decoder.conv_in"), ("text_encoder", "token_embedding")]
)
def test_a_prior_that_lacks_a_tensor_is_refused(folders, tmp_path, part, tensor) -> None:
    with pytest.raises(ModelError, match=rf"1 tensors are missing, the first is .*{tensor}") as caught:
        load_prior(without_a_tensor(folders[0], tmp_path / "model", part, tensor), CPU)
    assert caught.value.where.endswith(part)


def test_a_vision_language_model_that_lacks_a_tensor_is_refused(folders, tmp_path) -> None:
    with pytest.raises(ModelError, match=r"1 tensors are missing, the first is .*down_proj"):
        load_vlm(without_a_tensor(folders[1], tmp_path / "model", "", "down_proj"), CPU)
