"""One run from request to files: what the command line and the service's worker both do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from .checkpoint import Checkpoint
from .device import repeatable
from .export.files import check_writable
from .export.result import FILES, OnPart, Written, write_result
from .generate import OnStep, Step, generate
from .guidance.models import Models, load_models
from .out_of_memory import explain_memory, is_memory_error, suggest_for_writing
from .prepare import prepare, with_meshes
from .presets import settings_for
from .scene.given import make_given
from .schema import SceneRequest

CHECKPOINT = "checkpoint.safetensors"


def run(
    request: SceneRequest,
    folder: Path,
    device: torch.device,
    on_step: OnStep,
    on_warning: Callable[[str], None],
    resume: Checkpoint | None = None,
    models: Models | None = None,
    meshes: Path | None = None,
    on_part: OnPart = lambda: None,
    keep: Path | None = None,
) -> Written:
    """Generate the request's scene and write its files into `folder`.

    `models` saves loading them again; they must be the ones the request's settings name. The checkpoint, since the
    last step one of that step, stays until the result is written, and is then moved to `keep` where that is given. A
    run that starts anew removes what an earlier one left there, so that a checkpoint always belongs to the folder's
    last run. `meshes` is a GLB with a node for each slot of kind start or context; a checkpoint has them inside. An
    exception from `on_step`, or from `on_part`, which is called before each part of the result, ends the run; resuming
    from the checkpoint then goes on. Raises UserError for whatever the user can mend.
    """
    started = time.monotonic()
    settings = settings_for(request.preset, request.settings)
    check_writable(folder, FILES)
    if resume:
        given, (request, warnings) = None, prepare(request)
    else:
        request, user_meshes, read = with_meshes(request, meshes)
        request, parsed = prepare(request)
        given, fitted = make_given(request.slots, user_meshes, settings.resolution, device)
        warnings = read + parsed + fitted
    models = models or load_models(settings, device)
    warnings += models.warnings(_prompts(request), request.negative_prompt or settings.negative_prompt)
    for warning in warnings:
        on_warning(warning)
    checkpoint = folder / CHECKPOINT
    if resume is None or resume.path.resolve() != checkpoint.resolve():
        checkpoint.unlink(missing_ok=True)

    def after_step(step: Step) -> None:
        if step.step == step.steps:  # writing the result may be stopped, too
            step.save(checkpoint)
        on_step(step)

    loading_s = time.monotonic() - started
    with repeatable(device):
        outcome = generate(request, settings, models, device, after_step, checkpoint, resume, given)
        timings_s = {"loading": loading_s, "optimisation": outcome.seconds}
        try:
            written = write_result(
                folder, request, settings, outcome.scene, outcome.rewards, timings_s, warnings, on_part
            )
        except Exception as error:
            if is_memory_error(error):  # what a step needs is not to blame
                raise explain_memory(error, lambda share: suggest_for_writing(settings), device) from error
            raise
    if keep and checkpoint.is_file():
        checkpoint.replace(keep)
    checkpoint.unlink(missing_ok=True)
    return written


def _prompts(request: SceneRequest) -> list[str]:
    """Those the networks are asked with: context only where it stands in a relation."""
    related = {name for relation in request.relations for name in (relation.subject, relation.object)}
    return [slot.prompt for slot in request.slots if slot.kind != "context" or slot.name in related]
