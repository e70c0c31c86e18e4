"""Whether a model's folder holds what loading needs: looks at every file's head, reads no weights.

MVDream's original checkpoint alone is loaded: what it holds is told by nothing but its tensors.
"""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from .errors import ModelError
from .guidance.fit import PORT_CLASS, check_fit
from .guidance.loading import AGAIN, check_weights, checkpoint_file, read_config, refuse_own_tokenizer
from .models_table import Kind, kind_in

NETWORKS = {  # of a diffusers folder: part, stem of its weights' file, kinds it may be
    "text_encoder": ("model", ("CLIPTextModel",)),
    "vae": ("diffusion_pytorch_model", ("AutoencoderKL",)),
    "unet": ("diffusion_pytorch_model", ("UNet2DConditionModel", PORT_CLASS)),
}


def kind_of(place: Path) -> Kind:
    """Of which kind the model in a folder is, or the checkpoint's file. Raises ModelError where there is none."""
    kind = kind_in(place)
    if kind:
        return kind
    if checkpoint_file(place):
        return "prior"
    raise ModelError(
        "there is no model here",
        where=str(place),
        remedy="Give a folder that holds model_index.json, config.json or MVDream's checkpoint",
    )


def check_model(folder: Path, kind: Kind) -> int:
    """Bytes of weights in a folder that is complete, or in a checkpoint of MVDream's.

    Raises ModelError that names the file: missing, unreadable, cut short, a pickle, of another kind of model, or one
    that wants to run its own code.
    """
    if kind == "prior" and (checkpoint := checkpoint_file(folder)):
        return _check_checkpoint(checkpoint)
    check_settings(folder, kind)
    if kind == "vlm":
        files = check_weights(folder, "model").files
    else:
        files = [file for part, (stem, _) in NETWORKS.items() for file in check_weights(folder / part, stem).files]
    return sum(_check_file(file) for file in files)


def check_settings(folder: Path, kind: Kind) -> None:
    """Raise ModelError as check_model does, for everything but the weights."""
    if kind == "vlm":
        from .guidance.preprocess import read_preprocessing  # these import torch
        from .guidance.vlm import vlm_kind

        vlm_kind(read_config(folder / "config.json"), folder)
        read_preprocessing(folder)
        _check_tokenizer(folder)
        return
    read_config(folder / "model_index.json")
    _check_tokenizer(folder / "tokenizer")
    read_config(folder / "scheduler" / "scheduler_config.json")
    for part, (_, kinds) in NETWORKS.items():
        config = read_config(folder / part / "config.json")
        found = config.get("_class_name") or (config.get("architectures") or ["unknown"])[0]
        if found not in kinds:
            raise ModelError(
                f"is a {found}, expected {' or '.join(kinds)}",
                where=str(folder / part / "config.json"),
                remedy="Take a Stable Diffusion 1.5 or 2.1 model, see `python -m backend models list`",
            )
    check_fit(folder)


def _check_checkpoint(file: Path) -> int:
    """The bytes of MVDream's checkpoint. Raises ModelError where it, or the tokenizer beside it, cannot be loaded."""
    import torch

    from .guidance.mvdream import load_checkpoint

    load_checkpoint(file, torch.float32)
    return file.stat().st_size


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
