"""Weights under the tensor names of older library releases, as many hub folders still have them, load the same."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from backend.guidance.diffusion import DiffusionPrior, load_prior
from backend.guidance.vlm import VisionLanguageModel, load_vlm
from backend.model_check import check_model
from tests.small_priors import write_small_prior
from tests.small_vlms import write_small_vlm

CPU = torch.device("cpu")
OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def rename(file: Path, new_name: Callable[[str], str]) -> None:
    """Give the file's tensors other names. Fails where that would change none."""
    tensors = load_file(file)
    renamed = {new_name(name): tensor for name, tensor in tensors.items()}
    assert len(renamed) == len(tensors) and renamed.keys() != tensors.keys()
    save_file(renamed, file, {"format": "pt"})


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_small_prior("sd-1.5", tmp_path / "prior")


@pytest.fixture
def present(folder) -> DiffusionPrior:
    """The prior of the files as the libraries now write them."""
    return load_prior(folder, CPU)


def test_a_text_encoder_of_names_below_text_model_reads_the_same(folder, present) -> None:
    file = folder / "text_encoder" / "model.safetensors"
    rename(file, lambda name: f"text_model.{name}")
    positions = torch.arange(77)[None]  # a tensor that those releases wrote too
    save_file(load_file(file) | {"text_model.embeddings.position_ids": positions}, file, {"format": "pt"})
    assert check_model(folder, "prior") > 0
    prompts = ["a red cube", "a blue sphere"]
    assert torch.equal(load_prior(folder, CPU).encode_text(prompts), present.encode_text(prompts))


def test_an_autoencoder_of_old_attention_names_encodes_and_decodes_the_same(folder, present) -> None:
    def old(name: str) -> str:
        for new, older in OLD_ATTENTION.items():
            name = name.replace(f".{new}.", f".{older}.")
        return name

    rename(folder / "vae" / "diffusion_pytorch_model.safetensors", old)
    assert check_model(folder, "prior") > 0
    prior = load_prior(folder, CPU)
    pictures = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    latents = present.encode(pictures)
    assert torch.equal(prior.encode(pictures), latents)
    assert torch.equal(prior.decode(latents), present.decode(latents))


def flat(name: str) -> str:
    """The name of a tensor in Qwen2.5-VL's first hub folders: `visual.` and `model.` side by side."""
    return name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")


def nested(name: str) -> str:
    """The name of a tensor in the network itself: `model.visual.` and `model.language_model.`."""
    return name


def answer(vlm: VisionLanguageModel) -> Tensor:
    images = torch.rand(2, 56, 56, 3, generator=torch.Generator().manual_seed(0))
    return vlm.log_odds(images, ["Is this a red cube?"])


def write_untied_vlm(folder: Path, naming: Callable[[str], str]) -> VisionLanguageModel:
    """A Qwen2.5-VL with a last layer of its own, as that of 7 B has, and the folder of it under other names."""
    vlm = load_vlm(write_small_vlm("qwen2_5_vl", folder), CPU)
    head = vlm.network.lm_head.weight
    vlm.network.lm_head.weight = torch.nn.Parameter(head.flip(0), requires_grad=False)
    tensors = {naming(name): tensor.clone() for name, tensor in vlm.network.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = False
    (folder / "config.json").write_text(json.dumps(config))
    return vlm


@pytest.mark.parametrize("naming", [flat, nested])
def test_a_qwen2_5_vl_answers_the_same_under_either_names(tmp_path, naming) -> None:
    vlm = write_untied_vlm(tmp_path, naming)
    assert ("model.norm.weight" in load_file(tmp_path / "model.safetensors")) == (naming is flat)
    assert check_model(tmp_path, "vlm") > 0
    torch.testing.assert_close(answer(load_vlm(tmp_path, CPU)), answer(vlm))


def test_a_qwen2_5_vl_answers_the_same_with_its_settings_in_one_level(tmp_path) -> None:
    vlm = write_untied_vlm(tmp_path, flat)
    config = json.loads((tmp_path / "config.json").read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    old = text | config | {"rope_theta": rope["rope_theta"]}  # where both have a setting, such as model_type: the whole
    old["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    (tmp_path / "config.json").write_text(json.dumps(old))
    torch.testing.assert_close(answer(load_vlm(tmp_path, CPU)), answer(vlm))
