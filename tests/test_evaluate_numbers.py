"""The evaluation's statistics and tables, against numbers known from elsewhere, and where its runs begin."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from backend.arrange.relations import RELATIONS, bounds_of, box_bounds
from backend.errors import OutputError, RequestError
from backend.evaluate.judging import nothing_shown
from backend.evaluate.methods import DEFAULT, METHODS, overrides_of, read_methods
from backend.evaluate.report import put_into, tables
from backend.evaluate.statistics import bootstrap_mean, wilson
from backend.evaluate.suite import STARTER, request_for
from backend.evaluate.summary import LOG_ODDS, by_relation, check_comparable, differences, mean_log_odds, summarise
from backend.evaluate.trials import part_of, plan
from backend.prepare import prepare
from backend.presets import settings_for
from backend.scene.slots import Scene


@pytest.mark.parametrize(("hits", "count", "low", "high"), [(8, 10, 0.4902, 0.9433), (0, 20, 0.0, 0.1611)])
def test_wilsons_interval_is_the_published_one(hits, count, low, high) -> None:
    found = wilson(hits, count)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert (found.value, found.observations) == (hits / count, count)


def test_wilsons_interval_is_scipys() -> None:
    for count in (1, 2, 24, 72):
        for hits in range(count + 1):
            theirs = binomtest(hits, count).proportion_ci(0.95, "wilson")
            assert (wilson(hits, count).low, wilson(hits, count).high) == pytest.approx((theirs.low, theirs.high))
    assert wilson(0, 0) is None


def test_the_bootstrap_finds_the_normal_interval_of_many_values() -> None:
    values = np.random.default_rng(5).normal(3.0, 2.0, 400)
    found = bootstrap_mean(values.tolist())
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert bootstrap_mean(values.tolist()) == found


def test_the_bootstrap_of_few_or_equal_values() -> None:
    assert bootstrap_mean([]) is None
    assert bootstrap_mean([4.0]) == (4.0, None, None, 1)
    assert bootstrap_mean([4.0] * 5) == (4.0, 4.0, 4.0, 5)


@pytest.mark.parametrize("number", range(1, len(STARTER) + 1))
def test_a_run_begins_alike_for_all_methods_and_with_its_relation_unfulfilled(number) -> None:
    case, starts = STARTER[number - 1], []
    for seed in range(5):
        requests = [request_for(case, number, seed, overrides_of(name, {})) for name in METHODS]
        assert len({request.slots for request in requests}) == 1
        prepared, warnings = prepare(requests[0])
        assert prepared.slots == requests[0].slots
        assert not warnings
        assert not any(slot.lock_position or slot.lock_rotation or slot.lock_size for slot in prepared.slots)
        boxes = [box_bounds(torch.tensor(s.centre), torch.tensor(s.size)) for s in prepared.slots]
        assert (torch.minimum(*(b.high for b in boxes)) < torch.maximum(*(b.low for b in boxes))).any()  # apart
        assert not RELATIONS[case.relation].check(*boxes)
        starts.append(prepared.slots[0].centre)
    assert len(set(starts)) == 5


def test_the_first_bodies_do_not_fulfil_the_relation_either() -> None:
    for number, case in enumerate(STARTER, start=1):
        request = request_for(case, number, 0, {})
        scene = Scene(request.slots, 8, torch.device("cpu"), torch.Generator().manual_seed(0))
        mesh = scene.scene_mesh(surfaces := scene.surfaces(training=False))
        bodies = mesh.vertices.detach().split([len(surface.vertices) for surface in surfaces])
        assert RELATIONS[case.relation].loss(*map(bounds_of, bodies)) > 0.2, case.prompt


def test_no_method_but_the_preset_has_hinge_losses_and_all_are_valid_settings() -> None:
    found = {name: settings_for("starter", overrides_of(name, {"steps": 7})) for name in METHODS}
    assert {name for name, settings in found.items() if settings.relation_weight} == {"preset"}
    assert {name for name, settings in found.items() if settings.relation_reward_weight == 0} == {
        name for name in METHODS if "vlm3d" not in name and name != "preset"
    }
    assert {name for name in DEFAULT if found[name].strategy != "none"} == {n for n in DEFAULT if "reward" in n}
    assert {name for name in METHODS if found[name].distillation == "vsd"} == {"vsd", "reward-vsd"}
    assert {settings.steps for settings in found.values()} == {7}


def test_parts_share_the_runs_scene_by_scene() -> None:
    trials = plan("starter", ("sds", "vlm3d"), 5, 2)
    assert len(trials) == 20
    parts = [part_of(trials, f"{k}/3") for k in (1, 2, 3)]
    assert sorted(trial for part in parts for trial in part) == sorted(trials)
    scenes = [{(t.number, t.seed) for t in part} for part in parts]
    assert [len(part) for part in parts] == [2 * len(own) for own in scenes] == [8, 6, 6]
    assert part_of(trials, "1/1") == trials


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_another_part_is_refused(part) -> None:
    with pytest.raises(RequestError, match="--part: expected K/N"):
        part_of(plan("starter", ("sds",), 2, 1), part)


def test_faulty_plans_are_refused() -> None:
    with pytest.raises(RequestError, match=r"--prompts: .*12 prompts, 13"):
        plan("starter", ("sds",), 13, 1)
    with pytest.raises(RequestError, match="--seeds"):
        plan("starter", ("sds",), 1, 0)
    with pytest.raises(RequestError, match="--methods: there is no method 'sdf'"):
        read_methods("sds,sdf")
    assert read_methods("vlm3d, sds,vlm3d") == ("vlm3d", "sds")


def result(
    method: str, number: int, seed: int, relation: bool, colours: tuple[bool, bool], seconds: float = 10
) -> dict:
    """A finished run's result with the verdicts given, all else wrong."""
    shows = nothing_shown(STARTER[number - 1]) | {"relation_holds": relation}
    for thing, right in zip(shows["objects"], colours, strict=True):
        thing["colour_right"] = right
    networks = ("denoiser", "encoder", "decoder", "vision", "language")
    calls = {name: {"forwards": 2, "samples": 8} for name in networks}
    made = {"device": "cpu", "threads": 1, "seconds": seconds, "calls": calls}
    trial = {"suite": "starter", "number": number, "seed": seed, "method": method}
    asked = {"trial": trial, "settings": {"steps": 3}, "weights": "w"}
    return {"asked": asked, "made": made, "judge": "j", "shows": shows}


RESULTS = [
    result("sds", 1, 0, False, (True, True), 10),
    result("sds", 2, 0, False, (True, False), 30),
    result("vlm3d", 1, 0, True, (True, True)),
    result("vlm3d", 1, 1, True, (True, True)),  # no partner
    result("vlm3d", 2, 0, False, (False, False)),
]


def test_the_summary_counts_objects_and_runs() -> None:
    table = summarise(RESULTS)
    assert table["sds"]["colour"] == wilson(3, 4)
    assert table["vlm3d"]["relation"] == wilson(2, 3)
    assert table["sds"]["noun by shape"].observations == 3  # a table is no basic shape
    assert table["sds"]["seconds"].value == 20
    assert (table["sds"]["UNet"].value, table["sds"]["VAE"].value, table["sds"]["VLM"].value) == (2, 4, 4)
    assert by_relation(RESULTS) == {"on top of": {"sds": (0, 2), "vlm3d": (2, 3)}}


def test_differences_are_those_of_the_same_scenes() -> None:
    table = differences(RESULTS)
    assert set(table) == {"vlm3d"}
    assert (table["vlm3d"]["relation"].value, table["vlm3d"]["relation"].observations) == (0.5, 2)
    assert table["vlm3d"]["colour"].value == -0.25
    assert (table["vlm3d"]["relation"].low, table["vlm3d"]["relation"].high) == (0.0, 1.0)
    assert differences(RESULTS[2:]) == {}


def test_a_failed_run_is_all_wrong_and_has_no_seconds() -> None:
    failed = result("sds", 3, 0, False, (False, False))
    failed["made"] = {"device": "cpu", "threads": 1, "failed": "vanished", "calls": {}}
    table = summarise([*RESULTS, failed])
    assert table["sds"]["colour"] == wilson(3, 6)
    assert table["sds"]["seconds"].observations == 2
    assert table["sds"]["failed"].value == pytest.approx(1 / 3)


def judged(method: str, number: int, seed: int, log_odds: tuple[float, float]) -> dict:
    """A finished run whose objects have these log-odds of content."""
    made = result(method, number, seed, False, (True, True))
    for thing, value in zip(made["shows"]["objects"], log_odds, strict=True):
        thing["content_log_odds"] = value
    return made


JUDGED = [
    judged("sds", 1, 0, (1.0, 3.0)),
    judged("sds", 1, 1, (5.0, 5.0)),
    judged("sds", 2, 0, (0.0, -1.0)),
    judged("reward-sds", 1, 0, (2.0, 3.0)),
    judged("reward-sds", 2, 0, (0.0, 0.0)),
    result("reward-sds", 2, 1, False, (False, False)),  # came to nothing
]


def test_log_odds_are_averaged_by_prompt_and_differ_by_scene() -> None:
    own, over = mean_log_odds(JUDGED), differences(JUDGED, LOG_ODDS)
    assert (own["sds"]["content"].value, own["sds"]["content"].observations) == ((3.5 - 0.5) / 2, 2)
    assert own["reward-sds"]["content"].value == (2.5 + 0.0) / 2
    assert own["sds"]["whole"] is None
    assert (over["reward-sds"]["content"].value, set(over)) == (0.5, {"reward-sds"})
    text = tables(plan("starter", ("sds", "reward-sds"), 2, 2), JUDGED)
    assert "| method | content | whole | content, over `sds` | whole, over `sds` |" in text
    assert "| reward-sds | +1.25 (+0.00 to +2.50) |  | +0.50 (+0.50 to +0.50) |  |" in text


@pytest.mark.parametrize("key", ["weights", "judge", "steps"])
def test_results_of_different_origin_are_not_put_into_one_table(key) -> None:
    other = result("vlm3d", 3, 0, True, (True, True))
    {"weights": other["asked"], "judge": other, "steps": other["asked"]["settings"]}[key][key] = "another"
    check_comparable(RESULTS)
    with pytest.raises(RequestError, match=f"different {key}"):
        check_comparable([*RESULTS, other])


def test_the_tables_show_the_numbers() -> None:
    text = tables(plan("starter", ("sds", "vlm3d"), 2, 2), RESULTS)
    assert "5 of 8 runs are done: 2 prompts, 2 seeds, 3 steps" in text
    assert "| sds | 0 (0-66), n 2 | 75 (30-95), n 4 |" in text
    assert "| vlm3d | +50 (+0 to +100) | -25 (-50 to +0) |" in text
    assert "| on top of | 0/2 | 2/3 |" in text
    assert "| sds | 20 (10-30) | 2 (2-2) | 4 (4-4) | 4 (4-4) | 0/2 |" in text


def test_tables_are_put_between_the_marks_again_and_again(tmp_path) -> None:
    path = tmp_path / "doc.md"
    path.write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    for text in ("one", "two"):
        put_into(path, text)
    assert path.read_text() == "before\n<!-- results -->\n\ntwo\n\n<!-- end of results -->\nafter\n"
    path.write_text("no marks")
    with pytest.raises(OutputError, match="has no place"):
        put_into(path, "three")
    assert path.read_text() == "no marks"
