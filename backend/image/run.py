"""One 2D run from request to files: what the command line and the service's worker both do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
import transformers
from PIL import Image
from torch import Tensor

from ..errors import ModelError
from ..export.files import atomic_write, check_writable, written_together
from ..export.report import build_report, write_report
from ..guidance.diffusion import DiffusionPrior, load_prior
from ..guidance.models import cut_warning, network_dtype, take_turns, takes_turns, vlm_dtype
from ..guidance.multiview import MultiViewUNet
from ..guidance.rewards import RewardModel, load_reward, vlm_reward
from ..guidance.vlm import load_vlm
from ..models_table import require_model
from .edit import edit
from .picture import fit_picture, read_picture
from .request import ImageRequest, ImageSettings, settings_for
from .steps import OnStep
from .text_to_image import text_to_image

PICTURE, REPORT = "image.png", "report.json"
# The settings that `load_image_models` heeds: of every run, and of those whose candidates are scored.
HEEDED = ("prior", "network_dtype", "vae_tile_px")
HEEDED_TO_SCORE = ("reward", "reward_folder", "vlm", "vlm_px", "vlm_four_bit", "offload_idle", "batch")


class ImageModels(NamedTuple):
    """Loaded once, shared by all runs that agree in what is heeded."""

    prior: DiffusionPrior
    reward: RewardModel | None  # None where the method does not score


class Written(NamedTuple):
    """What was written, and how good the reward finds it."""

    files: tuple[Path, ...]
    score: float | None  # of the result; None without a reward


def run_image(
    request: ImageRequest,
    picture: Path | None,
    folder: Path,
    device: torch.device,
    on_step: OnStep,
    on_warning: Callable[[str], None],
    models: ImageModels | None = None,
    on_part: Callable[[], None] = lambda: None,
) -> Written:
    """Make or edit the picture and write image.png and report.json into `folder`, both or neither.

    picture: the one to edit; None for text to image. `models` saves loading them again; they must be the ones the
    request names. on_part: called after the last step before the picture is decoded, scored and written, and at the
    end; an exception from it ends the run, and what stood in the folder before is still there. Raises UserError for
    whatever the user can mend.
    """
    assert request.edits == (picture is not None)
    started = time.monotonic()
    settings = settings_for(request)
    given, warnings = read_picture(picture) if picture else (None, [])
    check_writable(folder, (PICTURE, REPORT))
    prior, reward = models or load_image_models(request, settings, device)
    warnings += prompt_warnings(request, settings, prior)
    if reward and (cut := reward.words_cut(request.prompt)):
        warnings.append(f"the reward does not see the end of the prompt: {cut!r}")
    if given is not None:
        given, notes = _fitted(given, prior)
        warnings += notes
    for warning in warnings:
        on_warning(warning)
    loaded = time.monotonic()
    generator = torch.Generator().manual_seed(request.seed)
    scorer = reward.score if reward else None
    if given is None:
        latents = text_to_image(request, settings, prior, scorer, generator, on_step)
    else:
        latents = edit(request, settings, given.to(device), prior, scorer, generator, on_step)
    on_part()
    result = prior.decode(latents)
    timings_s = {"loading": loaded - started, "optimisation": time.monotonic() - loaded}
    on_part()
    score = None if scorer is None else scorer(result[:, None], request.prompt).item()
    report = _report(request, settings, picture, score, timings_s, warnings)
    with written_together(folder, (REPORT, PICTURE)) as stage:
        on_part()
        _write_picture(result, stage / PICTURE)
        write_report(report, stage / REPORT)
        on_part()
    return Written((folder / PICTURE, folder / REPORT), score)


def load_image_models(request: ImageRequest, settings: ImageSettings, device: torch.device) -> ImageModels:
    """The networks of the request. Raises ModelError when one is missing, damaged, or does not do single pictures."""
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()  # the run has its own
    dtype = network_dtype(settings.network_dtype, device)
    prior = load_prior(require_model(settings.prior, "prior"), device, dtype)
    if isinstance(prior.unet, MultiViewUNet):
        raise ModelError(
            "this prior denoises four views of an object, not single pictures",
            where="settings.prior",
            remedy="Choose starter, sd-2.1-base, or another Stable Diffusion 1.5 or 2.1-base model",
        )
    prior.use_tiles(settings.vae_tile_px)
    prior.encode_at_once = 1 if settings.vae_tile_px else 0
    if not request.rewarded:
        return ImageModels(prior, None)
    if settings.reward != "vlm":
        return ImageModels(prior, load_reward(settings.reward, settings.reward_folder, device))
    return ImageModels(prior, _vlm_beside(prior, settings, device, vlm_dtype(dtype)))


def _vlm_beside(
    prior: DiffusionPrior, settings: ImageSettings, device: torch.device, dtype: torch.dtype
) -> RewardModel:
    """The VLM as the reward, in turns with the prior where they are to take some."""
    in_turns = takes_turns(settings.offload_idle, device)
    if in_turns:  # not both on the device, not even while they are loaded
        prior.unet.to("cpu")
    vlm = load_vlm(require_model(settings.vlm, "vlm"), device, dtype, settings.vlm_four_bit, settings.vlm_px)
    if in_turns:
        take_turns(prior, vlm, settings.vlm_four_bit, device)
    return RewardModel(vlm_reward(vlm, settings.batch), lambda prompt: "")


def prompt_warnings(request: ImageRequest, settings: ImageSettings, prior: DiffusionPrior) -> list[str]:
    """One line for the words the prior does not know, and one for each text it cannot read to its end."""
    texts = [request.prompt, request.source, settings.negative_prompt]
    if request.method.endswith("bridge"):
        texts.append(f"{request.prompt}, {settings.flaws}")
    lines = [line for text in dict.fromkeys(texts) if (line := cut_warning(prior, text))]
    unknown = list(dict.fromkeys(word for text in texts for word in prior.unknown_words(text)))
    return lines + ([f"the diffusion prior does not know: {', '.join(unknown)}"] if unknown else [])


def _fitted(picture: Tensor, prior: DiffusionPrior) -> tuple[Tensor, list[str]]:
    """The picture at the size the prior takes, and a line that tells of the change."""
    halvings = len(prior.vae.config.block_out_channels) + len(prior.unet.config.block_out_channels) - 2
    fitted = fit_picture(picture, prior.image_px, 2**halvings)
    (height, width), (rows, columns) = picture.shape[1:3], fitted.shape[1:3]
    if (height, width) == (rows, columns):
        return fitted, []
    return fitted, [f"the picture is scaled from {width} x {height} to {columns} x {rows} px, which the prior works at"]


def _write_picture(picture: Tensor, path: Path) -> None:
    """picture: (1, H, W, 3) sRGB in [0, 1]."""
    values = (picture[0].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    with atomic_write(path) as file:
        Image.fromarray(values).save(file, "PNG")


def _report(
    request: ImageRequest,
    settings: ImageSettings,
    picture: Path | None,
    score: float | None,
    timings_s: dict[str, float],
    warnings: list[str],
) -> dict[str, Any]:
    models = {"prior": settings.prior}
    if request.rewarded:
        models["reward"] = f"{settings.reward}: {settings.reward_folder or settings.vlm}"
    return build_report(
        request=request.model_dump() | ({"picture": str(picture)} if picture else {}),
        settings=settings.model_dump(),
        seed=request.seed,
        models=models,
        timings_s=timings_s,
        slots=[],
        relations=[],
        rewards={} if score is None else {"result": score},
        warnings=warnings,
    )
