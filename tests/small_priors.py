"""Small untrained diffusion models in the layout of Stable Diffusion's hub folders."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

FAMILIES = ("sd-1.5", "sd-2.1-base", "sd-2.1-v")
WIDTH, TOKENS = 32, 77
NOISE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", set_alpha_to_one=False, steps_offset=1)


def write_small_prior(family: str, folder: Path, variant: str | None = None, shard_size: str = "10GB") -> Path:
    """A folder with the family's parts, settings and file names, its networks made small.

    variant: "fp16" names the weights' files as half-precision ones. shard_size: weights are split into such files.
    """
    torch.manual_seed(0)
    two = family != "sd-1.5"
    write_clip_tokenizer(folder / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=512 + 2,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        hidden_act="gelu" if two else "quick_gelu",
        bos_token_id=512,
        eos_token_id=513,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.18215,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=WIDTH,
        attention_head_dim=(2, 4) if two else 4,  # 2.x gives one number a level
        use_linear_projection=two,
    )
    options = {"safe_serialization": True, "variant": variant, "max_shard_size": shard_size}
    CLIPTextModel(text).save_pretrained(folder / "text_encoder", **options)
    vae.save_pretrained(folder / "vae", **options)
    unet.save_pretrained(folder / "unet", **options)
    _scheduler(family).save_pretrained(folder / "scheduler")
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _scheduler(family: str) -> PNDMScheduler | DDIMScheduler:
    if family == "sd-2.1-v":
        return DDIMScheduler(**NOISE, prediction_type="v_prediction", clip_sample=False)
    return PNDMScheduler(**NOISE, skip_prk_steps=True)  # as 1.5 and 2.1-base come


def write_clip_tokenizer(folder: Path) -> None:
    """CLIP's byte-pair tokenizer with letters only, as vocab.json and merges.txt, without tokenizer.json."""
    folder.mkdir(parents=True)
    letters = [chr(33 + i) if i < 94 else chr(161 + i) for i in range(256)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    config = {"tokenizer_class": CLIPTokenizer.__name__, "model_max_length": TOKENS, "pad_token": "<|endoftext|>"}
    config |= {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
