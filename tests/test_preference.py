"""LAION's aesthetic predictor and ImageReward from files in their published layout, with random weights."""

import math
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import BertTokenizer, CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from backend.errors import ModelError
from backend.guidance.models import load_models
from backend.guidance.preference import PROMPT_TOKENS, clip_pixels, load_aesthetic, load_image_reward
from backend.guidance.rewards import load_reward
from backend.guidance.state_dicts import read_state_dict
from backend.presets import settings_for

CPU = torch.device("cpu")
HEAD_SIZES = {
    0: (1024, 768),
    2: (128, 1024),
    4: (64, 128),
    6: (16, 64),
    7: (1, 16),
}  # as the published files number them


def pictures(count: int, height: int = 64, width: int = 64) -> Tensor:
    values = torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(0))
    return (values * 255).round() / 255


def head_tensors(prefix: str = "") -> dict[str, Tensor]:
    generator, tensors = torch.Generator().manual_seed(1), {}
    for number, shape in HEAD_SIZES.items():
        tensors[f"{prefix}layers.{number}.weight"] = torch.randn(shape, generator=generator) / math.sqrt(shape[1])
        tensors[f"{prefix}layers.{number}.bias"] = torch.randn(shape[0], generator=generator) / 10
    return tensors


def head_by_hand(features: Tensor, tensors: dict[str, Tensor], prefix: str = "") -> Tensor:
    for number in HEAD_SIZES:
        weight, bias = (tensors[f"{prefix}layers.{number}.{kind}"] for kind in ("weight", "bias"))
        features = features @ weight.T + bias
    return features[:, 0]


@pytest.fixture
def aesthetic_folder(tmp_path):
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        patch_size=32,
        projection_dim=768,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path)
    torch.save(head_tensors(), tmp_path / "sac+logos+ava1-l14-linearMSE.pth")
    return tmp_path


def test_the_aesthetic_score_is_the_head_of_the_normalised_embedding(aesthetic_folder) -> None:
    images = pictures(3)
    encoder = CLIPVisionModelWithProjection.from_pretrained(aesthetic_folder).eval()
    embeddings = encoder(pixel_values=clip_pixels(images)).image_embeds
    wanted = head_by_hand(embeddings / embeddings.norm(dim=-1, keepdim=True), head_tensors())
    torch.testing.assert_close(load_aesthetic(aesthetic_folder, CPU)(images, "whatever"), wanted, atol=1e-5, rtol=1e-5)


def test_the_whole_of_clip_serves_as_well_as_its_vision_part(aesthetic_folder) -> None:
    wanted = load_aesthetic(aesthetic_folder, CPU)(pictures(3), "")
    eye = CLIPVisionModelWithProjection.from_pretrained(aesthetic_folder)
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"vocab_size": 50, "bos_token_id": 48, "eos_token_id": 49}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=eye.config.to_dict(), projection_dim=768))
    clip.vision_model, clip.visual_projection = eye.vision_model, eye.visual_projection
    clip.save_pretrained(aesthetic_folder)
    torch.testing.assert_close(load_aesthetic(aesthetic_folder, CPU)(pictures(3), ""), wanted)


def test_a_reward_of_views_is_the_mean_over_them(aesthetic_folder) -> None:
    images = pictures(4)
    single = load_aesthetic(aesthetic_folder, CPU)(images, "")
    views = load_reward("aesthetic", str(aesthetic_folder), CPU).score(images.unflatten(0, (2, 2)), "")
    torch.testing.assert_close(views, single.view(2, 2).mean(1))


@pytest.mark.parametrize("size", [(64, 64), (100, 64), (64, 301)])
def test_clip_pixels_are_the_middle_square(size) -> None:
    flat = torch.full((1, *size, 3), 0.5)
    pixels = clip_pixels(flat)
    assert pixels.shape == (1, 3, 224, 224)
    assert pixels[0, 0].std() < 1e-6
    assert pixels[0, 0, 0, 0].item() == pytest.approx((0.5 - 0.48145466) / 0.26862954, abs=0.02)


class Harmful:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_pickle_that_holds_code_is_refused_and_does_not_run(tmp_path, capsys) -> None:
    torch.save({"layers.0.weight": Harmful()}, tmp_path / "head.pth")
    with pytest.raises(ModelError, match="could run any code"):
        read_state_dict(tmp_path / "head.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(ModelError):
        read_state_dict(tmp_path / "raw.pth")
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"no model", b"PK\x03\x04broken"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_is_named(tmp_path, content, suffix) -> None:
    path = tmp_path / f"head{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"head{suffix}"):
        read_state_dict(path)


def test_a_file_of_something_else_than_tensors_is_refused(tmp_path) -> None:
    torch.save([1, 2], tmp_path / "head.pth")
    with pytest.raises(ModelError, match="expected tensors by name"):
        read_state_dict(tmp_path / "head.pth")


@pytest.mark.parametrize("fault", ["no head", "two heads", "missing", "shape", "no clip"])
def test_faults_of_an_aesthetic_folder_are_named(aesthetic_folder, fault) -> None:
    head = aesthetic_folder / "sac+logos+ava1-l14-linearMSE.pth"
    tensors = head_tensors()
    says = {"no head": "found none", "two heads": "found other.safetensors, sac", "missing": "layers.4.bias is missing"}
    says |= {"shape": "layers.4.bias has the shape", "no clip": "CLIP cannot be loaded"}
    if fault == "no head":
        head.unlink()
    elif fault == "two heads":
        save_file(tensors, aesthetic_folder / "other.safetensors")
    elif fault == "no clip":
        (aesthetic_folder / "model.safetensors").unlink()
    else:
        bias = tensors.pop("layers.4.bias")
        torch.save(tensors | ({"layers.4.bias": bias[:3].clone()} if fault == "shape" else {}), head)
    with pytest.raises(ModelError, match=says[fault]):
        load_aesthetic(aesthetic_folder, CPU)


def test_a_reward_folder_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(ModelError, match="nowhere: there is no such folder"):
        load_reward("image-reward", str(tmp_path / "nowhere"), CPU)


WIDTH, READER, WORDS, PATCHES = 128, 768, 40, 14 * 14


def blip_tensors() -> dict[str, Tensor]:
    """ImageReward's tensors under the names of its published file, one layer each; the reader keeps BERT's width, which
    the head needs."""
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * (0.3 if len(shape) == 1 else 0.5 / math.sqrt(shape[-1]))

    def linear(name: str, to: int, of: int) -> dict[str, Tensor]:
        return {f"{name}.weight": random(to, of), f"{name}.bias": random(to)}

    def norm(name: str, of: int) -> dict[str, Tensor]:
        return {f"{name}.weight": 1 + random(of), f"{name}.bias": random(of)}

    eye, block = "blip.visual_encoder", "blip.visual_encoder.blocks.0"
    tensors = {f"{eye}.cls_token": random(1, 1, WIDTH), f"{eye}.pos_embed": random(1, PATCHES + 1, WIDTH)}
    tensors |= {
        f"{eye}.patch_embed.proj.weight": random(WIDTH, 3, 16, 16),
        f"{eye}.patch_embed.proj.bias": random(WIDTH),
    }
    tensors |= norm(f"{block}.norm1", WIDTH) | norm(f"{block}.norm2", WIDTH) | norm(f"{eye}.norm", WIDTH)
    tensors |= linear(f"{block}.attn.qkv", 3 * WIDTH, WIDTH) | linear(f"{block}.attn.proj", WIDTH, WIDTH)
    tensors |= linear(f"{block}.mlp.fc1", 2 * WIDTH, WIDTH) | linear(f"{block}.mlp.fc2", WIDTH, 2 * WIDTH)
    reader, layer = "blip.text_encoder.embeddings", "blip.text_encoder.encoder.layer.0"
    tensors |= {f"{reader}.word_embeddings.weight": random(WORDS, READER)}
    tensors |= {f"{reader}.position_embeddings.weight": random(512, READER)} | norm(f"{reader}.LayerNorm", READER)
    tensors |= {f"{reader}.position_ids": torch.arange(512)[None], "blip.vision_proj.weight": random(4, 4)}
    for attention, of in (("attention", READER), ("crossattention", WIDTH)):
        tensors |= linear(f"{layer}.{attention}.self.query", READER, READER)
        tensors |= linear(f"{layer}.{attention}.self.key", READER, of) | linear(
            f"{layer}.{attention}.self.value", READER, of
        )
        tensors |= linear(f"{layer}.{attention}.output.dense", READER, READER)
        tensors |= norm(f"{layer}.{attention}.output.LayerNorm", READER)
    tensors |= linear(f"{layer}.intermediate.dense", 96, READER) | linear(f"{layer}.output.dense", READER, 96)
    return tensors | norm(f"{layer}.output.LayerNorm", READER) | head_tensors("mlp.")


def blip_by_hand(pixels: Tensor, ids: Tensor, mask: Tensor, w: dict[str, Tensor]) -> Tensor:
    """The scores, written from the papers (ViT 2010.11929, BERT 1810.04805, BLIP 2201.12086) with no library layer."""

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: Tensor, name: str, eps: float) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)

    def attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None) -> Tensor:
        q, k, v = (x.unflatten(-1, (-1, 64)).transpose(1, 2) for x in (q, k, v))
        scores = q @ k.transpose(-1, -2) / 8
        if seen is not None:
            scores = scores.masked_fill(~seen[:, None, None], -torch.inf)
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)

    eye, block, layer = "blip.visual_encoder", "blip.visual_encoder.blocks.0", "blip.text_encoder.encoder.layer.0"
    patches = functional.conv2d(
        pixels, w[f"{eye}.patch_embed.proj.weight"], w[f"{eye}.patch_embed.proj.bias"], stride=16
    )
    x = torch.cat([w[f"{eye}.cls_token"].expand(len(pixels), -1, -1), patches.flatten(2).transpose(1, 2)], 1)
    x = x + w[f"{eye}.pos_embed"]
    q, k, v = linear(norm(x, f"{block}.norm1", 1e-6), f"{block}.attn.qkv").chunk(3, -1)
    x = x + linear(attend(q, k, v), f"{block}.attn.proj")
    x = x + linear(functional.gelu(linear(norm(x, f"{block}.norm2", 1e-6), f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
    seen = norm(x, f"{eye}.norm", 1e-6)

    reader = "blip.text_encoder.embeddings"
    y = w[f"{reader}.word_embeddings.weight"][ids] + w[f"{reader}.position_embeddings.weight"][: ids.shape[1]]
    y = norm(y, f"{reader}.LayerNorm", 1e-12)
    for name, of, allowed in (("attention", None, mask.bool()), ("crossattention", seen, None)):
        keys = y if of is None else of
        q, k, v = (linear(z, f"{layer}.{name}.self.{p}") for z, p in ((y, "query"), (keys, "key"), (keys, "value")))
        y = norm(
            y + linear(attend(q, k, v, allowed), f"{layer}.{name}.output.dense"),
            f"{layer}.{name}.output.LayerNorm",
            1e-12,
        )
    z = linear(functional.gelu(linear(y, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
    y = norm(y + z, f"{layer}.output.LayerNorm", 1e-12)
    return (head_by_hand(y[:, 0], w, "mlp.") - 0.16717362830052426) / 1.0333394966054072


@pytest.fixture
def image_reward_folder(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "cube", "blue", "sphere"]
    (tmp_path / "vocab.txt").write_text("\n".join(words + [f"word{i}" for i in range(WORDS - 12)]) + "\n")
    BertTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    torch.save(blip_tensors(), tmp_path / "ImageReward.pt")
    return tmp_path


def test_image_reward_is_the_network_of_the_papers(image_reward_folder) -> None:
    model, images = load_image_reward(image_reward_folder, CPU), pictures(2)
    ids = torch.zeros(2, PROMPT_TOKENS, dtype=torch.int64)
    ids[:, :5] = torch.tensor([2, 5, 6, 7, 3])  # [CLS] a red cube [SEP]
    wanted = blip_by_hand(clip_pixels(images), ids, ids > 0, blip_tensors())
    found = model(images, "a red cube")
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert (found - model(images, "a blue cube")).abs().min() > 1e-4  # the prompt counts
    assert (found[0] - found[1]).abs() > 1e-4  # and the picture


def test_image_reward_names_the_words_it_does_not_read(image_reward_folder) -> None:
    model = load_image_reward(image_reward_folder, CPU)
    assert model.words_cut("a red cube") == ""
    assert model.words_cut("a " * 33 + "red cube") == "red cube"


def test_a_run_loads_the_reward_that_its_settings_name_and_tells_what_it_does_not_read(
    folders, aesthetic_folder
) -> None:
    prior, vlm = map(str, folders)
    chosen = {"prior": prior, "vlm": vlm, "reward": "aesthetic", "reward_folder": str(aesthetic_folder)}
    models, views = load_models(settings_for("starter", chosen), CPU), pictures(4).unflatten(0, (2, 2))
    wanted = load_aesthetic(aesthetic_folder, CPU)(views.flatten(0, 1), "").view(2, 2).mean(1)
    torch.testing.assert_close(models.reward.score(views, "a red cube"), wanted, atol=1e-5, rtol=1e-5)
    assert not any("reward" in line for line in models.warnings(["a red cube"]))
    short = models._replace(reward=models.reward._replace(words_cut=lambda text: text.partition(" red ")[2]))
    lines = short.warnings(["a red cube"], negative="a red sphere")
    assert "of 'a red cube' the reward model does not see: 'cube'" in lines
    assert not any("sphere" in line and "reward" in line for line in lines)


def test_image_reward_without_a_tensor_is_refused(image_reward_folder) -> None:
    tensors = blip_tensors()
    del tensors["blip.visual_encoder.blocks.0.mlp.fc1.bias"]
    torch.save(tensors, image_reward_folder / "ImageReward.pt")
    with pytest.raises(ModelError, match=r"mlp.fc1.bias is missing"):
        load_image_reward(image_reward_folder, CPU)
    torch.save(head_tensors(), image_reward_folder / "ImageReward.pt")
    with pytest.raises(ModelError, match="is not ImageReward"):
        load_image_reward(image_reward_folder, CPU)
