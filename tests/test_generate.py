"""The loop on untrained networks: what it reports, what it keeps, how it stops, goes on and recovers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from backend import objective
from backend.checkpoint import Checkpoint
from backend.errors import OptimisationError, RequestError
from backend.generate import Outcome, Step, _Loop, generate, make_optimizer, set_rates, whose_turn
from backend.guidance import questions
from backend.guidance.critics import balanced, reward_pull
from backend.guidance.models import Models, load_models
from backend.guidance.rewards import RewardModel
from backend.guidance.variational import VariationalScore
from backend.presets import settings_for
from backend.revival import MAX_REVIVALS
from backend.scene.slots import Scene
from backend.schema import SceneRequest, Settings, read_request

CPU = torch.device("cpu")
STEPS, TOTAL, REFINE = 3, 6, 3  # for each object, in all, and in all until the grids are refined
CUBE = {"name": "cube", "prompt": "a red cube", "centre": [1.2, 0, 0.5]}
BALL = {"name": "ball", "prompt": "a blue sphere", "centre": [0, 0, 0.5]}
LEFT = {"subject": "cube", "relation": "left of", "object": "ball"}  # false as they are placed
PAIR = {"slots": [CUBE, BALL], "relations": [LEFT], "seed": 3}
ALONE = {"slots": [CUBE], "seed": 3}
SMALL = {
    "steps": STEPS,
    "refine_at": REFINE / TOTAL,
    "views": 2,
    "resolution": 8,
    "final_resolution": 10,
    "reward_from": 0.0,
    "scene_every": 2,
}


@pytest.fixture(scope="module")
def models(folders) -> Models:
    prior, vlm = folders
    return load_models(small(prior=str(prior), vlm=str(vlm)), CPU)


def small(**changes) -> Settings:
    return settings_for("starter", {**SMALL, **changes})


def go(
    models: Models, folder: Path, request: dict = PAIR, on_step=lambda step: None, resume=None, **changes
) -> Outcome:
    path = folder / "checkpoint.safetensors"
    return generate(read_request(request), small(**changes), models, CPU, on_step, path, resume)


def make_loop(models: Models, asked: dict = ALONE, **changes) -> tuple[_Loop, torch.optim.Adam]:
    request: SceneRequest = read_request(asked)
    settings, generator = small(**changes), torch.Generator().manual_seed(0)
    scene = Scene(request.slots, settings.resolution, CPU, generator)
    return _Loop(request, settings, models, scene, generator), make_optimizer(scene, settings)


@contextmanager
def spoiled(parameter: torch.Tensor) -> Iterator[None]:
    """One weight of a network infinite, as a damaged file or an overflow would have it."""
    kept = parameter.detach().clone()
    parameter.data[0] = torch.inf
    try:
        yield
    finally:
        parameter.data.copy_(kept)


@pytest.fixture(scope="module")
def whole_run(models, tmp_path_factory) -> tuple[Outcome, list[Step]]:
    """A run of both objects that nothing disturbed, and the steps it told of."""
    told: list[Step] = []
    return go(models, tmp_path_factory.mktemp("run"), on_step=told.append), told


def test_every_step_is_told_once_and_in_order(whole_run) -> None:
    told = whole_run[1]
    assert [step.step for step in told] == [1, 2, 3, 4, 5, 6]
    assert {step.steps for step in told} == {TOTAL}
    assert all(step.pictures.shape == (2, 64, 64, 3) and not step.pictures.requires_grad for step in told)


def test_time_left_goes_down_to_nothing(whole_run) -> None:
    left = [step.seconds_left for step in whole_run[1]]
    assert left[-1] == 0.0
    assert max(left[:-1]) > left[-2] or len(set(left)) == 2
    assert all(seconds > 0 for seconds in left[:-1])


def test_a_step_reshapes_the_object_it_looks_at_and_moves_all(models) -> None:
    loop, optimizer = make_loop(models, PAIR)
    before = {name: value.detach().clone() for name, value in loop.scene.named_parameters()}
    loop.step(0, 0.0, optimizer)  # the cube's turn, and the scene's
    changed = {name for name, value in loop.scene.named_parameters() if not torch.equal(value, before[name])}
    assert {"slots.0.shape.sdf", "slots.0.placement.translation", "slots.1.placement.translation"} <= changed
    assert not [name for name in changed if name.startswith("slots.1.") and "placement" not in name]


def test_losses_have_their_names_and_scene_terms_come_every_second_step(whole_run) -> None:
    scene_terms = {"penetration", "support", "relation"}
    object_terms = {"prior", "carving", "laplacian", "eikonal", "normal", "deviation", "cube", "entropy"}
    for step in whole_run[1]:
        assert set(step.losses) == object_terms | (scene_terms if step.step % 2 == 1 else set())
        assert all(isinstance(value, float) for value in step.losses.values())


def test_rewards_are_kept_for_every_question_asked(whole_run, models) -> None:
    (outcome, told), wording = whole_run, models.vlm.wording
    asked = {f"cube: {question.name}" for question in questions.about_object("a red cube", wording)}
    asked |= {f"ball: {question.name}" for question in questions.about_object("a blue sphere", wording)}
    assert outcome.rewards.keys() == asked | {"cube left of ball: Is the red cube to the left of the blue sphere?"}
    assert told[-1].rewards == outcome.rewards


def test_two_relations_of_objects_with_equal_prompts_are_kept_apart(models, tmp_path) -> None:
    names = ("one", "two", "three")
    data = {
        "slots": [{"name": name, "prompt": "a red cube", "centre": [2 * i, 0, 0.5]} for i, name in enumerate(names)],
        "relations": [
            {"subject": "one", "relation": "left of", "object": "two"},
            {"subject": "two", "relation": "left of", "object": "three"},
        ],
    }
    rewards = go(models, tmp_path, data, steps=1).rewards
    asked = "Is the red cube to the left of the red cube?"
    assert {f"one left of two: {asked}", f"two left of three: {asked}"} <= rewards.keys()


def test_a_model_that_reads_whole_sentences_is_asked_in_all_phrasings_and_of_each_attribute(
    models, tmp_path, monkeypatch
) -> None:
    texts: set[str] = set()

    def listening(vlm, pictures, asked, form):
        texts.update(asked)
        return reward_pull(vlm, pictures, asked, form)

    monkeypatch.setattr(models.vlm, "wording", questions.FULL)
    monkeypatch.setattr(objective, "reward_pull", listening)
    rewards = go(models, tmp_path, ALONE, steps=12).rewards
    phrasings = [questions.about_object("a red cube", questions.FULL, turn) for turn in range(len(questions.FULL.both))]
    assert texts == {question.text for asked in phrasings for question in asked}
    assert "cube: Is the cube red?" in rewards and len(rewards) == 4


def test_the_object_reward_waits_for_its_share_of_the_run(models, tmp_path) -> None:
    told: list[Step] = []
    go(models, tmp_path, ALONE, told.append, reward_from=0.5, steps=4)
    assert [bool(step.rewards) for step in told] == [False, False, True, True]


def test_the_object_reward_is_asked_for_no_more_once_it_has_faded(models, tmp_path, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(objective, "reward_pull", lambda *told: asked.append(told) or reward_pull(*told))
    go(models, tmp_path, ALONE, steps=8, reward_fade=[0.25, 0.5], reward_form="probability")
    assert len(asked) == 4  # at 0, 1, 2 and 3 of 8 steps
    assert {told[3] for told in asked} == {"probability"}


@pytest.mark.parametrize(("form", "share"), [("logistic", 0.25), ("log-odds", 1.0), ("probability", 1.0)])
def test_the_rewards_weight_falls_with_the_vlms_doubt_in_the_logistic_form_alone(
    models, tmp_path, monkeypatch, form, share
) -> None:
    def sure(*told):  # of three Yeses: the least sure at odds of 3 to 1
        return reward_pull(*told)._replace(value=torch.tensor([3.0, 9.0, 27.0]).log())

    weights = []
    monkeypatch.setattr(objective, "reward_pull", sure)
    monkeypatch.setattr(objective, "balanced", lambda *told: weights.append(float(told[2])) or balanced(*told))
    go(models, tmp_path, ALONE, steps=1, reward_form=form, object_reward_weight=2.0)
    assert weights == [pytest.approx(2.0 * share)]


@pytest.mark.parametrize("views", [1, 2, 3])
def test_a_question_is_put_with_as_many_views_as_the_setting_says(models, tmp_path, monkeypatch, views) -> None:
    seen = []
    packed = models.vlm.packed
    monkeypatch.setattr(models.vlm, "packed", lambda grids, asked: seen.append(len(grids)) or packed(grids, asked))
    explored = {"strategy": "best", "candidates": 2, "explore_steps": 1, "explore_until": 1.0}
    go(models, tmp_path, ALONE, steps=1, views=3, vlm_views=views, **explored)
    assert seen == [views, views]  # the candidates, then the pictures


def test_another_reward_scores_the_candidates(models, tmp_path) -> None:
    seen = []

    def brightness(images: torch.Tensor, prompt: str) -> torch.Tensor:
        seen.append((tuple(images.shape), prompt))
        return images.mean(dim=(1, 2, 3, 4))

    extremes = {"strategy": "min-max", "candidates": 2, "extremes": 1, "explore_steps": 2, "explore_until": 1.0}
    reward = RewardModel(brightness, lambda prompt: "")
    go(models._replace(reward=reward), tmp_path, ALONE, steps=2, views=2, **extremes)
    assert [prompt for _, prompt in seen] == ["a red cube"] * 2
    assert all(shape[:2] == (2, 2) and shape[-1] == 3 for shape, _ in seen)


class Stop(Exception):
    """What an on_step raises that wants no more."""


def stopped(models: Models, folder: Path, stop_at: int, **changes) -> Checkpoint:
    """The checkpoint of a run that was stopped after so many steps."""

    def on_step(step: Step) -> None:
        if step.step == stop_at:
            raise Stop

    with pytest.raises(Stop):
        go(models, folder, on_step=on_step, checkpoint_every_s=1e-9, **changes)
    return Checkpoint(folder / "checkpoint.safetensors")


def require_equal(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> None:
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name


@pytest.mark.parametrize("stop_at", [2, REFINE, 4])  # before the grids are refined, just then, and after
def test_a_resumed_run_ends_where_an_undisturbed_one_does(models, whole_run, tmp_path, stop_at) -> None:
    checkpoint = stopped(models, tmp_path, stop_at)
    assert checkpoint.step == stop_at
    told: list[Step] = []
    resumed = go(models, tmp_path, on_step=told.append, resume=checkpoint)
    assert [step.step for step in told] == list(range(stop_at + 1, TOTAL + 1))
    require_equal(whole_run[0].scene.state_dict(), resumed.scene.state_dict())


def test_locked_placement_is_kept_exactly_and_free_placement_moves_to_its_relation(models, tmp_path) -> None:
    locked = {**BALL, "lock_position": True, "lock_rotation": True, "lock_size": True, "rotation_deg": [0, 0, 30]}
    request = {**PAIR, "slots": [CUBE, locked]}
    told: list[Step] = []
    changes = {"scene_every": 1, "relation_reward_weight": 0.0, "lr_placement": 0.1, "object_reward_weight": 0.0}
    scene = go(models, tmp_path, request, told.append, **changes).scene
    start = Scene(read_request(request).slots, 8, CPU, torch.Generator())
    assert torch.equal(scene.to_world(1), start.to_world(1))
    assert scene.to_world(0)[0, 3] < start.to_world(0)[0, 3] - 0.2  # to the left, where it belongs
    assert told[-1].losses["relation"] < told[0].losses["relation"]


@pytest.mark.parametrize("lock", ["position", "rotation", "size"])
def test_each_lock_holds_alone(models, lock) -> None:
    request = read_request({"slots": [{**CUBE, f"lock_{lock}": True}]})
    placement = Scene(request.slots, 8, CPU, torch.Generator()).slots[0].placement
    free = {name for name, p in placement.named_parameters() if p.requires_grad}
    names = {"position": "translation", "rotation": "turn", "size": "log_scale"}
    assert free == set(names.values()) - {names[lock]}


def test_a_vanished_surface_is_brought_back_without_its_momentum(models) -> None:
    loop, optimizer = make_loop(models)
    shape = loop.scene.slots[0].shape
    for step in range(2):
        loop.step(step, 0.0, optimizer)
    with torch.no_grad():
        shape.sdf.fill_(1.0)
    loop.step(2, 0.0, optimizer)
    assert loop.reviver.count == 1
    assert optimizer.state[shape.sdf]["step"] == 1  # the moments are those of the one step since
    assert optimizer.state[loop.scene.slots[0].appearance.levels[0]]["step"] == 3
    assert len(loop.scene.surfaces(training=False)[0].faces) > 0


def test_an_object_that_keeps_vanishing_ends_the_run(models) -> None:
    loop, optimizer = make_loop(models)
    for _ in range(MAX_REVIVALS):
        loop.scene.slots[0].shape.sdf.data.fill_(1.0)
        loop.reviver.surfaces(loop.scene, optimizer)
    loop.scene.slots[0].shape.sdf.data.fill_(1.0)
    with pytest.raises(OptimisationError, match="cube: the object keeps vanishing"):
        loop.reviver.surfaces(loop.scene, optimizer)


def test_a_spoiled_prior_is_named(models, tmp_path) -> None:
    with spoiled(models.prior.unet.conv_out.bias), pytest.raises(OptimisationError, match=r"cube.*'prior'.*step 0"):
        go(models, tmp_path, ALONE)


def test_a_spoiled_vision_language_model_is_named_and_leaves_no_checkpoint(models, tmp_path) -> None:
    weight = models.vlm.network.get_output_embeddings().weight
    with spoiled(weight.data[models.vlm.yes_id]), pytest.raises(OptimisationError, match="'object'"):
        go(models, tmp_path, ALONE, checkpoint_every_s=1e-9)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["geometry", "colour", "placement"])
def test_a_gradient_that_is_not_finite_is_named_and_changes_nothing(models, part) -> None:
    loop, optimizer = make_loop(models, PAIR)
    group = next(group for group in optimizer.param_groups if part in group["name"])
    parameter = next(p for p in group["params"] if p.requires_grad)
    parameter.register_hook(lambda gradient: gradient * torch.nan)
    before = {name: value.clone() for name, value in loop.scene.state_dict().items()}
    with pytest.raises(OptimisationError, match=rf"cube: the gradient of the {group['name']} is not finite at step 0"):
        loop.step(0, 0.0, optimizer)
    assert all(torch.equal(before[name], value) for name, value in loop.scene.state_dict().items())


def test_colours_come_in_their_share_of_the_run_and_are_all_there_at_the_end(models, tmp_path, monkeypatch) -> None:
    shown: list[float] = []
    show_detail = Scene.show_detail

    def noted(scene: Scene, share: float) -> None:
        shown.append(share)
        show_detail(scene, share)

    monkeypatch.setattr(Scene, "show_detail", noted)
    scene = go(models, tmp_path, ALONE, steps=4, colour_from=(0.25, 0.75)).scene
    assert shown == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert scene.slots[0].appearance.detail == 1.0


def test_one_view_is_enough(models, tmp_path) -> None:
    go(models, tmp_path, ALONE, views=1, steps=1)


def test_another_seed_gives_another_object_and_the_same_one_the_same(models, tmp_path) -> None:
    one, two, other = (go(models, tmp_path, {**ALONE, "seed": seed}, steps=2).scene.state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["slots.0.shape.sdf"], other["slots.0.shape.sdf"])


def test_learning_rates_stay_and_then_fall_to_their_share(models) -> None:
    loop, optimizer = make_loop(models, lr_falls_from=0.5, lr_end=0.01)
    for progress, left in ((0.0, 1.0), (0.5, 1.0), (0.75, 0.1), (1.0, 0.01)):
        set_rates(optimizer, loop.settings, progress)
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(left * getattr(loop.settings, f"lr_{group['name']}"))


def test_objects_take_turns_and_none_always_begins_a_round() -> None:
    order = [whose_turn(step, 3) for step in range(9)]
    assert [sorted(order[i : i + 3]) for i in (0, 3, 6)] == [[0, 1, 2]] * 3
    assert {order[0], order[3], order[6]} == {0, 1, 2}


@pytest.mark.parametrize("strategy", ["best", "weighted", "min-max"])
def test_reward_sds_explores_candidates_in_3d_until_its_share_has_passed(
    models, tmp_path, strategy, monkeypatch
) -> None:
    calls = []
    real = models.prior.predict_noise
    monkeypatch.setattr(
        models.prior, "predict_noise", lambda noisy, *rest: calls.append(len(noisy)) or real(noisy, *rest)
    )
    explored = {"strategy": strategy, "candidates": 4, "explore_steps": 2, "explore_until": 0.5}
    told: list[Step] = []
    go(models, tmp_path, ALONE, lambda step: told.append((step, len(calls))), steps=4, **explored)
    counts = [count for _, count in told]
    assert counts[0] > 1  # explored, then asked for the candidates' noises
    assert counts[3] - counts[2] == 1  # past the share: one candidate, one call


def test_too_few_candidates_are_an_error_before_the_run(models, tmp_path) -> None:
    with pytest.raises(RequestError, match="needs 4 candidates"):
        go(models, tmp_path, ALONE, strategy="min-max", candidates=3)


VSD = {"distillation": "vsd", "lora_lr": 3e-3, "object_reward_weight": 0.0, "relation_reward_weight": 0.0}
REWARD_VSD = VSD | {"strategy": "min-max", "candidates": 4, "explore_steps": 2, "explore_until": 1.0}


@pytest.mark.parametrize("stop_at", [1, REFINE, 4])  # the second object's LoRA untaught yet, at the refinement, after
def test_a_resumed_vsd_run_ends_where_an_undisturbed_one_does(models, tmp_path, stop_at) -> None:
    whole = go(models, tmp_path, **VSD).scene.state_dict()
    checkpoint = stopped(models, tmp_path, stop_at, **VSD)
    require_equal(whole, go(models, tmp_path, resume=checkpoint, **VSD).scene.state_dict())


def test_what_each_objects_lora_has_learnt_is_in_the_checkpoint_and_kept_when_grids_are_refined(
    models, tmp_path
) -> None:
    parts = []
    for stop_at in (REFINE, REFINE + 1):
        checkpoint = stopped(models, tmp_path, stop_at, **VSD)
        loop, _ = make_loop(models, PAIR, **VSD)
        own = loop.objective.distiller.own
        untaught = {index: {k: v.clone() for k, v in score.tensors().items()} for index, score in own.items()}
        checkpoint.restore_variational(own)
        parts.append({index: {k: v.clone() for k, v in score.tensors().items()} for index, score in own.items()})
        assert own.keys() == {0, 1}
        for index, score in own.items():
            learnt = score.tensors()
            assert any(not torch.equal(learnt[name], untaught[index][name]) for name in learnt)
            assert any(state["exp_avg"].abs().max() > 0 for state in score.optimizer.state.values())
    before, after = parts
    turn = whose_turn(REFINE, 2)
    require_equal(before[1 - turn], after[1 - turn])  # the other's LoRA did not see the step
    assert any(not torch.equal(before[turn][name], after[turn][name]) for name in before[turn])


@pytest.mark.parametrize("changes", [VSD, REWARD_VSD])
def test_vsd_is_another_way_and_the_same_seed_goes_it_twice(models, tmp_path, changes) -> None:
    told: list[Step] = []
    one, two = (go(models, tmp_path, ALONE, told.append, steps=3, **changes).scene.state_dict() for _ in range(2))
    require_equal(one, two)
    plain = go(models, tmp_path, ALONE, steps=3, **{**changes, "distillation": "sds"}).scene.state_dict()
    assert not torch.equal(one["slots.0.shape.sdf"], plain["slots.0.shape.sdf"])
    assert all(step.losses["lora"] > 0 for step in told)


def test_what_the_lora_learns_changes_where_a_vsd_run_leads(models, tmp_path, monkeypatch) -> None:
    taught = go(models, tmp_path, ALONE, steps=3, **VSD).scene.state_dict()
    monkeypatch.setattr(VariationalScore, "learn", lambda own, *lesson: own.loss(*lesson).detach())  # the same draws
    frozen = go(models, tmp_path, ALONE, steps=3, **VSD).scene.state_dict()
    assert (taught["slots.0.shape.sdf"] - frozen["slots.0.shape.sdf"]).abs().max() > 1e-6


def test_a_vsd_run_leaves_the_prior_as_it_was(models, tmp_path) -> None:
    before = {name: value.clone() for name, value in models.prior.unet.state_dict().items()}
    go(models, tmp_path, ALONE, steps=2, **VSD)
    require_equal(before, models.prior.unet.state_dict())


def test_a_checkpoint_of_an_sds_run_is_refused_by_vsd(models, tmp_path) -> None:
    checkpoint = stopped(models, tmp_path, 2)
    with pytest.raises(RequestError, match="no usable checkpoint"):
        go(models, tmp_path, resume=checkpoint, **VSD)
