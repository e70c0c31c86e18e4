"""What the loading of frozen networks has in common: nothing but JSON and safetensors is read, nothing is made up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ModelError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".ckpt", ".pth")
AGAIN = "Download the model again, with all its files"


class Weights(NamedTuple):
    """The files that hold one network's weights."""

    files: list[Path]
    variant: str | None  # in the files' names, as `from_pretrained` wants it: "fp16"


def refuse_missing(info: Mapping[str, Any]) -> None:
    """Raise ValueError when the files lacked tensors, which the libraries would fill with noise and a warning.

    info: what `from_pretrained(..., output_loading_info=True)` returns beside the network.
    """
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(f"{len(missing)} tensors are missing, the first is {missing[0]}")
    mismatched = sorted(str(key) for key in info.get("mismatched_keys") or ())
    if mismatched:
        raise ValueError(f"{len(mismatched)} tensors have another shape, the first is {mismatched[0]}")


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in a model's file. Raises ModelError where there is none, or where it wants to run code."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError("is missing", where=str(path), remedy=AGAIN) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be read ({error})", where=str(path), remedy=AGAIN) from error
    if not isinstance(config, dict):
        raise ModelError("expected a JSON object", where=str(path), remedy=AGAIN)
    if "auto_map" in config or "custom_pipelines" in config:
        raise ModelError(
            "this model wants to run code of its own (trust_remote_code), which is never done here",
            where=str(path),
            remedy="Take a model that the libraries know, see `python -m backend models list`",
        )
    return config


def refuse_own_tokenizer(folder: Path) -> None:
    """Raise ModelError where a tokenizer's folder wants to run code of its own."""
    path = folder / "tokenizer_config.json"
    if path.is_file():
        read_config(path)


def check_weights(folder: Path, stem: str) -> Weights:
    """The safetensors files of one network in `folder`, all there. stem: "model" or "diffusion_pytorch_model".

    Half-precision variants count where the plain files are absent. Raises ModelError for missing weights, missing
    shards, and weights that are there as pickles only.
    """
    for variant in (None, "fp16"):
        mark = f".{variant}" if variant else ""
        single, index = folder / f"{stem}{mark}.safetensors", folder / f"{stem}.safetensors.index{mark}.json"
        if single.is_file():
            return Weights([single], variant)
        if index.is_file():
            return Weights(_shards(index), variant)
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ModelError(
            f"the weights are a pickle ({pickles[0]}), which can run any code when it is read",
            where=str(folder),
            remedy="Take the model's safetensors files",
        )
    raise ModelError(f"there are no weights ({stem}.safetensors)", where=str(folder), remedy=AGAIN)


def checkpoint_file(place: Path) -> Path | None:
    """MVDream's original checkpoint that `place` is or directly holds; None for other files and layouts.

    Raises ModelError where a folder holds several.
    """
    if place.is_file():
        return place if place.suffix in CHECKPOINT_SUFFIXES else None
    if not place.is_dir() or any((place / name).is_file() for name in ("model_index.json", "config.json")):
        return None
    files = [file for file in sorted(place.iterdir()) if file.suffix in CHECKPOINT_SUFFIXES]
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise ModelError(f"there are several checkpoints: {names}", where=str(place), remedy="Name one of these files")
    return files[0] if files else None


def _shards(index: Path) -> list[Path]:
    """The files that an index of shards names. Raises ModelError where some are missing."""
    mapping = read_config(index).get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        raise ModelError("names no shards (weight_map)", where=str(index), remedy=AGAIN)
    shards = sorted({str(name) for name in mapping.values()})
    missing = [name for name in shards if not (index.parent / name).is_file()]
    if missing:
        raise ModelError(
            f"{len(missing)} of {len(shards)} shards are missing, the first is {missing[0]}",
            where=str(index.parent),
            remedy=AGAIN,
        )
    return [index.parent / name for name in shards]
