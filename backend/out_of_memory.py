"""Too little memory: how much was needed, and what would fit."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch

from .errors import UserError
from .presets import PRESETS
from .schema import Settings

GIB = 2**30
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": GIB}
REFUSED = re.compile(  # torch on CPU and MPS, the CUDA driver, cuBLAS and cuDNN, Warp; oneDNN, which says no more
    "allocate.*memory|not enough memory|out of memory|failed to allocate|ALLOC_FAILED|"
    "could not create a (primitive|memory object)$",
    re.IGNORECASE,
)
SPARE = 0.9  # of the memory there is: what a suggestion may fill
COARSEST = 16  # cubes along the longest edge; below, nothing has a shape
USUAL_VLM_PX, COARSEST_VLM_PX = 256, 128  # pictures that VLM3D shows (arXiv 2509.15772); below, parts cannot be told


class OutOfMemory(UserError):
    """The device has too little memory for these settings."""


def is_memory_error(error: BaseException) -> bool:
    """Whether the device or the machine refused an allocation."""
    refused = isinstance(error, RuntimeError) and REFUSED.search(str(error))
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or bool(refused)


def explain_memory(error: BaseException, advise: Callable[[float], str], device: torch.device) -> OutOfMemory:
    """What to tell the user. To be called while the error still holds the tensors of the step that failed.

    advise: what would fit, as a sentence without a final period, where a share of the needed memory is there.
    """
    asked = _asked(str(error))
    if device.type != "cuda":
        what = "the machine has too little memory" + (f": {_gib(asked)} more were needed at once" if asked else "")
        return OutOfMemory(what, where="settings", remedy=advise(0.5))
    free, total = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_allocated(device)
    needed, room = held + asked, free + torch.cuda.memory_reserved(device)
    what = (
        f"the GPU has too little memory: at least {_gib(needed)} were needed, {_gib(room)} of {_gib(total)} were there"
    )
    others = ". Other programs use part of it" if total - room > GIB else ""
    return OutOfMemory(what, where="settings", remedy=advise(room / max(needed, 1)) + others)


def suggest(settings: Settings, share: float) -> str:
    """Which setting or preset would fit where `share` of the needed memory is there.

    What a step holds grows with its views, and with the square of the cubes along an edge. What leaves the result as
    it is comes first.
    """
    share = min(share, 1.0) * SPARE
    ways = _slower_ways(settings) + lighter_vlm(settings.vlm, settings.vlm_px, settings.vlm_four_bit, share)
    views = int(settings.views * share)
    if 1 <= views < settings.views:
        ways.append(f"set views to {views} (now {settings.views})")
    cubes = int(settings.final_resolution * share**0.5)
    if COARSEST <= cubes < settings.final_resolution:
        ways.append(f"set final_resolution to {cubes} (now {settings.final_resolution})")
    ways += [f"take the preset {name!r}" for name, other in PRESETS.items() if _is_lighter(other, settings)]
    text = ", or ".join(ways) or "take a machine with more memory"
    return text[0].upper() + text[1:]


def _slower_ways(settings: Settings) -> list[str]:
    """What costs only time."""
    ways = []
    if settings.prior != "starter" and settings.encode_at_once != 1:
        ways.append(f"set encode_at_once to 1 (now {settings.encode_at_once or 'all views'})")
    one = 2 * settings.views  # candidate, with the prompt and without
    if settings.strategy != "none" and settings.denoise_at_once > one:
        ways.append(f"set denoise_at_once to {one} (now {settings.denoise_at_once})")
    if settings.prior != "starter" and not settings.offload_idle:
        ways.append("turn on offload_idle, where there is a GPU")
    return ways


def lighter_vlm(vlm: str, px: int | None, four_bit: bool, share: float) -> list[str]:
    """How the vision-language model would need less, for `share` of the memory. px, four_bit: as the settings are."""
    if vlm == "starter":
        return []
    ways = [] if four_bit else ["turn on vlm_four_bit, where there are a GPU and bitsandbytes"]
    smaller = int((px or USUAL_VLM_PX) * min(share, SPARE) ** 0.5) // 32 * 32  # of whole tokens
    if smaller >= COARSEST_VLM_PX:
        ways.append(f"set vlm_px to {smaller} (now {px or 'as large as the pictures are'})")
    return ways


def suggest_for_writing(settings: Settings) -> str:
    """Which settings to lower where the optimisation had memory enough and the writing of its result had not."""
    names = ("texture_px", "preview_px", "max_faces")
    return f"Lower {', '.join(f'{name} (now {getattr(settings, name)})' for name in names)}"


def _is_lighter(one: Settings, other: Settings) -> bool:
    """Whether a preset needs less in every respect, and less in one."""
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("views", "resolution", "final_resolution")]
    pairs.append((one.prior != "starter", other.prior != "starter"))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _asked(text: str) -> int:
    """Bytes of the allocation that failed, 0 where the message does not say."""
    found = re.search(r"allocate ([\d.]+) (bytes|KiB|MiB|GiB)", text)
    return int(float(found[1]) * _UNITS[found[2]]) if found else 0


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.1f} MiB"
