"""Reward models trained on people's judgements: LAION's aesthetic predictor and ImageReward.

Both are a frozen encoder and the same small head of linear layers; pictures come in as CLIP wants them.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BertTokenizer, BlipTextConfig, BlipVisionConfig, BlipVisionModel, CLIPVisionModelWithProjection
from transformers.models.blip.modeling_blip_text import BlipTextModel

from ..errors import ModelError
from .loading import refuse_missing
from .resize import resize
from .state_dicts import load_into, only_file, read_state_dict
from .text import words_cut

PX = 224  # edge of the pictures both encoders see
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training pictures, sRGB
STD = (0.26862954, 0.26130258, 0.27577711)
FEATURES = 768  # numbers the head takes
CLIP_FILES = ("model", "pytorch_model", "flax_model", "tf_model")  # not the head's, in a folder of CLIP's
PROMPT_TOKENS = 35  # ImageReward was trained on prompts cut to these
HEAD_WIDTH = 64  # of an attention head, in ViT-L and in BERT alike


def clip_pixels(images: Tensor) -> Tensor:
    """(B, 3, 224, 224) normalised, the middle square of images (B, H, W, 3) sRGB in [0, 1] (CLIP, arXiv 2103.00020)."""
    planes = images.permute(0, 3, 1, 2)
    height, width = planes.shape[-2:]
    short = min(height, width)
    rows, columns = int(PX * height / short), int(PX * width / short)
    planes = resize(planes, rows, columns)
    top, left = round((rows - PX) / 2), round((columns - PX) / 2)
    planes = planes[..., top : top + PX, left : left + PX]
    mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (MEAN, STD))
    return (planes - mean) / std


class Head(nn.Module):
    """From features (B, 768) to scores (B,): five linear layers with nothing but dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (FEATURES, 1024, 128, 64, 16, 1)
        linear = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        nothing = nn.Identity  # where the checkpoints' numbering has a dropout
        self.layers = nn.Sequential(linear[0], nothing(), linear[1], nothing(), linear[2], nothing(), *linear[3:])

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)[:, 0]


class Aesthetic:
    """LAION's aesthetic predictor: how much people would like a picture, on a scale of about 1 to 10."""

    def __init__(self, encoder: CLIPVisionModelWithProjection, head: Head) -> None:
        self.encoder, self.head = encoder.eval().requires_grad_(False), head.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, images: Tensor, prompt: str) -> Tensor:
        """(B,) of images (B, H, W, 3) sRGB in [0, 1]; the prompt does not count."""
        embeddings = self.encoder(pixel_values=clip_pixels(images)).image_embeds
        return self.head(torch.nn.functional.normalize(embeddings.float(), dim=-1))


def load_aesthetic(folder: Path, device: torch.device) -> Aesthetic:
    """The predictor in a folder of CLIP ViT-L/14 (transformers layout) with the head's file beside it.

    Raises ModelError when a file is missing, damaged or of another kind.
    """
    path = only_file(folder, ("*.pth", "*.pt", "*.safetensors"), CLIP_FILES, "the aesthetic head")
    head = Head()
    load_into(head, read_state_dict(path), path)
    try:
        encoder, info = CLIPVisionModelWithProjection.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True
        )
        refuse_missing(info)
    except Exception as error:  # the library raises many kinds for a damaged file
        raise ModelError(
            f"CLIP cannot be loaded ({type(error).__name__}: {error})",
            where=str(folder),
            remedy="Put config.json and model.safetensors of CLIP ViT-L/14 there",
        ) from error
    if encoder.config.projection_dim != FEATURES:
        raise ModelError(
            "this is not CLIP ViT-L/14", where=str(folder), remedy="The head was trained on that one alone"
        )
    return Aesthetic(encoder.to(device), head.to(device))


class ImageReward:
    """ImageReward (arXiv 2304.05977): how well people find a picture to match its prompt, standardised."""

    MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of its raw scores, published with the weights

    def __init__(self, eye: BlipVisionModel, reader: BlipTextModel, head: Head, tokenizer: BertTokenizer) -> None:
        self.eye, self.reader, self.head = (part.eval().requires_grad_(False) for part in (eye, reader, head))
        self.tokenizer = tokenizer

    @torch.no_grad()
    def __call__(self, images: Tensor, prompt: str) -> Tensor:
        """(B,) of images (B, H, W, 3) sRGB in [0, 1]. Of the prompt 35 tokens count."""
        device, count = images.device, len(images)
        seen = self.eye(pixel_values=clip_pixels(images)).last_hidden_state
        text = self.tokenizer(prompt, padding="max_length", truncation=True, max_length=PROMPT_TOKENS)
        ids, mask = (
            torch.tensor([text[key]], device=device).expand(count, -1) for key in ("input_ids", "attention_mask")
        )
        read = self.reader(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.int64, device=device),
            use_cache=False,
        ).last_hidden_state[:, 0]
        return (self.head(read.float()) - self.MEAN) / self.STD

    def words_cut(self, prompt: str) -> str:
        """The end of the prompt that does not count; "" when all of it does."""
        return words_cut(self.tokenizer, prompt, PROMPT_TOKENS)


def load_image_reward(folder: Path, device: torch.device) -> ImageReward:
    """ImageReward in a folder of its published file and BERT's tokenizer (bert-base-uncased: vocab.txt).

    The sizes are read off the tensors. Raises ModelError when a file is missing, damaged or of another kind.
    """
    path = only_file(folder, ("*.pt", "*.safetensors"), (), "ImageReward")
    tensors = read_state_dict(path)
    try:
        tokenizer = BertTokenizer.from_pretrained(folder)
    except Exception as error:
        raise ModelError(
            f"the tokenizer cannot be loaded ({type(error).__name__}: {error})",
            where=str(folder),
            remedy="Put the tokenizer files of bert-base-uncased there (vocab.txt, tokenizer_config.json)",
        ) from error
    try:
        eye, reader = BlipVisionModel(_vision_config(tensors)), BlipTextModel(_text_config(tensors), False)
    except (KeyError, IndexError) as error:
        raise ModelError(f"is not ImageReward: {error} is missing", where=str(path), remedy="Take that file") from error
    load_into(eye, vision_names(tensors), path)
    load_into(reader, _within(tensors, "blip.text_encoder."), path)
    head = Head()
    load_into(head, _within(tensors, "mlp."), path)
    return ImageReward(eye.to(device), reader.to(device), head.to(device), tokenizer)


def vision_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The vision part's tensors under the names that transformers' BLIP has for them."""
    renamed = {}
    outside = {
        "cls_token": "embeddings.class_embedding",
        "pos_embed": "embeddings.position_embedding",
        "patch_embed.proj.weight": "embeddings.patch_embedding.weight",
        "patch_embed.proj.bias": "embeddings.patch_embedding.bias",
        "norm.weight": "post_layernorm.weight",
        "norm.bias": "post_layernorm.bias",
    }
    inside = {"attn.qkv": "self_attn.qkv", "attn.proj": "self_attn.projection", "norm1": "layer_norm1"}
    inside |= {"norm2": "layer_norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for name, value in _within(tensors, "blip.visual_encoder.").items():
        if name in outside:
            renamed[outside[name]] = value
        elif name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            part, kind = rest.rsplit(".", 1)
            renamed[f"encoder.layers.{number}.{inside.get(part, part)}.{kind}"] = value
    return renamed


def _within(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _layers(tensors: dict[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})


def _vision_config(tensors: dict[str, Tensor]) -> BlipVisionConfig:
    width = tensors["blip.visual_encoder.cls_token"].shape[-1]
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=tensors["blip.visual_encoder.blocks.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=_layers(tensors, "blip.visual_encoder.blocks."),
        num_attention_heads=width // HEAD_WIDTH,
        image_size=PX,
        patch_size=tensors["blip.visual_encoder.patch_embed.proj.weight"].shape[-1],
        layer_norm_eps=1e-6,  # BLIP's own; the config's default is another
    )


def _text_config(tensors: dict[str, Tensor]) -> BlipTextConfig:
    words, width = tensors["blip.text_encoder.embeddings.word_embeddings.weight"].shape
    key = tensors["blip.text_encoder.encoder.layer.0.crossattention.self.key.weight"]
    return BlipTextConfig(
        vocab_size=words,
        hidden_size=width,
        encoder_hidden_size=key.shape[1],
        intermediate_size=tensors["blip.text_encoder.encoder.layer.0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=_layers(tensors, "blip.text_encoder.encoder.layer."),
        num_attention_heads=width // HEAD_WIDTH,
    )
