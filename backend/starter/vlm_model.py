"""The starter vision-language model before training: a Qwen2.5-VL of two million parameters, in transformers layout."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from .dataset import PIXELS
from .vocabulary import chat_tokenizer

PATCH, MERGE, FRAMES = 8, 2, 2
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def build_network(width: int = 128, vision_layers: int = 4, text_layers: int = 4) -> Qwen2_5_VLForConditionalGeneration:
    """A freshly initialised network; call torch.manual_seed first for the same weights again."""
    tokenizer = chat_tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "vision_end", "image_pad")}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": text_layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [width // 32, width // 32 + width // 64, width // 8 - 2 * (width // 32) - width // 64],
            },
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": None,
        },
        vision_config={
            "depth": vision_layers,
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_heads": 4,
            "out_hidden_size": width,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": FRAMES,
            "window_size": PIXELS,
            "fullatt_block_indexes": list(range(vision_layers)),
        },
        image_token_id=ids["image_pad"],
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
        tie_word_embeddings=True,
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def save_vlm(network: Qwen2_5_VLForConditionalGeneration, folder: Path) -> None:
    """Write weights, tokenizer and preprocessing in the layout `guidance.vlm.load_vlm` reads."""
    network.save_pretrained(folder)
    chat_tokenizer().save_pretrained(folder)
    config = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": PATCH,
        "merge_size": MERGE,
        "temporal_patch_size": FRAMES,
        "image_mean": MEAN,
        "image_std": STD,
        "min_pixels": PIXELS * PIXELS,
        "max_pixels": PIXELS * PIXELS * 16,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "rescale_factor": 1 / 255,
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(config, indent=2) + "\n")
