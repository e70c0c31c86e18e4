"""The methods that are compared, each as what it changes of the starter preset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import RequestError
from ..presets import PRESETS
from .suite import PRESET

# No method has the relations' hinge losses: only what a method sees on pictures may arrange the objects. Surfaces are
# judged as they were optimised. The rest makes no difference to what is compared: small previews, no checkpoints.
COMMON: dict[str, Any] = {
    "relation_weight": 0.0,
    "distillation": "sds",
    "strategy": "none",
    "smoothing_steps": 0,
    "preview_px": 64,
    "checkpoint_every_s": 1e6,
}
_PLAIN: dict[str, Any] = {"object_reward_weight": 0.0, "relation_reward_weight": 0.0}
_REWARDED: dict[str, Any] = {"strategy": "min-max"}  # the paper's recommendation
_VARIATIONAL: dict[str, Any] = {"distillation": "vsd"}

METHODS: dict[str, dict[str, Any]] = {
    "sds": _PLAIN,
    "vsd": _PLAIN | _VARIATIONAL,
    "reward-sds": _PLAIN | _REWARDED,
    "reward-vsd": _PLAIN | _VARIATIONAL | _REWARDED,
    "vlm3d": {},  # the preset's reward weights
    "vlm3d+reward-sds": _REWARDED,
    # Beside the six that the papers suggest:
    "vlm3d+search": {"search_rounds": 8},  # and places found by trying, weighed by the VLM alone
    "reward-sds-best": _PLAIN | {"strategy": "best"},
    "reward-sds-weighted": _PLAIN | {"strategy": "weighted"},
    "preset": {"relation_weight": PRESETS[PRESET].relation_weight},  # with the hinge losses, as it is used
}
SET_BY_METHODS = {key for row in METHODS.values() for key in row} | {"guidance_scale"}  # VSD brings its own
DEFAULT = ("sds", "vsd", "reward-sds", "reward-vsd", "vlm3d", "vlm3d+reward-sds")


def overrides_of(method: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """What a run of the method overrides of the preset's settings. changes: the user's, for all methods alike."""
    return {**COMMON, **changes, **METHODS[method]}


def read_methods(text: str) -> tuple[str, ...]:
    """The methods in a list such as "sds,vlm3d", each once. Raises RequestError for one that there is not."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise RequestError(
            f"there is no method {unknown[0]!r}" if unknown else "names no method",
            where="--methods",
            remedy=f"Methods are: {', '.join(METHODS)}",
        )
    return names


def titles(methods: Sequence[str]) -> list[str]:
    """Each method with what it changes, one line of Markdown each."""
    return [
        f"- `{name}`: {', '.join(f'{key} = {value}' for key, value in METHODS[name].items()) or 'as the preset'}"
        for name in methods
    ]
