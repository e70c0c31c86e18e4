"""What there is to choose from: presets, and the models they name."""

from __future__ import annotations

from pathlib import Path

from ..models_table import licence_of, model_folder
from ..presets import PRESETS
from .wire import Model, ModelList, Preset, Presets

_DESCRIPTIONS = {
    "starter": "The bundled small models: runs anywhere within minutes, knows few words",
    "draft": "Big models, few steps: to see whether prompt and layout work",
    "standard": "Big models, the usual number of steps",
    "paper": "Big models, steps and weights as in the papers: slow",
}


def presets() -> Presets:
    """The table of presets."""
    rows = [
        Preset(name=name, description=_DESCRIPTIONS.get(name, f"{settings.steps} steps"), settings=settings)
        for name, settings in PRESETS.items()
    ]
    return Presets(presets=rows)


def models() -> ModelList:
    """Every network that a preset names, once."""
    named = {(kind, getattr(settings, kind)): None for settings in PRESETS.values() for kind in ("prior", "vlm")}
    return ModelList(models=[_model(name, kind) for kind, name in named])


def _model(name: str, kind: str) -> Model:
    folder = model_folder(name, kind)
    sizes = _sizes(folder)
    return Model(
        name=name,
        kind=kind,  # type: ignore[arg-type] # pydantic looks
        folder=str(folder),
        present=bool(sizes),
        licence=licence_of(name),
        size_mb=round(sum(sizes) / 1e6, 1),
    )


def _sizes(folder: Path) -> list[int]:
    """Bytes of the weights in the folder."""
    return [file.stat().st_size for file in folder.rglob("*.safetensors")] if folder.is_dir() else []
