"""Whether the parts of a diffusers folder fit each other and this program: their settings tell, no weights are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ModelError
from .loading import read_config

PORT_CLASS = "MultiViewUNetModel"  # the name that MVDream's port to diffusers has for the denoiser
POSE_NUMBERS = 16  # of a camera's matrix
PREDICTIONS = ("epsilon", "v_prediction")
FITTING = "Take a Stable Diffusion 1.5 or 2.1 model that makes pictures from text, see `python -m backend models list`"


def check_fit(folder: Path) -> None:
    """Raise ModelError for a denoiser that wants more than noisy latents, text and camera; names file and setting."""
    predicts = read_config(folder / "scheduler" / "scheduler_config.json").get("prediction_type", "epsilon")
    if predicts not in PREDICTIONS:
        where = folder / "scheduler" / "scheduler_config.json"
        raise _unfit(f"prediction_type is {predicts!r}, known are {' and '.join(PREDICTIONS)}", where)
    unet, where = read_config(folder / "unet" / "config.json"), folder / "unet" / "config.json"
    if unet.get("_class_name") == PORT_CLASS:
        return
    for setting in ("addition_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim"):
        if unet.get(setting) is not None:
            raise _unfit(
                f"{setting} is {unet[setting]!r}: this denoiser wants more than a text (as SDXL's does)", where
            )
    embeds, numbers = unet.get("class_embed_type"), unet.get("projection_class_embeddings_input_dim")
    if embeds is not None and (embeds, numbers) != ("projection", POSE_NUMBERS):
        raise _unfit(f"class_embed_type is {embeds!r} of {numbers} numbers, not a camera's {POSE_NUMBERS}", where)
    latents = read_config(folder / "vae" / "config.json").get("latent_channels", 4)
    if unet.get("in_channels", 4) != latents:
        made = f"in_channels is {unet.get('in_channels', 4)}, the autoencoder's latents have {latents}"
        raise _unfit(f"{made} (an inpainting or editing model has more)", where)
    width = read_config(folder / "text_encoder" / "config.json").get("hidden_size", 512)
    if set(_widths(unet)) != {width}:
        raise _unfit(f"cross_attention_dim is {unet.get('cross_attention_dim')}, the text encoder's is {width}", where)


def _widths(unet: dict[str, Any]) -> list[int]:
    said = unet.get("cross_attention_dim", 1280)
    return said if isinstance(said, list) else [said]


def _unfit(what: str, where: Path) -> ModelError:
    return ModelError(what, where=str(where), remedy=FITTING)
