"""Weights of networks that come as one file of tensors: safetensors, or a checked pickle of nothing but tensors."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..errors import ModelError

AGAIN = "Download the file again from where its authors publish it"


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name. Raises ModelError where the file is missing, damaged, or holds anything else, such as code.

    A .pt or .pth file is read by torch's restricted unpickler, which builds tensors and refuses all other objects.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError("is missing", where=str(path), remedy=AGAIN) from None
    except pickle.UnpicklingError as error:
        raise ModelError(
            "is damaged, or holds objects beside tensors, which could run any code when they are read",
            where=str(path),
            remedy="Take a file of tensors alone, best as safetensors",
        ) from error
    except Exception as error:  # both libraries raise many kinds for a damaged file
        raise ModelError(f"cannot be read ({type(error).__name__}: {error})", where=str(path), remedy=AGAIN) from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError("expected tensors by name", where=str(path), remedy=AGAIN)
    return {str(name): value for name, value in content.items()}


def load_into(network: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Fill the network with tensors of its own names. Raises ModelError naming the first that is missing or differs.

    Tensors the network has no place for are left: checkpoints carry what only training needs.
    """
    own = network.state_dict()
    for name, value in own.items():
        if name not in tensors:
            raise ModelError(f"{name} is missing among its tensors", where=str(path), remedy=AGAIN)
        if tensors[name].shape != value.shape:
            shapes = f"{tuple(tensors[name].shape)} and not {tuple(value.shape)}"
            raise ModelError(f"{name} has the shape {shapes}", where=str(path), remedy=AGAIN)
    network.load_state_dict({name: tensors[name] for name in own})


def only_file(folder: Path, patterns: tuple[str, ...], besides: tuple[str, ...], what: str) -> Path:
    """The one file of the patterns in the folder, not counting names that begin with one of `besides`.

    Raises ModelError where there is none or more than one.
    """
    found = sorted(p for pattern in patterns for p in folder.glob(pattern) if not p.name.startswith(besides))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ModelError(
            f"expected one file with {what} ({' or '.join(patterns)}), found {names}",
            where=str(folder),
            remedy="Put the downloaded file there, and no other",
        )
    return found[0]
