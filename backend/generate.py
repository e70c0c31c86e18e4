"""The optimisation: a request's slots become shaped, coloured and arranged objects."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .arrange.physics import standing_on, support_loss, total_penetration_loss
from .arrange.relations import RELATIONS, Bounds, bounds_of
from .checkpoint import Checkpoint, save_checkpoint
from .errors import OptimisationError
from .guidance import questions
from .guidance.critics import balanced, prior_pull, reward_pull, view_prompts
from .guidance.models import Models
from .render.lighting import sample_lighting
from .render.shade import render
from .render.views import object_views, scene_views
from .scene import regularize
from .scene.isosurface import Surface
from .scene.mesh import Mesh
from .scene.slots import Scene
from .schedules import after, linear
from .schema import SceneRequest, Settings

MAX_REVIVALS = 30  # vanished surfaces brought back in one run before it is given up
POINTS = 400  # surface points of a body that are looked for inside another


class Step(NamedTuple):
    """What the caller is told after each step."""

    step: int  # steps done
    steps: int  # steps in all
    losses: dict[str, float]  # unweighted
    rewards: dict[str, float]  # log-odds of Yes, by question; the last time each was asked
    seconds_left: float
    pictures: Tensor  # (B, H, W, 3) sRGB in [0, 1], the object's views of this step


OnStep = Callable[[Step], None]


class Outcome(NamedTuple):
    """The optimised scene."""

    scene: Scene
    rewards: dict[str, float]
    seconds: float
    revivals: int


def generate(
    request: SceneRequest,
    settings: Settings,
    models: Models,
    device: torch.device,
    on_step: OnStep,
    checkpoint_path: Path,
    resume: Checkpoint | None = None,
) -> Outcome:
    """The request's scene, optimised.

    `request` has slots and laid-out boxes (see arrange.layout). Checkpoints go to `checkpoint_path` as the settings
    say; `resume` goes on from one. An exception from `on_step` ends the run; the last checkpoint stays.
    Raises OptimisationError when a loss is not finite or an object keeps vanishing.
    """
    generator = torch.Generator().manual_seed(request.seed)
    scene = Scene(request.slots, settings.resolution, device, generator)
    if resume:
        resume.restore_scene(scene)
    optimizer = make_optimizer(scene, settings)
    if resume:
        resume.restore_optimizer(optimizer)
        resume.restore_generator(generator)
    loop = _Loop(request, settings, models, scene, generator)
    first, started = resume.step if resume else 0, time.monotonic()
    saved, refine_at = started, round(settings.refine_at * settings.steps)
    for step in range(first, settings.steps):
        if step == refine_at and settings.final_resolution > settings.resolution:
            scene.refine(settings.final_resolution)
            optimizer = make_optimizer(scene, settings)
        losses, pictures = loop.step(step, optimizer)
        now = time.monotonic()
        left = (now - started) / (step + 1 - first) * (settings.steps - step - 1)
        if now - saved > settings.checkpoint_every_s:
            save_checkpoint(checkpoint_path, scene, optimizer, generator, step + 1, request.model_dump_json())
            saved = now
        on_step(Step(step + 1, settings.steps, losses, dict(loop.rewards), left, pictures))
    return Outcome(scene, loop.rewards, time.monotonic() - started, loop.revivals)


def make_optimizer(scene: Scene, settings: Settings) -> torch.optim.Adam:
    """Adam over everything that is free to change."""
    groups = scene.parameter_groups(settings.lr_geometry, settings.lr_colour, settings.lr_placement)
    return torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-12)


class _Loop:
    """What stays the same from step to step, and the step itself."""

    def __init__(
        self, request: SceneRequest, settings: Settings, models: Models, scene: Scene, generator: torch.Generator
    ) -> None:
        self.request, self.settings, self.models, self.scene, self.generator = (
            request,
            settings,
            models,
            scene,
            generator,
        )
        self.names = [slot.name for slot in request.slots]
        self.prompts = {slot.name: slot.prompt for slot in request.slots}
        self.on = standing_on(self.names, request.relations)
        self.rewards: dict[str, float] = {}
        self.revivals = 0
        self.references: dict[int, Tensor] = {}  # norm of the prior's last pull on each object: the rewards' measure
        self._texts: dict[tuple[str, ...], Tensor] = {}

    def step(self, step: int, optimizer: torch.optim.Optimizer) -> tuple[dict[str, float], Tensor]:
        """One update of all parameters. Returns the unweighted losses by name, and the object's pictures."""
        s, progress = self.settings, step / self.settings.steps
        index = step % len(self.names)
        surfaces = self._surfaces(optimizer)
        shape = self.scene.slots[index].shape
        pictures, object_pull, x_prior = self._look_at_object(index, surfaces[index], progress)
        field, cell = shape.field(), shape.cell
        terms = {  # name: (loss, weight)
            "prior": (x_prior, 0.0),  # its gradient is in object_pull
            "object": ((pictures * object_pull).sum(), 1.0),
            "laplacian": (regularize.laplacian_loss(field, cell), s.laplacian_weight),
            "eikonal": (regularize.eikonal_loss(field, cell), s.eikonal_weight),
            "normal": (self._normal_loss(index, surfaces[index]), s.normal_weight),
            "deviation": (surfaces[index].l_dev, s.deviation_weight),
            "cube": (regularize.weights_loss(shape.weights), s.cube_weight),
            "entropy": (regularize.sign_entropy_loss(field), linear(*s.entropy_weight, progress * 4)),
        }
        if len(self.names) > 1 and step % s.scene_every == 0:
            terms |= self._arrangement(surfaces)
        for name, (loss, _) in terms.items():
            if not torch.isfinite(loss):
                raise OptimisationError(
                    f"the loss {name!r} is {loss.item()} at step {step}",
                    where=self.names[index],
                    remedy="Lower lr_geometry or lr_colour, or take another seed",
                )
        optimizer.zero_grad(set_to_none=True)
        total = torch.stack([weight * loss for loss, weight in terms.values()]).sum()
        total.backward()
        self._check_gradients(optimizer, step, self.names[index])
        optimizer.step()
        shown = {name: loss.item() for name, (loss, _) in terms.items() if name not in ("object", "scene")}
        return shown, pictures.detach()

    def _check_gradients(self, optimizer: torch.optim.Optimizer, step: int, name: str) -> None:
        for group in optimizer.param_groups:
            norms = [p.grad.norm() for p in group["params"] if p.grad is not None]
            if norms and not torch.isfinite(torch.stack(norms)).all():
                raise OptimisationError(
                    f"the gradient of the {group['name']} is not finite at step {step}",
                    where=name,
                    remedy="Take another seed, or lower the learning rates",
                )

    def _surfaces(self, optimizer: torch.optim.Optimizer) -> list[Surface]:
        """Every slot's surface, vanished ones brought back first."""
        surfaces = self.scene.surfaces(training=True)
        revived = self.scene.recover(surfaces)
        if not revived:
            return surfaces
        self.revivals += len(revived)
        if self.revivals > MAX_REVIVALS:
            raise OptimisationError(
                "the object keeps vanishing", where=self.names[revived[0]], remedy="Lower lr_geometry, or raise views"
            )
        for index in revived:
            for parameter in self.scene.slots[index].shape.parameters():
                optimizer.state.pop(parameter, None)
        return self.scene.surfaces(training=True)

    def _look_at_object(self, index: int, surface: Surface, progress: float) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures of one object, the pull of prior and VLM on them, and the prior's loss."""
        s, device = self.settings, surface.vertices.device
        prompt = self.request.slots[index].prompt
        cameras = object_views(s.views, self.generator, device)
        lighting = sample_lighting(cameras, torch.zeros(3, device=device), self.generator)
        px = self.models.prior.image_px
        pictures = render(self.scene.slot_mesh(index, surface), self.scene.colour, cameras, lighting, px, px).rgb
        negative = self.request.negative_prompt or s.negative_prompt
        text = self._text(view_prompts(prompt, cameras, self.models.prior)), self._text([negative] * s.views)
        prior = prior_pull(self.models.prior, pictures, text, cameras, s, progress, self.generator)
        self.references[index], pull = prior.gradient.norm(), prior.gradient
        weight = s.object_reward_weight * after(s.reward_from, progress)
        if weight:
            asked = questions.about_object(prompt)
            reward = reward_pull(self.models.vlm, pictures[:2], asked)
            name = self.names[index]
            self.rewards |= {f"{name}: {q}": r for q, r in zip(asked, reward.value.tolist(), strict=True)}
            doubt = torch.sigmoid(-reward.value).max()
            pull = torch.cat([pull[:2] + balanced(reward.gradient, self.references[index], weight * doubt), pull[2:]])
        return pictures, pull, prior.value

    def _arrangement(self, surfaces: list[Surface]) -> dict[str, tuple[Tensor, float]]:
        """How the objects stand to each other: the VLM's reward, and hinge losses on where they are."""
        s = self.settings
        mesh = self.scene.scene_mesh(surfaces)
        still = self.scene.scene_mesh([surface._replace(vertices=surface.vertices.detach()) for surface in surfaces])
        points, bounds = [], []
        for count_from, surface in zip(_starts(surfaces), surfaces, strict=True):
            own = still.vertices[count_from : count_from + len(surface.vertices)]
            bounds.append(bounds_of(own))
            points.append(own[torch.randint(len(own), (POINTS,), generator=self.generator)])
        stacked = Bounds(torch.stack([b.low for b in bounds]), torch.stack([b.high for b in bounds]))
        terms = {
            "penetration": (self._penetration(points, stacked), s.penetration_weight),
            "support": (support_loss(stacked, self.on.to(stacked.low.device)), s.support_weight),
        }
        if self.request.relations:
            hinges = [
                RELATIONS[r.relation].loss(bounds[self.names.index(r.subject)], bounds[self.names.index(r.object)])
                for r in self.request.relations
            ]
            terms["relation"] = (torch.stack(hinges).sum(), s.relation_weight)
            if s.relation_reward_weight:
                terms["scene"] = (self._scene_reward(mesh, stacked), 1.0)
        return terms

    def _scene_reward(self, mesh: Mesh, bounds: Bounds) -> Tensor:
        """The VLM's pull on pictures of the whole scene, as a loss whose gradient is that pull."""
        low, high = bounds.low.detach().amin(0), bounds.high.detach().amax(0)
        cameras = scene_views(low, high, self.generator)
        lighting = sample_lighting(cameras, (low + high) / 2, self.generator)
        px = self.models.prior.image_px
        pictures = render(mesh, self.scene.colour, cameras, lighting, px, px).rgb
        asked = [
            questions.about_relation(self.prompts[r.subject], r.relation, self.prompts[r.object])
            for r in self.request.relations
        ]
        reward = reward_pull(self.models.vlm, pictures, asked)
        self.rewards |= dict(zip(asked, reward.value.tolist(), strict=True))
        doubt = torch.sigmoid(-reward.value).max()
        reference = torch.stack(list(self.references.values())).mean()
        pull = balanced(reward.gradient, reference, self.settings.relation_reward_weight * doubt)
        return (pictures * pull).sum()

    def _penetration(self, points: list[Tensor], bounds: Bounds) -> Tensor:
        sizes = (bounds.high - bounds.low).detach().mean(-1)
        sdfs = [lambda p, i=i: self.scene.sdf_at(i, p) for i in range(len(self.names))]
        return total_penetration_loss(points, sdfs, sizes)

    def _normal_loss(self, index: int, surface: Surface) -> Tensor:
        mesh = self.scene.slot_mesh(index, surface)
        return regularize.normal_smoothness_loss(mesh.vertices, mesh.faces)

    def _text(self, prompts: list[str]) -> Tensor:
        key = tuple(prompts)
        if key not in self._texts:
            self._texts[key] = self.models.prior.encode_text(prompts)
        return self._texts[key]


def _starts(surfaces: list[Surface]) -> list[int]:
    """Index of each surface's first vertex in the merged mesh."""
    starts = [0]
    for surface in surfaces[:-1]:
        starts.append(starts[-1] + len(surface.vertices))
    return starts
