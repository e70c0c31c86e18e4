"""Where objects stand, found by trying: places are drawn, seen, and weighed by what the VLM says of the relations."""

from __future__ import annotations

import torch
from torch import Tensor

from .arrange.search import search
from .objective import Objective

ASKED_AT_ONCE = 8  # placements whose pictures are held before the VLM is asked about them
PHYSICS = 4.0  # what bodies in each other or in the air count, against the log-probability of Yes


@torch.no_grad()
def rearrange(objective: Objective, optimizer: torch.optim.Optimizer) -> None:
    """Move the objects that relations name to the best places found; none of them if their own are the best.

    A gradient leads to the next place where the VLM is content, and where its slope is flat, nowhere; samples see
    further. It is the reward-weighted exploration of RewardSDS (arXiv 2503.09601) with layouts for noises, and the
    reward of VLM3D (arXiv 2509.15772): the sum over the relations of log p(Yes), less the physics losses. Nothing is
    drawn on what the relations' hinge losses know. The optimiser forgets its momentum for what was moved.
    """
    scene, settings, generator = objective.scene, objective.settings, objective.generator
    named = {name for relation in objective.request.relations for name in (relation.subject, relation.object)}
    moving = [
        index
        for index in scene.free
        if objective.names[index] in named and scene.model(index).placement.translation.requires_grad
    ]
    if not moving:
        return
    places = [scene.model(index).placement.translation for index in moving]
    surfaces = scene.surfaces(training=False)
    asked = [question.text for question in objective.about_relations()]

    def put(translations: Tensor) -> None:
        for place, translation in zip(places, translations, strict=True):
            place.copy_(translation)

    def score(tried: Tensor) -> Tensor:
        scores = []
        for some in tried.split(ASKED_AT_ONCE):
            pictures, physics = [], []
            for translations in some:
                put(translations)
                mesh, bounds, terms = objective.standing(surfaces)
                pictures.append(objective.scene_pictures(mesh, bounds))
                physics.append(
                    settings.penetration_weight * terms["penetration"] + settings.support_weight * terms["support"]
                )
            odds = objective.models.vlm.log_odds_of_each(torch.stack(pictures), asked, settings.denoise_at_once)
            scores.append(torch.nn.functional.logsigmoid(odds.float()).sum(1) - PHYSICS * torch.stack(physics))
        return torch.cat(scores)

    start = torch.stack(places)
    size = torch.stack([scene.model(index).placement.extent() for index in moving]).mean().item()
    found = search(
        score,
        start,
        torch.zeros(len(moving), dtype=torch.bool, device=start.device),
        generator,
        settings.search_rounds,
        settings.search_samples,
        settings.search_spread * size,
    )
    put(found)
    for place in places:
        optimizer.state.pop(place, None)
