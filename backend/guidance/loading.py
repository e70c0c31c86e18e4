"""What the loading of frozen networks has in common: nothing but JSON and safetensors is read, nothing is made up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ModelError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
AGAIN = "Download the model again, with all its files"


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


def check_weights(folder: Path, stem: str) -> list[Path]:
    """The safetensors files of one network in `folder`, all there. stem: "model" or "diffusion_pytorch_model".

    Raises ModelError for missing weights, missing shards, and weights that are there as pickles only.
    """
    index = folder / f"{stem}.safetensors.index.json"
    single = folder / f"{stem}.safetensors"
    if single.is_file():
        return [single]
    if index.is_file():
        mapping = read_config(index).get("weight_map")
        if not isinstance(mapping, dict):
            raise ModelError("names no shards (weight_map)", where=str(index), remedy=AGAIN)
        shards = sorted({str(name) for name in mapping.values()})
        missing = [name for name in shards if not (folder / name).is_file()]
        if missing:
            raise ModelError(
                f"{len(missing)} of {len(shards)} shards are missing, the first is {missing[0]}",
                where=str(folder),
                remedy=AGAIN,
            )
        return [folder / name for name in shards]
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ModelError(
            f"the weights are a pickle ({pickles[0]}), which can run any code when it is read",
            where=str(folder),
            remedy="Take the model's safetensors files",
        )
    raise ModelError(f"there are no weights ({single.name})", where=str(folder), remedy=AGAIN)
