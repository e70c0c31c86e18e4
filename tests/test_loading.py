"""Weights that lack tensors (the libraries would fill them with noise) and parts that do not fit are refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.errors import ModelError
from backend.guidance.diffusion import load_prior
from backend.guidance.vlm import load_vlm
from backend.model_check import check_model

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


@pytest.mark.parametrize(
    ("file", "setting", "value"),
    [
        ("unet/config.json", "addition_embed_type", "text_time"),
        ("unet/config.json", "class_embed_type", "timestep"),
        ("unet/config.json", "in_channels", 9),
        ("unet/config.json", "cross_attention_dim", 2048),
        ("scheduler/scheduler_config.json", "prediction_type", "sample"),
    ],
)
def test_a_denoiser_of_another_task_is_refused(folders, tmp_path, file, setting, value) -> None:
    copy = tmp_path / "model"
    shutil.copytree(folders[0], copy)
    config = json.loads((copy / file).read_text("utf-8")) | {setting: value}
    (copy / file).write_text(json.dumps(config), "utf-8")
    for refuse in (lambda: load_prior(copy, CPU), lambda: check_model(copy, "prior")):
        with pytest.raises(ModelError, match=setting) as caught:
            refuse()
        assert caught.value.where == str(copy / file)
