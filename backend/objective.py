"""The terms of the loss, unweighted and by name: what the networks say of the pictures, and what shapes should be."""

from __future__ import annotations

import torch
from torch import Tensor

from .arrange.physics import GROUND_M, standing_on, support_loss, total_penetration_loss
from .arrange.relations import RELATIONS, Bounds, bounds_of
from .carving import carving_loss
from .guidance import questions
from .guidance.conditions import Conditions
from .guidance.critics import balanced, reward_pull
from .guidance.distiller import Distiller
from .guidance.models import Models
from .guidance.questions import Question
from .guidance.rewards import Reward, vlm_reward
from .render.lighting import sample_lighting
from .render.shade import render
from .render.views import object_views, scene_views
from .scene import regularize
from .scene.isosurface import Surface
from .scene.mesh import Mesh
from .scene.slots import Scene
from .schedules import after, between
from .schema import SceneRequest, Settings

PHRASINGS = 60  # divisible by however many a wording has: each of them comes as often
POINTS = 400  # surface points of a body that are looked for inside another

Terms = dict[str, Tensor]  # scalars by name


class Objective:
    """What a run's terms are made of, and what is remembered of them from step to step.

    A network's pull on the pictures comes as the term `object` or `scene`, whose gradient is that pull and whose value
    says nothing.
    """

    def __init__(
        self, request: SceneRequest, settings: Settings, models: Models, scene: Scene, generator: torch.Generator
    ) -> None:
        self.request, self.settings, self.models = request, settings, models
        self.scene, self.generator = scene, generator
        self.names = [slot.name for slot in request.slots]
        self.prompts = {slot.name: slot.prompt for slot in request.slots}
        self.on = standing_on(self.names, request.relations)
        self.rewards: dict[str, float] = {}  # log-odds of Yes, by "what: question"; the last time each was asked
        self.pull_norms: dict[int, Tensor] = {}  # of the prior's last pull on each object: the rewards' measure
        negative = request.negative_prompt or settings.negative_prompt
        self.conditions = Conditions(models.prior, negative, settings.perp_neg)
        self.distiller = Distiller(models.prior, settings, scene.free, self._candidates_reward(), generator)

    def of_object(self, index: int, surface: Surface, progress: float) -> tuple[Terms, Tensor]:
        """The terms of one object, and its pictures (B, H, W, 3)."""
        mesh, shape = self.scene.slot_mesh(index, surface), self.scene.model(index).shape
        pictures, pull, told = self._look_at_object(index, mesh, progress)
        field = shape.field()
        terms = told | {
            "object": (pictures * pull).sum(),
            "laplacian": regularize.laplacian_loss(field, shape.cell),
            "eikonal": regularize.eikonal_loss(field, shape.cell),
            "normal": regularize.normal_smoothness_loss(mesh.vertices, mesh.faces),
            "deviation": surface.l_dev,
            "cube": regularize.weights_loss(shape.weights),
            "entropy": regularize.sign_entropy_loss(field),
        }
        return terms, pictures.detach()

    def of_scene(self, surfaces: list[Surface]) -> Terms:
        """How the objects stand to each other: hinge losses on where they are, and the VLM's reward.

        These move objects and do not reshape them: a relation is easier to feign with a bent object than to fulfil.
        Penetration alone does both: a body gives way where another one's points are in it.
        """
        still, bounds, terms = self.standing(surfaces)
        if self.request.relations:
            hinges = [
                RELATIONS[r.relation].loss(bounds[self.names.index(r.subject)], bounds[self.names.index(r.object)])
                for r in self.request.relations
            ]
            terms["relation"] = torch.stack(hinges).sum()
            if self.settings.relation_reward_weight:
                terms["scene"] = self._look_at_scene(still, bounds)
        return terms

    def standing(self, surfaces: list[Surface]) -> tuple[Mesh, list[Bounds], Terms]:
        """The scene's mesh, whose gradient moves objects and does not reshape them, each slot's bounds, and physics."""
        still = self.scene.scene_mesh([surface._replace(vertices=surface.vertices.detach()) for surface in surfaces])
        points, bounds = [], []
        for index, own in enumerate(still.vertices.split([len(surface.vertices) for surface in surfaces])):
            bounds.append(bounds_of(own))
            points.append(self.scene.surface_points(index, own, POINTS, self.generator))
        stacked = _stacked(bounds)
        on = self.on.to(stacked.low.device)
        terms = {
            "penetration": self._penetration(points, stacked),
            "support": support_loss(stacked, on, self.scene.free, self._ground(stacked)),
        }
        return still, bounds, terms

    def scene_pictures(self, mesh: Mesh, bounds: list[Bounds]) -> Tensor:
        """The whole scene as the VLM is shown it: (2, H, W, 3). bounds: of each slot."""
        stacked = _stacked(bounds)
        low, high = self.scene.in_view(stacked.low.detach(), stacked.high.detach())
        cameras = scene_views(low, high, self.generator)
        lighting = sample_lighting(cameras, (low + high) / 2, self.generator)
        px = self.models.prior.image_px
        return render(mesh, self.scene.colour, cameras, lighting, px, px).rgb

    def about_relations(self) -> list[Question]:
        """What the VLM is asked about the whole scene, a question for each relation."""
        wording = self.models.vlm.wording
        return [
            questions.about_relation(self.prompts[r.subject], r.relation, self.prompts[r.object], wording)
            for r in self.request.relations
        ]

    def _look_at_object(self, index: int, mesh: Mesh, progress: float) -> tuple[Tensor, Tensor, Terms]:
        """Pictures of one object, the pull of prior and VLM on them, and the losses whose gradient is in that pull."""
        s, device = self.settings, mesh.vertices.device
        prompt = self.request.slots[index].prompt
        cameras = object_views(s.views, self.generator, device, self.models.prior.elevation_deg)
        lighting = sample_lighting(cameras, torch.zeros(3, device=device), self.generator)
        px = self.models.prior.image_px
        frames = render(mesh, self.scene.colour, cameras, lighting, px, px)
        pictures = frames.rgb
        condition = self.conditions.of(prompt, cameras)
        distilled, learnt = self.distiller.pull(index, pictures, prompt, condition, progress)
        loss, pull = distilled.pull
        terms = {"prior": loss} | ({} if learnt is None else {"lora": learnt})
        if s.carving_weight and distilled.wanted is not None:
            shape = self.scene.model(index).shape
            terms["carving"] = carving_loss(
                frames,
                distilled.wanted,
                lighting.background,
                cameras,
                lambda at: shape.distance(at / shape.proportions),
            )
        self.pull_norms[index] = pull.norm()
        weight = s.object_reward_weight * after(s.reward_from, progress) * (1 - between(*s.reward_fade, progress))
        if weight:
            turn = int(torch.randint(PHRASINGS, (), generator=self.generator))
            asked = questions.about_object(prompt, self.models.vlm.wording, turn)
            told = [f"{self.names[index]}: {question.name}" for question in asked]
            reward = self._ask(pictures[: s.vlm_views], asked, told, self.pull_norms[index], weight)
            pull = torch.cat([pull[: s.vlm_views] + reward, pull[s.vlm_views :]])
        return pictures, pull, terms

    def _candidates_reward(self) -> Reward:
        """What scores candidates: another model, or the VLM on as many views as it is shown otherwise."""
        if self.models.reward is not None:
            return self.models.reward.score
        score, views = vlm_reward(self.models.vlm, self.settings.denoise_at_once), self.settings.vlm_views
        return lambda images, prompt: score(images[:, :views], prompt)

    def _look_at_scene(self, mesh: Mesh, bounds: list[Bounds]) -> Tensor:
        """The VLM's pull on pictures of the whole scene, as a loss whose gradient is that pull."""
        pictures, asked = self.scene_pictures(mesh, bounds), self.about_relations()
        told = [f"{r}: {question.name}" for r, question in zip(self.request.relations, asked, strict=True)]
        reference = torch.stack([norm for _, norm in sorted(self.pull_norms.items())]).mean()
        pull = self._ask(pictures, asked, told, reference, self.settings.relation_reward_weight)
        return (pictures * pull).sum()

    def _ask(
        self, pictures: Tensor, asked: list[Question], told: list[str], reference: Tensor, weight: float
    ) -> Tensor:
        """The VLM's pull on the pictures, `weight` times as long as the reference.

        With the logistic form it is the shorter the surer the VLM is of every Yes: balancing takes the length away that
        log sigmoid(r) has by itself. VLM3D's forms (arXiv 2509.15772) have their full weight whatever the answer.
        told: the names under which the rewards are reported: which objects, and the question in its short wording.
        """
        texts = [question.text for question in asked]
        reward = reward_pull(self.models.vlm, pictures, texts, self.settings.reward_form)
        self.rewards |= dict(zip(told, reward.value.tolist(), strict=True))
        doubt = torch.sigmoid(-reward.value).max() if self.settings.reward_form == "logistic" else 1.0
        return balanced(reward.gradient, reference, weight * doubt)

    def _ground(self, bounds: Bounds) -> Tensor:
        """Height of what is below each object's middle, context or the ground: (S,) metres."""
        height = self.scene.height_below(((bounds.low + bounds.high) / 2).detach())
        return torch.where(height.isfinite(), height, GROUND_M)

    def _penetration(self, points: list[Tensor], bounds: Bounds) -> Tensor:
        sizes = (bounds.high - bounds.low).detach().mean(-1)
        sdfs = [lambda p, i=i: self.scene.sdf_at(i, p) for i in range(len(self.names))]
        return total_penetration_loss(points, sdfs, sizes, self.scene.free)


def _stacked(bounds: list[Bounds]) -> Bounds:
    return Bounds(torch.stack([b.low for b in bounds]), torch.stack([b.high for b in bounds]))
