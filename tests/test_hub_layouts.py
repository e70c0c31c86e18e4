"""Folders as the hub has them: Stable Diffusion's families, half-precision and sharded files; and faulty ones."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from backend.errors import ModelError
from backend.guidance import vlm
from backend.guidance.diffusion import load_prior
from backend.guidance.vlm import load_vlm
from backend.model_check import check_model
from tests.small_priors import FAMILIES, write_small_prior
from tests.small_vlms import build_qwen3, write_small_vlm

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def priors(tmp_path_factory) -> Path:
    """A folder with one small prior of each family."""
    folder = tmp_path_factory.mktemp("priors")
    for family in FAMILIES:
        write_small_prior(family, folder / family)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_loads_and_predicts_noise(priors, family) -> None:
    """By the network's own output: as it is for epsilon, turned round for v."""
    folder = priors / family
    prior = load_prior(folder, CPU)
    assert check_model(folder, "prior") > 0
    assert prior.image_px == 64 and not prior.knows_cameras
    assert prior.alphas_cumprod[[0, -1]].tolist() == pytest.approx([0.99915, 0.0047], rel=0.02)
    text = prior.encode_text(["a red cube"])
    assert text.shape == (1, 77, 32)
    noisy, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([400])
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").eval()
    with torch.no_grad():
        out = unet(noisy, t, encoder_hidden_states=text).sample
    alpha_bar = prior.alphas_cumprod[400]
    wanted = alpha_bar.sqrt() * out + (1 - alpha_bar).sqrt() * noisy if family == "sd-2.1-v" else out
    torch.testing.assert_close(prior.predict_noise(noisy, t, text, None), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("variant", "shard_size"), [("fp16", "10GB"), (None, "30KB"), ("fp16", "30KB")])
def test_half_precision_names_and_shards_load_the_same_weights(priors, tmp_path, variant, shard_size) -> None:
    folder = write_small_prior("sd-1.5", tmp_path / "model", variant, shard_size)
    names = [path.name for path in (folder / "unet").iterdir()]
    assert any("-of-" in name for name in names) == (shard_size == "30KB")
    assert all("fp16" in name for name in names if variant and name != "config.json")
    check_model(folder, "prior")
    loaded, plain = load_prior(folder, CPU), load_prior(priors / "sd-1.5", CPU)
    for part in ("text_encoder", "vae", "unet"):
        wanted = getattr(plain, part).state_dict()
        assert all(torch.equal(value, wanted[name]) for name, value in getattr(loaded, part).state_dict().items())


def test_a_sharded_vision_language_model_loads_and_a_missing_shard_is_named(tmp_path) -> None:
    folder = write_small_vlm("qwen3_vl", tmp_path / "vlm")
    (folder / "model.safetensors").unlink()
    torch.manual_seed(0)
    build_qwen3().save_pretrained(folder, max_shard_size="500KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    check_model(folder, "vlm")
    load_vlm(folder, CPU)
    shards[1].unlink()
    for look in (lambda: load_vlm(folder, CPU), lambda: check_model(folder, "vlm")):
        with pytest.raises(ModelError, match=rf"1 of {len(shards)} shards are missing, the first is {shards[1].name}"):
            look()


def spoil_remote_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "modeling.Evil"}}))


def spoil_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def spoil_kind(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "llava"}))


def spoil_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def spoil_mixture(folder: Path) -> None:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"patch_size": 14}))


def spoil_length(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def spoil_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_remote_code, "trust_remote_code"),
        (spoil_pickle, "pickle"),
        (spoil_kind, "kind 'llava'.*qwen3_vl"),
        (spoil_json, "config.json: cannot be read"),
        (spoil_mixture, "patches of 14 px, the network wants 16 px"),
        (spoil_length, "cannot be loaded|damaged"),
        (spoil_processor, "preprocessor_config.json"),
    ],
)
def test_a_faulty_vision_language_model_is_a_clear_error(tmp_path, spoil, message) -> None:
    folder = write_small_vlm("qwen3_vl", tmp_path / "vlm")
    spoil(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_vlm(folder, CPU)
    assert caught.value.remedy and str(folder) in caught.value.where


@pytest.mark.parametrize(
    ("part", "message"),
    [("unet", "no weights"), ("vae", "no weights"), ("text_encoder", "no weights"), ("tokenizer", "tokenizer")],
)
def test_a_prior_that_lacks_a_part_is_a_clear_error(priors, tmp_path, part, message) -> None:
    folder = tmp_path / "model"
    shutil.copytree(priors / "sd-1.5", folder)
    for file in (folder / part).iterdir():
        if file.name != "config.json":
            file.unlink()
    for look in (lambda: load_prior(folder, CPU), lambda: check_model(folder, "prior")):
        with pytest.raises(ModelError, match=message) as caught:
            look()
        assert part in caught.value.where and caught.value.remedy


@pytest.mark.parametrize("file", ["model_index.json", "tokenizer/tokenizer_config.json", "unet/config.json"])
def test_a_prior_that_wants_to_run_its_own_code_is_refused(priors, tmp_path, file) -> None:
    folder = tmp_path / "model"
    shutil.copytree(priors / "sd-1.5", folder)
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(config | {"auto_map": {"AutoTokenizer": ["own.Own", None]}}))
    for look in (lambda: load_prior(folder, CPU), lambda: check_model(folder, "prior")):
        with pytest.raises(ModelError, match="trust_remote_code"):
            look()


def test_a_prior_with_a_pickle_is_refused(priors, tmp_path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(priors / "sd-1.5", folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelError, match="pickle"):
        load_prior(folder, CPU)


def test_four_bit_weights_without_cuda_are_a_clear_error(tmp_path) -> None:
    folder = write_small_vlm("qwen3_vl", tmp_path / "vlm")
    with pytest.raises(ModelError, match=r"4-bit weights need CUDA and bitsandbytes.*smaller model"):
        load_vlm(folder, CPU, four_bit=True)


def test_four_bit_weights_without_bitsandbytes_are_an_error_that_names_the_command(tmp_path, monkeypatch) -> None:
    folder = write_small_vlm("qwen3_vl", tmp_path / "vlm")
    monkeypatch.setattr(vlm, "is_bitsandbytes_available", lambda: False)
    with pytest.raises(ModelError, match=r'settings\.vlm_four_bit: .*Run: python -m pip install "bitsandbytes>='):
        load_vlm(folder, torch.device("cuda"), four_bit=True)
