"""More steps for a finished job."""

from __future__ import annotations

from typing import Any

from ..presets import settings_for


def with_more_steps(request: dict[str, Any], steps: int) -> dict[str, Any]:
    """The request with `steps` more for each object, going on where its schedules had arrived.

    Schedules are functions of progress, so what was at progress p of the old run has to be at p old / new of the longer
    one: else the noise levels would jump back and the grids would be refined again. Raises RequestError.
    """
    overrides = dict(request.get("settings", {}))
    old = settings_for(request.get("preset", "starter"), overrides)
    share = old.steps / (old.steps + steps)
    longer = overrides | {
        "steps": old.steps + steps,
        "refine_at": old.refine_at * share,
        "t_until": old.t_until * share,
        "reward_from": old.reward_from * share,
        "explore_until": old.explore_until * share,
        "reward_fade": [edge if old.reward_fade[0] == 1.0 else edge * share for edge in old.reward_fade],  # 1: never
        "colour_from": [edge * share for edge in old.colour_from],
    }
    settings_for(request.get("preset", "starter"), longer)
    return request | {"settings": longer}
