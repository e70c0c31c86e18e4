"""Networks of the real models' sizes with random weights, for what only depends on size: seconds and memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel

from backend.guidance.diffusion import DiffusionPrior
from backend.guidance.multiview import multi_view_unet
from backend.guidance.mvdream import LATENT_PX, build_scheduler
from backend.guidance.questions import FULL
from backend.guidance.vlm import VisionLanguageModel
from backend.starter.vocabulary import chat_tokenizer
from tests.bench.vlm import REAL
from tests.small_priors import write_clip_tokenizer

VAE = dict(
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(128, 256, 512, 512),
    layers_per_block=2,
    sample_size=512,
)
UNET = dict(block_out_channels=(320, 640, 1280, 1280), layers_per_block=2)
UNET_2 = UNET | dict(cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True)
TEXT_1 = dict(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
TEXT_2 = dict(vocab_size=49408, hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16)
VLMS = {"qwen3-vl-2b": "Qwen3-VL-2B", "qwen3-vl-4b": "Qwen3-VL-4B", "qwen2.5-vl-7b": "Qwen2.5-VL-7B"}


def real_prior(name: str, device: torch.device, dtype: torch.dtype) -> DiffusionPrior:
    """ "sd-1.5" or "mvdream" as the hub has them, but untrained; only the tokenizer is small."""
    with _made_on(device, dtype):
        vae = AutoencoderKL(**VAE, scaling_factor=0.18215)
        if name == "sd-1.5":
            unet = UNet2DConditionModel(**UNET, sample_size=64, cross_attention_dim=768, attention_head_dim=8)
            text = CLIPTextModel(CLIPTextConfig(**TEXT_1))
        else:
            assert name == "mvdream", name
            unet = multi_view_unet(**UNET_2, sample_size=LATENT_PX)
            text = CLIPTextModel(CLIPTextConfig(**TEXT_2, hidden_act="gelu"))
    with tempfile.TemporaryDirectory() as folder:
        write_clip_tokenizer(Path(folder) / "tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(Path(folder) / "tokenizer")
    layout = torch.channels_last
    return DiffusionPrior(
        tokenizer, text, vae.to(memory_format=layout), unet.to(memory_format=layout), build_scheduler()
    )


def real_vlm(name: str, device: torch.device, largest_px: int | None) -> VisionLanguageModel:
    """One of VLMS, untrained, with a small vocabulary's tokenizer; asked in full sentences, as the real ones are."""
    preprocessing, build = REAL[VLMS[name]]
    tokenizer = chat_tokenizer()
    network = build(device)
    network.config.image_token_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    vlm = VisionLanguageModel(network, tokenizer, preprocessing.within(largest_px))
    vlm.wording = FULL
    return vlm


@contextmanager
def _made_on(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)
