"""The one dial the user turns: a preset is a full set of settings."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from .errors import RequestError, check_setting_names
from .models_table import WEIGHTS as WEIGHTS
from .models_table import model_folder as model_folder
from .schema import Settings, first_fault
from .weighing import check_candidates, check_reward

PRESETS: dict[str, Settings] = {
    "starter": Settings(
        prior="starter",
        vlm="starter",
        negative_prompt="",
        steps=220,
        views=4,
        resolution=24,
        final_resolution=32,
        refine_at=0.6,
        guidance_scale=1.5,
        guidance_rescale=0.5,
        latent_weight=0.1,
        pixel_weight=1.0,
        t_max=(0.98, 0.6),
        t_min=(0.7, 0.3),
        t_until=0.8,
        lr_geometry=8e-3,
        lr_colour=1e-2,
        lr_placement=2e-2,
        colour_from=(0.1, 0.3),
        scene_every=2,
        object_reward_weight=0.15,
        relation_reward_weight=0.3,
        reward_from=0.25,
        relation_weight=1.0,
        penetration_weight=1.0,
        support_weight=0.5,
        carving_weight=1.6,
        laplacian_weight=25.0,
        eikonal_weight=6.0,
        normal_weight=50.0,
        deviation_weight=5.0,
        cube_weight=1.0,
        entropy_weight=(0.02, 0.005),
        smoothing_steps=20,
        texture_px=512,
        max_faces=20000,
        preview_px=256,
        checkpoint_every_s=20.0,
        lora_lr=3e-3,  # of few steps
    ),
}

# With big models: the noise schedule of VLM3D's MVDream (arXiv 2509.15772), guidance 50 with rescale 0.5 (arXiv
# 2308.16512), candidates explored as RewardSDS does in 3D (arXiv 2503.09601), grids and rates after Fantasia3D and
# RichDreamer. What is not named is the starter preset's.
_BIG = {
    "negative_prompt": "blurry, oversaturated, noisy, deformed, cropped, text, low quality",
    "views": 4,
    "guidance_scale": 50.0,
    "guidance_rescale": 0.5,
    "latent_weight": 1.0,
    "pixel_weight": 0.0,
    "t_max": (0.98, 0.5),
    "t_min": (0.98, 0.02),
    "t_until": 0.4,
    "lr_geometry": 2e-3,
    "reward_from": 0.1,
    "network_dtype": "bfloat16",
    "encode_at_once": 1,
    "vlm_px": 256,
    "vlm_views": 4,
    "preview_px": 512,
    "checkpoint_every_s": 120.0,
    "explore_steps": 15,
    "explore_scale": 50.0,
    "lora_lr": 3e-4,  # ProlificDreamer and RewardVSD
}
PRESETS |= {
    # 8 GB of GPU memory: weights of 2 GB and 4 GB
    "draft": PRESETS["starter"].model_copy(
        update=_BIG
        | dict(prior="sd-1.5", vlm="qwen3-vl-2b", steps=800, resolution=40, final_resolution=56, texture_px=1024)
    ),
    # 16 GB: 3 GB and 9 GB
    "standard": PRESETS["starter"].model_copy(
        update=_BIG
        | dict(prior="mvdream", vlm="qwen3-vl-4b", steps=3000, resolution=48, final_resolution=80)
        | dict(texture_px=2048, max_faces=60_000)
    ),
    # 24 GB and more: 3 GB and 17 GB; the papers' networks, on a mesh. 10,000 steps are MVDream's and RewardSDS's, VLM3D
    # takes 20,000; its reward is the plain log-odds, from the first step on, and has faded half-way
    "paper": PRESETS["starter"].model_copy(
        update=_BIG
        | dict(prior="mvdream", vlm="qwen2.5-vl-7b", steps=10_000, resolution=64, final_resolution=96, refine_at=0.4)
        | dict(reward_form="log-odds", reward_from=0.0, reward_fade=(0.0, 0.5))
        | dict(lr_geometry=1e-3, texture_px=2048, max_faces=100_000, encode_at_once=4)
    ),
}


VSD_SCALE = 7.5  # guidance of VSD in its paper (arXiv 2305.16213), far below SDS's


def settings_for(preset: str, overrides: dict[str, Any]) -> Settings:
    """The preset's settings with the overrides; with VSD and no word of the guidance, no more of it than VSD takes.

    Raises RequestError for an unknown preset, key or value, too few candidates, and a reward without its weights.
    """
    if preset not in PRESETS:
        raise RequestError(
            f"there is no preset {preset!r}", where="preset", remedy=f"Presets are: {', '.join(sorted(PRESETS))}"
        )
    base = PRESETS[preset].model_dump()
    check_setting_names(overrides, base)
    if overrides.get("distillation") == "vsd":
        base["guidance_scale"] = min(base["guidance_scale"], VSD_SCALE)
    try:
        settings = Settings.model_validate({**base, **overrides})
    except ValidationError as error:
        raise first_fault(error, inside="settings") from None
    check_reward(settings.reward, settings.reward_folder)
    check_candidates(settings.candidates, settings.weighing)
    return settings
