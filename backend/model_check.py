"""Whether a model's folder holds what loading needs: looks at every file's head, reads no weights."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from .errors import ModelError
from .guidance.fit import PORT_CLASS, check_fit
from .guidance.loading import AGAIN, check_weights, read_config, refuse_own_tokenizer

NETWORKS = {  # of a diffusers folder: part, stem of its weights' file, kinds it may be
    "text_encoder": ("model", ("CLIPTextModel",)),
    "vae": ("diffusion_pytorch_model", ("AutoencoderKL",)),
    "unet": ("diffusion_pytorch_model", ("UNet2DConditionModel", PORT_CLASS)),
}


def check_model(folder: Path, kind: str) -> int:
    """Bytes of weights in a folder that is complete. kind: "prior" or "vlm".

    Raises ModelError that names the file: missing, unreadable, cut short, a pickle, of another kind of model, or one
    that wants to run its own code.
    """
    files = _check_prior(folder) if kind == "prior" else _check_vlm(folder)
    return sum(_check_file(file) for file in files)


def _check_vlm(folder: Path) -> list[Path]:
    from .guidance.preprocess import read_preprocessing  # these import torch
    from .guidance.vlm import vlm_kind

    vlm_kind(read_config(folder / "config.json"), folder)
    read_preprocessing(folder)
    _check_tokenizer(folder)
    return check_weights(folder, "model").files


def _check_prior(folder: Path) -> list[Path]:
    read_config(folder / "model_index.json")
    _check_tokenizer(folder / "tokenizer")
    read_config(folder / "scheduler" / "scheduler_config.json")
    files = []
    for part, (stem, kinds) in NETWORKS.items():
        config = read_config(folder / part / "config.json")
        found = config.get("_class_name") or (config.get("architectures") or ["unknown"])[0]
        if found not in kinds:
            raise ModelError(
                f"is a {found}, expected {' or '.join(kinds)}",
                where=str(folder / part / "config.json"),
                remedy="Take a Stable Diffusion 1.5 or 2.1 model, see `python -m backend models list`",
            )
        files += check_weights(folder / part, stem).files
    check_fit(folder)
    return files


def _check_tokenizer(folder: Path) -> None:
    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        raise ModelError("there is no tokenizer (tokenizer.json or vocab.json)", where=str(folder), remedy=AGAIN)
    refuse_own_tokenizer(folder)


def _check_file(file: Path) -> int:
    """The file's bytes. Raises ModelError where its head and its length do not fit each other."""
    try:
        with safe_open(file, framework="np"):
            return file.stat().st_size
    except (SafetensorError, OSError) as error:
        raise ModelError(f"is damaged or cut short ({error})", where=str(file), remedy=AGAIN) from error
