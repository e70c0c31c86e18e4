"""`python -m backend models list|download|check|folder`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import ModelError, UserError
from ..models_table import KIND_NAMES, MODELS, Model, is_present, model_folder, models_folder, require_model
from ..presets import PRESETS


def add_commands(commands: Any) -> None:
    """Add the command to argparse's sub-commands."""
    models = commands.add_parser("models", help="list, download and check the models that presets need")
    actions = models.add_subparsers(required=True, metavar="ACTION")
    lists = actions.add_parser("list", help="every known model: licence, size, whether it is there, who needs it")
    lists.set_defaults(command=_list)
    download = actions.add_parser("download", help="get models from the hub; run again to go on after a stop")
    download.add_argument("names", nargs="+", metavar="NAME", help=f"a preset, or one of: {', '.join(MODELS)}")
    download.add_argument("--yes", action="store_true", help="also where the licence forbids commercial use")
    download.set_defaults(command=_download)
    check = actions.add_parser("check", help="look at every file of the models that are there")
    check.add_argument(
        "names", nargs="*", metavar="NAME", help="a preset, a model or a folder (default: all there are)"
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
    print(f"Models are kept in {models_folder()}. The preset 'starter' needs none of these.")
    return 0


def _download(arguments: argparse.Namespace) -> int:
    rows = _rows(arguments.names)
    forbidden = [row for row in rows if not row.commercial]
    if forbidden and not arguments.yes:
        row = forbidden[0]
        raise ModelError(
            f"{row.licence}: {row.restriction}",
            where=row.name,
            remedy=f"If that is fine: python -m backend models download {row.name} --yes",
        )
    from huggingface_hub import HfApi

    from ..model_download import download

    for row in rows:
        print(f"{row.name}: {row.hub_id}, about {row.size_gb:.1f} GB, {row.licence}")
        if row.restriction:
            print(f"  {row.restriction}")
        print(f"  complete in {download(row, HfApi())}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from ..model_check import check_model

    faults = 0
    for name, kind, folder in _places(arguments.names):
        try:
            if name in MODELS:
                require_model(name, MODELS[name].kind)  # its error names the download
            print(f"ok    {name}: {check_model(folder, kind) / 1e9:.2f} GB in {folder}")
        except UserError as error:
            print(f"FAIL  {name}: {error}", file=sys.stderr)
            faults += 1
    return 1 if faults else 0


def _folder(arguments: argparse.Namespace) -> int:
    print(models_folder())
    return 0


def needed_by(name: str) -> list[str]:
    """The presets that use the model."""
    return [preset for preset, settings in PRESETS.items() if name in (settings.prior, settings.vlm)]


def _rows(names: list[str]) -> list[Model]:
    """The table's rows for names of models and presets, each once."""
    wanted: dict[str, None] = {}
    for name in names:
        if name in PRESETS:
            wanted |= dict.fromkeys(n for n in (PRESETS[name].prior, PRESETS[name].vlm) if n in MODELS)
        elif name in MODELS:
            wanted[name] = None
        elif name != "starter":
            raise ModelError(
                f"there is no model {name!r}",
                where="models",
                remedy=f"Models are: {', '.join(MODELS)}; presets are: {', '.join(PRESETS)}",
            )
    return [MODELS[name] for name in wanted]


def _places(names: list[str]) -> list[tuple[str, str, Path]]:
    """Name, kind and folder of what is to be checked."""
    if not names:
        there = [(row.name, row.kind, model_folder(row.name, row.kind)) for row in MODELS.values()]
        starter = [(f"starter {KIND_NAMES[kind]}", kind, model_folder("starter", kind)) for kind in KIND_NAMES]
        return starter + [place for place in there if is_present(place[0], place[1])]
    places = []
    for name in names:
        folder = Path(name).expanduser()
        if name in PRESETS:
            for kind in KIND_NAMES:
                model = getattr(PRESETS[name], kind)
                places.append((model, kind, model_folder(model, kind)))
        elif name in MODELS:
            places.append((name, MODELS[name].kind, model_folder(name, MODELS[name].kind)))
        else:
            places.append((name, "prior" if (folder / "model_index.json").is_file() else "vlm", folder))
    return places
