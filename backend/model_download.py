"""A model's files from the hub into its folder: only on request, only JSON, text and safetensors, resumable."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ModelError
from .model_check import NETWORKS, check_model, check_settings
from .models_table import UNKNOWN_LICENCE, Kind, Model, stored_folder

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TEXT = (".json", ".txt", ".jinja")  # settings, vocabularies, chat templates
PRIOR_PARTS = (*NETWORKS, "tokenizer", "scheduler")
SPARE_BYTES = 2**30  # left free on the disk


def find_model(hub_id: str, api: HfApi) -> Model:
    """What would be the row of a model that the table does not have: its kind and size are as the hub's files tell.

    Raises ModelError as download does.
    """
    _, sizes = _listing(hub_id, api)
    if not sizes.keys() & {"model_index.json", "config.json"}:
        raise ModelError(
            "holds no model in the layout of diffusers or of transformers (model_index.json, config.json)",
            where=hub_id,
            remedy="Choose another model, see `python -m backend models list`",
        )
    kind: Kind = "prior" if "model_index.json" in sizes else "vlm"
    model = Model(hub_id, kind, hub_id, UNKNOWN_LICENCE, "", True, 0.0, "fp16")
    return model._replace(size_gb=sum(sizes[name] for name in files_of(model, sizes)) / 1e9)


def download(model: Model, api: HfApi) -> Path:
    """The folder that now holds the model, complete and checked; what settings alone can tell, before the weights come.

    Files that are there are kept, so that a download that was stopped goes on with the others; a connection that breaks
    is taken up within the file. The hub library shows progress bars. Raises ModelError where there is no network, no
    such model, no safetensors, or too little room.
    """
    folder = stored_folder(model.name)
    revision, sizes = _listing(model.hub_id, api)
    wanted = files_of(model, sizes)
    _check_room(folder, sum(sizes[name] for name in wanted if not (folder / name).is_file()))
    _fetch(model, api, revision, [name for name in wanted if not name.endswith(".safetensors")])
    check_settings(folder, model.kind)
    _fetch(model, api, revision, wanted)
    check_model(folder, model.kind)
    return folder


def _fetch(model: Model, api: HfApi, revision: str, names: list[str]) -> None:
    """Put files of the model into its folder."""
    folder = stored_folder(model.name)
    try:
        api.snapshot_download(model.hub_id, revision=revision, local_dir=folder, allow_patterns=names)
    except Exception as error:  # the hub's, the connection's, the disk's: kinds change with the hub library
        raise ModelError(
            f"the download stopped ({error})",
            where=model.hub_id,
            remedy=f"Run it again, complete files are kept: python -m backend models download {model.name}",
        ) from error


def files_of(model: Model, names: Iterable[str]) -> list[str]:
    """Which of the repository's files are needed. Raises ModelError where a network has no safetensors."""
    there = set(names)
    if model.kind == "vlm":
        text = {name for name in there if "/" not in name and name.endswith(TEXT)}
        return sorted(text | _weights(model, there, "", "model"))
    text = {name for name in there if name.split("/")[0] in PRIOR_PARTS and name.endswith(TEXT)}
    text = {name for name in text if ".index." not in name} | ({"model_index.json"} & there)
    weights = [_weights(model, there, f"{part}/", stem) for part, (stem, _) in NETWORKS.items()]
    return sorted(text.union(*weights))


def _weights(model: Model, there: set[str], place: str, stem: str) -> set[str]:
    """The files of one network's weights: one file, or an index and its shards; the row's variant first."""
    for variant in dict.fromkeys((model.variant, "", "fp16")):
        mark = f".{variant}" if variant else ""
        single = f"{place}{stem}{mark}.safetensors"
        if single in there:
            return {single}
        index = f"{place}{stem}.safetensors.index{mark}.json"
        if index in there:
            numbered = {
                n for n in there if n.startswith(f"{place}{stem}") and "-of-" in n and n.endswith(".safetensors")
            }
            return {index} | {name for name in numbered if (".fp16" in name) == (variant == "fp16")}
    raise ModelError(
        f"has no safetensors for {place or stem}, and pickles are never loaded",
        where=model.hub_id,
        remedy="Choose another model, see `python -m backend models list`",
    )


def _listing(hub_id: str, api: HfApi) -> tuple[str, Mapping[str, int]]:
    """The newest revision and the bytes of each of its files."""
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    try:
        revision = api.repo_info(hub_id).sha
        tree = api.list_repo_tree(hub_id, recursive=True, revision=revision)
        return str(revision), {entry.path: entry.size for entry in tree if isinstance(entry, RepoFile)}
    except RepositoryNotFoundError as error:
        raise ModelError(
            "the hub has no such model, or does not show it",
            where=hub_id,
            remedy=f"Check the spelling, choose another model, or put its files into {stored_folder(hub_id)}",
        ) from error
    except Exception as error:  # kinds change with the hub library
        raise ModelError(
            f"the hub cannot be reached ({error})",
            where=hub_id,
            remedy=f"Connect to the network, or copy the model's files into {stored_folder(hub_id)}",
        ) from error


def _check_room(folder: Path, needed: int) -> None:
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed + SPARE_BYTES:
        raise ModelError(
            f"needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            where=str(folder),
            remedy="Free some space, or set DIORAMA_MODELS to a folder on another disk",
        )
