"""`python -m backend models list|download|check|folder`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..errors import ModelError, UserError
from ..models_table import (
    HUB_ID,
    KIND_NAMES,
    MODELS,
    UNKNOWN_LICENCE,
    Kind,
    check_spelling,
    is_present,
    models_folder,
    other_downloads,
    require_model,
    row_of,
)
from ..presets import PRESETS


def add_commands(commands: Any) -> None:
    """Add the command to argparse's sub-commands."""
    models = commands.add_parser("models", help="list, download and check the models that presets need")
    actions = models.add_subparsers(required=True, metavar="ACTION")
    lists = actions.add_parser("list", help="every known model: licence, size, whether it is there, who needs it")
    lists.set_defaults(command=_list)
    download = actions.add_parser("download", help="get models from the hub; run again to go on after a stop")
    download.add_argument(
        "names", nargs="+", metavar="NAME", help=f"a preset, a hub id (owner/name), or one of: {', '.join(MODELS)}"
    )
    download.add_argument("--yes", action="store_true", help="also where the licence forbids commercial use")
    download.set_defaults(command=_download)
    check = actions.add_parser("check", help="look at every file of the models that are there")
    check.add_argument(
        "names", nargs="*", metavar="NAME", help="a preset, a model, a hub id or a folder (default: all there are)"
    )
    check.set_defaults(command=_check)
    folder = actions.add_parser("folder", help="print where models are kept; DIORAMA_MODELS changes it")
    folder.set_defaults(command=_folder)


def _list(arguments: argparse.Namespace) -> int:
    print(f"{'name':15}{'kind':7}{'size':>8}  {'here':5}{'licence':24}{'presets':16}hub")
    for row in MODELS.values():
        here = "yes" if is_present(row.name, row.kind) else "no"
        size = f"{row.size_gb:.1f} GB"
        users = ", ".join(needed_by(row.name)) or "-"
        print(f"{row.name:15}{row.kind:7}{size:>8}  {here:5}{row.licence:24}{users:16}{row.hub_id}")
    for row in MODELS.values():
        if not row.commercial:
            print(f"warning: {row.name}: {row.restriction}")
    for hub_id in other_downloads():
        print(f"downloaded too: {hub_id}, licence {UNKNOWN_LICENCE}")
    print(f"Models are kept in {models_folder()}. The preset 'starter' needs none of these.")
    return 0


def _download(arguments: argparse.Namespace) -> int:
    names = _wanted(arguments.names)
    forbidden = [row for name in names if (row := row_of(name)) and not row.commercial]
    if forbidden and not arguments.yes:
        row = forbidden[0]
        raise ModelError(
            f"{row.licence}: {row.restriction}",
            where=row.name,
            remedy=f"If that is fine: python -m backend models download {row.name} --yes",
        )
    from huggingface_hub import HfApi

    from ..model_download import download, find_model

    api = HfApi()
    for name in names:
        model = row_of(name) or find_model(name, api)
        print(f"{model.hub_id}: about {model.size_gb:.1f} GB, licence {model.licence}")
        if model.restriction:
            print(f"  {model.restriction}")
        print(f"  complete in {download(model, api)}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from ..model_check import check_model, kind_of

    faults = 0
    for name, kind in _places(arguments.names):
        label = f"starter {KIND_NAMES[kind]}" if name == "starter" and kind else name
        try:
            folder = require_model(name, kind)
            print(f"ok    {label}: {check_model(folder, kind or kind_of(folder)) / 1e9:.2f} GB in {folder}")
        except UserError as error:
            print(f"FAIL  {label}: {error}", file=sys.stderr)
            faults += 1
    return 1 if faults else 0


def _folder(arguments: argparse.Namespace) -> int:
    print(models_folder())
    return 0


def needed_by(name: str) -> list[str]:
    """The presets that use the model."""
    return [preset for preset, settings in PRESETS.items() if name in (settings.prior, settings.vlm)]


def _wanted(names: list[str]) -> list[str]:
    """The rows' names and the hub ids meant by names of models and presets and by hub ids, each once."""
    wanted: dict[str, None] = {}
    for name in names:
        if name in PRESETS:
            wanted |= dict.fromkeys(n for n in (PRESETS[name].prior, PRESETS[name].vlm) if n in MODELS)
        elif row := row_of(name):
            wanted[row.name] = None
        elif HUB_ID.fullmatch(name):
            check_spelling(name, "models")
            wanted[name] = None
        else:
            raise ModelError(
                f"there is no model {name!r}",
                where="models",
                remedy=f"Models are: {', '.join(MODELS)}, or a hub id (owner/name); presets are: {', '.join(PRESETS)}",
            )
    return list(wanted)


def _places(names: list[str]) -> list[tuple[str, Kind | None]]:
    """Name and kind of what is to be checked; no kind where the files are to tell."""
    if not names:
        there = [(row.name, row.kind) for row in MODELS.values() if is_present(row.name, row.kind)]
        return [*_of_preset("starter"), *there, *((hub_id, None) for hub_id in other_downloads())]
    places: list[tuple[str, Kind | None]] = []
    for name in names:
        places += _of_preset(name) if name in PRESETS else [(name, None)]
    return places


def _of_preset(name: str) -> list[tuple[str, Kind | None]]:
    return [(PRESETS[name].prior, "prior"), (PRESETS[name].vlm, "vlm")]
