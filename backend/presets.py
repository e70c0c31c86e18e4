"""The one dial the user turns: a preset is a full set of settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .errors import RequestError
from .schema import Settings, first_fault

WEIGHTS = Path(__file__).parent / "starter" / "weights"

PRESETS: dict[str, Settings] = {
    "starter": Settings(
        prior="starter",
        vlm="starter",
        negative_prompt="",
        steps=240,
        views=4,
        resolution=24,
        final_resolution=32,
        refine_at=0.6,
        guidance_scale=1.5,
        guidance_rescale=0.5,
        latent_weight=0.1,
        pixel_weight=1.0,
        t_max=(0.98, 0.5),
        t_min=(0.7, 0.1),
        t_until=0.8,
        lr_geometry=8e-3,
        lr_colour=1e-2,
        lr_placement=2e-2,
        colour_from=(0.15, 0.4),
        scene_every=2,
        object_reward_weight=0.15,
        relation_reward_weight=0.3,
        reward_from=0.25,
        relation_weight=1.0,
        penetration_weight=1.0,
        support_weight=0.5,
        laplacian_weight=25.0,
        eikonal_weight=6.0,
        normal_weight=50.0,
        deviation_weight=5.0,
        cube_weight=1.0,
        entropy_weight=(0.02, 0.005),
        texture_px=512,
        max_faces=20000,
        preview_px=256,
        checkpoint_every_s=20.0,
    ),
}


def settings_for(preset: str, overrides: dict[str, Any]) -> Settings:
    """The preset's settings with the overrides. Raises RequestError for an unknown preset, key or value."""
    if preset not in PRESETS:
        raise RequestError(
            f"there is no preset {preset!r}", where="preset", remedy=f"Presets are: {', '.join(sorted(PRESETS))}"
        )
    base = PRESETS[preset].model_dump()
    for key in overrides:
        if key not in base:
            raise RequestError("unknown setting", where=f"settings.{key}", remedy=f"Settings are: {', '.join(base)}")
    try:
        return Settings.model_validate({**base, **overrides})
    except ValidationError as error:
        raise first_fault(error, inside="settings") from None


def model_folder(name: str, kind: str) -> Path:
    """Where a setting's model lies. name: "starter" or a folder. kind: "prior" or "vlm"."""
    return WEIGHTS / kind if name == "starter" else Path(name).expanduser()
