"""Freshly initialised starter networks in their hub layout, for tests that need the machinery and not the skill."""

from pathlib import Path

import torch

from backend.starter.prior_model import build_text_encoder, build_unet, build_vae, save_prior
from backend.starter.vlm_model import build_network, save_vlm


def write_small_models(folder: Path) -> tuple[Path, Path]:
    """Folders of an untrained prior and an untrained vision-language model."""
    torch.manual_seed(0)
    save_prior(folder / "prior", build_vae(), build_unet(), build_text_encoder())
    save_vlm(build_network(), folder / "vlm")
    return folder / "prior", folder / "vlm"
