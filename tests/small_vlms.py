"""Small untrained vision-language models of both Qwen families, in the layout of their hub folders."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from backend.starter.vlm_model import build_network, save_vlm
from backend.starter.vocabulary import chat_tokenizer

FAMILIES = ("qwen2_5_vl", "qwen3_vl")


def write_small_vlm(family: str, folder: Path) -> Path:
    """A folder with an untrained model of the family."""
    torch.manual_seed(0)
    if family == "qwen2_5_vl":
        save_vlm(build_network(), folder)
    else:
        build_qwen3().save_pretrained(folder)
        chat_tokenizer().save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(QWEN3_PREPROCESSING))
    return folder


QWEN3_PREPROCESSING = {  # as in the family's hub folders, less large
    "image_processor_type": "Qwen2VLImageProcessorFast",
    "patch_size": 16,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "size": {"shortest_edge": 64 * 64, "longest_edge": 64 * 64 * 16},
}


def build_qwen3(width: int = 64, vision_layers: int = 4, text_layers: int = 4) -> Qwen3VLForConditionalGeneration:
    """An untrained Qwen3-VL: interleaved rotary positions, deepstack features of two vision layers."""
    tokenizer = chat_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": text_layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,  # as in the real ones, more than width / heads
        "max_position_embeddings": 2048,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
        },
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    vision = {
        "depth": vision_layers,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_heads": 4,
        "out_hidden_size": width,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 2],
    }
    ids = {f"{n}_id": tokenizer.convert_tokens_to_ids(f"<|{w}|>") for n, w in MARKS.items()}
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    return Qwen3VLForConditionalGeneration(config)


MARKS = {
    "image_token": "image_pad",
    "video_token": "video_pad",
    "vision_start_token": "vision_start",
    "vision_end_token": "vision_end",
}
