"""The optimisation: a request's slots become shaped, coloured and arranged objects."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .checkpoint import Checkpoint, save_checkpoint
from .errors import OptimisationError
from .guidance.models import Models
from .objective import Objective
from .rearrange import rearrange
from .revival import Reviver
from .scene.slots import Scene
from .scene.user_mesh import Given
from .schedules import between, linear
from .schema import SceneRequest, Settings

PULLS = ("object", "scene")  # terms whose gradient counts and whose value says nothing


class Step(NamedTuple):
    """What the caller is told after each step."""

    step: int  # steps done
    steps: int  # steps in all
    losses: dict[str, float]  # unweighted
    rewards: dict[str, float]  # the last score of each question or candidate: for the VLM, log-odds of Yes
    seconds_left: float
    pictures: Tensor  # (B, H, W, 3) sRGB in [0, 1], the object's views of this step
    save: Callable[[Path], None]  # writes a checkpoint of the run as it stands after this step; raises OutputError


OnStep = Callable[[Step], None]


class Outcome(NamedTuple):
    """The optimised scene."""

    scene: Scene
    rewards: dict[str, float]
    seconds: float


def generate(
    request: SceneRequest,
    settings: Settings,
    models: Models,
    device: torch.device,
    on_step: OnStep,
    checkpoint_path: Path,
    resume: Checkpoint | None = None,
    given: Given | None = None,
) -> Outcome:
    """The request's scene, optimised.

    `request` has slots and laid-out boxes (see arrange.layout). Checkpoints go to `checkpoint_path` as the settings
    say; `resume` goes on from one, else `given` has what slots of the kinds start and context need. An exception from
    `on_step` ends the run; the last checkpoint stays.
    Raises OptimisationError when a loss is not finite or an object keeps vanishing.
    """
    generator = torch.Generator().manual_seed(request.seed)
    scene = Scene(request.slots, settings.resolution, device, generator, given=given)
    loop = _Loop(request, settings, models, scene, generator)
    if resume:
        resume.restore_scene(scene)
    optimizer = make_optimizer(scene, settings)
    if resume:
        resume.restore_optimizer(optimizer)
        resume.restore_generator(generator)
        resume.restore_variational(loop.objective.distiller.own)
        loop.objective.pull_norms = resume.pull_norms(device)
        loop.objective.rewards |= resume.rewards
    first, started = resume.step if resume else 0, time.monotonic()
    steps = settings.steps * len(scene.free)
    saved, refine_at, search_at = started, round(settings.refine_at * steps), round(settings.search_at * steps)
    told = request.model_dump_json()
    for step in range(first, steps):
        if step == refine_at and settings.final_resolution > settings.resolution:
            scene.refine(settings.final_resolution)
            optimizer = make_optimizer(scene, settings)
        scene.show_detail(between(*settings.colour_from, step / steps))
        if step == search_at and settings.search_rounds:
            rearrange(loop.objective, optimizer)
        losses, pictures = loop.step(step, step / steps, optimizer)
        now = time.monotonic()
        left = (now - started) / (step + 1 - first) * (steps - step - 1)
        save = partial(
            save_checkpoint,
            scene=scene,
            optimizer=optimizer,
            generator=generator,
            pull_norms=loop.objective.pull_norms,
            variational=loop.objective.distiller.own,
            step=step + 1,
            request=told,
            rewards=dict(loop.objective.rewards),
        )
        if now - saved > settings.checkpoint_every_s:
            save(checkpoint_path)
            saved = now
        on_step(Step(step + 1, steps, losses, dict(loop.objective.rewards), left, pictures, save))
    scene.show_detail(1.0)
    return Outcome(scene, loop.objective.rewards, time.monotonic() - started)


def make_optimizer(scene: Scene, settings: Settings) -> torch.optim.Adam:
    """Adam over everything that is free to change."""
    groups = scene.parameter_groups(settings.lr_geometry, settings.lr_colour, settings.lr_placement)
    return torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-12)


def set_rates(optimizer: torch.optim.Optimizer, s: Settings, progress: float) -> None:
    """The optimiser's learning rates at this progress: late steps are short, so that the noise of each averages out."""
    left = s.lr_end ** between(s.lr_falls_from, 1.0, progress)
    for group in optimizer.param_groups:
        group["lr"] = left * getattr(s, f"lr_{group['name']}")


def whose_turn(step: int, count: int) -> int:
    """The object a step looks at: each once in `count` steps, every such round begun by the next one.

    So no object is always the one whose step also looks at the whole scene.
    """
    return (step + step // count) % count


class _Loop:
    """What stays the same from step to step, and the step itself."""

    def __init__(
        self, request: SceneRequest, settings: Settings, models: Models, scene: Scene, generator: torch.Generator
    ) -> None:
        self.settings, self.scene = settings, scene
        self.objective = Objective(request, settings, models, scene, generator)
        self.names = [slot.name for slot in request.slots]
        self.reviver = Reviver(self.names)

    def step(self, step: int, progress: float, optimizer: torch.optim.Optimizer) -> tuple[dict[str, float], Tensor]:
        """One update of all parameters. Returns the unweighted losses by name, and the object's pictures."""
        index = self.scene.free[whose_turn(step, len(self.scene.free))]
        surfaces = self.reviver.surfaces(self.scene, optimizer)
        terms, pictures = self.objective.of_object(index, surfaces[index], progress)
        if len(self.names) > 1 and step % self.settings.scene_every == 0:
            terms |= self.objective.of_scene(surfaces)
        for name, loss in terms.items():
            self._require_finite(loss, f"the loss {name!r} is {loss.item()} at step {step}", index)
        weights = loss_weights(self.settings, progress)
        set_rates(optimizer, self.settings, progress)
        optimizer.zero_grad(set_to_none=True)
        torch.stack([weights[name] * loss for name, loss in terms.items()]).sum().backward()
        self.scene.keep_looks_of_others(index)
        for group in optimizer.param_groups:
            norms = [p.grad.norm() for p in group["params"] if p.grad is not None]
            if norms:
                what = f"the gradient of the {group['name']} is not finite at step {step}"
                self._require_finite(torch.stack(norms), what, index)
        optimizer.step()
        return {name: loss.item() for name, loss in terms.items() if name not in PULLS}, pictures

    def _require_finite(self, values: Tensor, what: str, index: int) -> None:
        if not torch.isfinite(values).all():
            remedy = "Lower lr_geometry or lr_colour, or take another seed"
            raise OptimisationError(what, where=self.names[index], remedy=remedy)


def loss_weights(s: Settings, progress: float) -> dict[str, float]:
    """What each of the objective's terms counts: the loss is the sum of weight times term."""
    return {
        "prior": 0.0,  # told, not summed: its gradient is in `object`
        "lora": 0.0,  # VSD's, which has its own optimiser
        "object": 1.0,  # the networks' pulls are balanced when they are made
        "scene": 1.0,
        "carving": s.carving_weight,
        "laplacian": s.laplacian_weight,
        "eikonal": s.eikonal_weight,
        "normal": s.normal_weight,
        "deviation": s.deviation_weight,
        "cube": s.cube_weight,
        "entropy": linear(*s.entropy_weight, progress * 4),
        "penetration": s.penetration_weight,
        "support": s.support_weight,
        "relation": s.relation_weight,
    }
