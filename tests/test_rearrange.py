"""Placements found by trying: what the starter VLM is content with, once a run, and only what may move."""

from pathlib import Path

import pytest
import torch

from backend.arrange.relations import RELATIONS, bounds_of
from backend.generate import make_optimizer
from backend.guidance.models import Models, load_models
from backend.objective import Objective
from backend.rearrange import rearrange
from backend.scene.slots import Scene
from backend.schema import read_request

from .test_generate import BALL, CPU, CUBE, LEFT, PAIR, TOTAL, go, require_equal, small, stopped


@pytest.fixture(scope="module")
def models(folders: tuple[Path, Path]) -> Models:
    """Untrained ones, for what does not depend on their answers."""
    prior, vlm = folders
    return load_models(small(prior=str(prior), vlm=str(vlm)), CPU)


def test_a_search_finds_the_place_a_vlm_is_content_with_and_leaves_what_is_locked() -> None:
    """The starter models: their VLM knows left from right, and no hinge loss tells it."""
    settings = small(search_rounds=6, search_samples=16, resolution=12, relation_weight=0.0)
    models = load_models(settings, CPU)
    still = {**BALL, "lock_position": True}
    request = read_request({**PAIR, "slots": [CUBE, still], "seed": 1})
    generator = torch.Generator().manual_seed(1)
    scene = Scene(request.slots, settings.resolution, CPU, generator)
    red, blue = torch.tensor([0.8, 0.1, 0.1]), torch.tensor([0.1, 0.2, 0.8])
    scene.colour = lambda local, slot: torch.where((slot == 0)[:, None], red, blue)
    before = scene.to_world(1).clone()
    optimizer = make_optimizer(scene, settings)
    moved = scene.model(0).placement.translation
    optimizer.state[moved] = {"step": torch.tensor(3.0)}
    rearrange(Objective(request, settings, models, scene, generator), optimizer)
    bodies = scene.scene_mesh(surfaces := scene.surfaces(training=False)).vertices.detach()
    cube, ball = (bounds_of(own) for own in bodies.split([len(surface.vertices) for surface in surfaces]))
    assert RELATIONS["left of"].check(cube, ball)
    assert torch.equal(scene.to_world(1), before)
    assert moved not in optimizer.state
    assert abs(cube.low[2].item()) < 0.4  # physics counts: it neither floats nor sinks far


def test_a_search_is_made_once_and_a_resumed_run_does_not_repeat_it(models, tmp_path, monkeypatch) -> None:
    searched = []
    monkeypatch.setattr("backend.generate.rearrange", lambda *given: searched.append(given) or rearrange(*given))
    changes = {"search_rounds": 2, "search_samples": 3, "search_at": 0.5}
    whole = go(models, tmp_path, **changes)
    assert len(searched) == 1
    stop_at = TOTAL - 2  # after the search
    checkpoint = stopped(models, tmp_path, stop_at, **changes)
    searched.clear()
    resumed = go(models, tmp_path, resume=checkpoint, **changes)
    assert not searched
    require_equal(whole.scene.state_dict(), resumed.scene.state_dict())


def test_nothing_to_search_for_changes_nothing(models, tmp_path) -> None:
    locked = {"slots": [{**slot, "lock_position": True} for slot in (CUBE, BALL)], "relations": [LEFT], "seed": 3}
    for asked in (locked, {**PAIR, "relations": []}):
        runs = [go(models, tmp_path, asked, search_rounds=rounds).scene.state_dict() for rounds in (0, 2)]
        require_equal(*runs)
