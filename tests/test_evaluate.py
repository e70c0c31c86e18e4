"""`python -m backend evaluate` on untrained networks: what is made, what is kept, and how often the networks ran."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from backend.cli import main
from backend.evaluate.calls import counted
from backend.evaluate.making import PICTURE, PICTURE_PX, Maker
from backend.evaluate.methods import overrides_of
from backend.evaluate.suite import STARTER, request_for
from backend.evaluate.trials import Trial
from backend.generate import generate
from backend.guidance.models import Models, load_models
from backend.presets import settings_for
from tests.small_models import write_small_models
from tests.small_vlms import write_small_vlm

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
SMALL = {"views": 2, "resolution": 8, "final_resolution": 8, "texture_px": 64, "reward_from": 0}
STEPS, VIEWS, SEEN, ASKED = 6, 2, 2, 3  # of both objects together; of an object; of them the VLM's; questions about it
LOOKS = 3  # at the whole scene: every other step


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Untrained prior, VLM and judge."""
    root = tmp_path_factory.mktemp("models")
    prior, vlm = write_small_models(root)
    return {"prior": prior, "vlm": vlm, "judge": write_small_vlm("qwen3_vl", root / "judge")}


@pytest.fixture(scope="module")
def command(folders):
    """The arguments of the smallest evaluation of two methods, into a folder."""

    def arguments(out: Path, *more: str) -> list[str]:
        changes = SMALL | {"prior": str(folders["prior"]), "vlm": str(folders["vlm"])}
        sets = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
        plan = ["--methods", "sds,vlm3d", "--prompts", "1", "--seeds", "1", "--steps", "1", "--device", "cpu"]
        return ["evaluate", *plan, *sets, "--judge", str(folders["judge"]), "--out", str(out), *more]

    return arguments


@pytest.fixture(scope="module")
def done(command, tmp_path_factory) -> Path:
    """The folder of a finished evaluation."""
    out = tmp_path_factory.mktemp("evaluation")
    assert main(command(out)) == 0
    return out


@pytest.fixture
def copy(done, tmp_path) -> Path:
    """A copy of it that may be changed; files keep their times."""
    return shutil.copytree(done, tmp_path / "evaluation")


def results(out: Path) -> dict[str, Path]:
    """The files of the runs' results, by method."""
    return {path.parents[1].name: path for path in sorted(out.glob("runs/*/*/result.json"))}


def times(out: Path) -> dict[str, int]:
    """When each run's scene was written."""
    return {name: path.with_name("scene.glb").stat().st_mtime_ns for name, path in results(out).items()}


def test_every_run_leaves_its_scene_its_picture_and_its_verdicts(done) -> None:
    for name, path in results(done).items():
        found = json.loads(path.read_text())
        assert found["asked"]["trial"] == {"suite": "starter", "number": 1, "seed": 0, "method": name}
        assert found["asked"]["settings"]["relation_weight"] == 0
        assert [thing["asked"] for thing in found["shows"]["objects"]] == ["a red cube", "a blue sphere"]
        assert found["shows"]["relation"] == "on top of"
        assert found["made"]["seconds"] > 0
        assert not found["judged_by_reward"]
        assert Image.open(path.with_name(PICTURE)).size == (PICTURE_PX, PICTURE_PX)
    assert set(results(done)) == {"sds", "vlm3d"}


def test_the_report_has_tables_numbers_and_a_sheet(done) -> None:
    text, numbers = (done / "report.md").read_text(), json.loads((done / "results.json").read_text())
    assert "2 of 2 runs are done" in text
    assert "(sheet_0.png)" in text
    assert len(numbers["runs"]) == 2
    assert set(numbers["methods"]) == {"sds", "vlm3d"}
    assert set(numbers["over_sds"]) == {"vlm3d"}
    sheet = Image.open(done / "sheet_0.png")
    assert 2 * PICTURE_PX < sheet.width < 3 * PICTURE_PX
    assert len(sheet.getcolors(sheet.width * sheet.height)) > 100


def test_the_methods_begin_with_the_same_boxes_and_the_vlm_is_asked_by_one_alone(done) -> None:
    sds, vlm3d = (json.loads(path.read_text()) for _, path in sorted(results(done).items()))
    assert sds["asked"]["request"]["slots"] == vlm3d["asked"]["request"]["slots"]
    assert sds["made"]["calls"]["language"]["forwards"] == 0 < vlm3d["made"]["calls"]["language"]["forwards"]
    assert sds["made"]["rewards"] == {}
    assert len(vlm3d["made"]["rewards"]) == 2 * ASKED + 1


def test_what_is_there_is_neither_made_nor_judged_again(done, command, capsys) -> None:
    before, told = times(done), {name: path.read_bytes() for name, path in results(done).items()}
    assert main(command(done)) == 0
    assert times(done) == before
    assert {name: path.read_bytes() for name, path in results(done).items()} == told
    assert capsys.readouterr().out.count("(was there)") == 2


def test_another_judge_looks_again_at_what_is_there(copy, command, folders, capsys) -> None:
    before = times(copy)
    assert main([*command(copy), "--judge", str(folders["vlm"])]) == 0
    assert times(copy) == before
    found = [json.loads(path.read_text()) for path in results(copy).values()]
    assert all(result["judged_by_reward"] for result in found)
    assert "warning: the judge has the reward's own weights" in capsys.readouterr().err
    assert "reward's own weights" in (copy / "report.md").read_text()


def test_the_report_alone_needs_no_networks(copy, command, tmp_path) -> None:
    for name in ("report.md", "results.json", "sheet_0.png"):
        (copy / name).unlink()
    document = tmp_path / "evaluation.md"
    document.write_text("<!-- results -->\n<!-- end of results -->\n")
    before = times(copy)
    more = ["--seeds", "2", "--judge", "nowhere", "--report-only", "--into", str(document)]
    assert main([*command(copy), *more]) == 0
    assert times(copy) == before
    assert "2 of 4 runs are done" in (copy / "report.md").read_text()
    assert "| vlm3d |" in document.read_text()
    assert (copy / "sheet_0.png").is_file()


def test_other_settings_are_made_again_and_not_mixed_with_what_is_there(copy, command, capsys) -> None:
    before = times(copy)
    more = ["--methods", "sds", "--seeds", "2", "--part", "1/2", "--set", "scene_every=1"]
    assert main([*command(copy), *more]) == 0
    after = times(copy)
    assert after["sds"] > before["sds"]
    assert after["vlm3d"] == before["vlm3d"]
    assert not (copy / "runs" / "sds" / "01-1").exists()  # the other part's
    assert main([*command(copy), "--report-only"]) == 2
    assert "results of different scene_every lie together" in capsys.readouterr().err


def test_a_run_that_fails_is_all_wrong_and_keeps_no_picture_of_an_earlier_one(copy, command, capsys) -> None:
    assert main(command(copy, "--set", "laplacian_weight=1e39")) == 0
    assert "failed: " in capsys.readouterr().out
    for path in results(copy).values():
        assert not json.loads(path.read_text())["shows"]["relation_holds"]
        assert not path.with_name(PICTURE).exists()


def test_changed_weights_ask_for_another_run(folders, tmp_path) -> None:
    vlm = shutil.copytree(folders["vlm"], tmp_path / "vlm")
    changes, trial = {"prior": str(folders["prior"]), "vlm": str(vlm)}, Trial("starter", 1, 0, "sds")
    before = [Maker(tmp_path, CPU, changes, folders["judge"]).asked(trial) for _ in range(2)]
    tensors = load_file(vlm / "model.safetensors")
    tensors[min(tensors)] += 1
    save_file(tensors, vlm / "model.safetensors", {"format": "pt"})
    after = Maker(tmp_path, CPU, changes, folders["judge"]).asked(trial)
    assert before[0] == before[1]
    assert {key for key in after if after[key] != before[0][key]} == {"weights"}


def test_a_missing_judge_is_one_clear_message(command, tmp_path, capsys) -> None:
    assert main([*command(tmp_path / "out"), "--judge", str(tmp_path / "none")]) == 2
    message = capsys.readouterr().err.splitlines()
    assert len(message) == 1
    assert "no vision-language model here to judge with" in message[0]
    assert "--judge FOLDER" in message[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--set", "stepps=3"], "settings.stepps: unknown setting"),
        (["--set", "views"], "--set: expected NAME=VALUE"),
        (["--steps", "0"], "settings.steps"),
        (["--methods", "dds"], "no method 'dds'"),
        (["--part", "2/1"], "--part"),
        (["--prompts", "99"], "--prompts"),
    ],
)
def test_faulty_arguments_end_before_the_first_run(command, tmp_path, capsys, more, says) -> None:
    assert main([*command(tmp_path / "out"), *more]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_with_the_run_that_was_cut_off(command, tmp_path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-m", "backend", *command(out)], cwd=ROOT)
    deadline = time.monotonic() + 500
    try:
        while not (out / "runs" / "vlm3d" / "01-0").exists():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert set(results(out)) == {"sds"}
    before = times(out)
    assert main(command(out)) == 0
    assert set(results(out)) == {"sds", "vlm3d"}
    assert times(out)["sds"] == before["sds"]


@pytest.fixture(scope="module")
def models(folders) -> Models:
    return load_models(settings_for("starter", {k: str(folders[k]) for k in ("prior", "vlm")}), CPU)


def calls_of(models: Models, folder: Path, method: str, **changes) -> dict[str, tuple[int, int]]:
    """Forward passes and samples by network, of a run of three steps for each of two objects."""
    overrides = overrides_of(method, SMALL | {"steps": STEPS // 2} | changes)
    request = request_for(STARTER[0], 1, 0, overrides)
    settings = settings_for("starter", request.settings)
    with counted(models) as calls:
        generate(request, settings, models, CPU, lambda step: None, folder / "c.safetensors")
    return {name: (count["forwards"], count["samples"]) for name, count in calls.items()}


def test_sds_calls_the_prior_once_a_step_and_no_vlm(models, tmp_path) -> None:
    assert calls_of(models, tmp_path, "sds") == {
        "denoiser": (STEPS, STEPS * 2 * VIEWS),  # with and without the prompt
        "encoder": (STEPS, STEPS * VIEWS),
        "decoder": (STEPS, STEPS * VIEWS),  # the target, as a picture
        "vision": (0, 0),
        "language": (0, 0),
    }


def test_vlm3d_asks_in_every_step_and_at_every_look_at_the_scene(models, tmp_path) -> None:
    found = calls_of(models, tmp_path, "vlm3d")
    assert found["denoiser"] == (STEPS, STEPS * 2 * VIEWS)
    assert found["vision"] == (STEPS + LOOKS, STEPS * SEEN + LOOKS * 2)
    assert found["language"] == (STEPS + LOOKS, STEPS * ASKED + LOOKS)


def test_reward_sds_pays_for_its_exploration(models, tmp_path) -> None:
    fixed = {"t_max": [0.5, 0.5], "t_min": [0.5, 0.5], "candidates": 2, "explore_steps": 4, "explore_until": 0.5}
    explored, visited, kept = 4, 2, 1  # steps of the run, timesteps 499 and 249, the best of two candidates
    found = calls_of(models, tmp_path, "reward-sds-best", **fixed)
    assert found["denoiser"] == (
        explored * visited + STEPS,
        explored * visited * 2 * 2 * VIEWS + STEPS * kept * 2 * VIEWS,
    )
    assert found["decoder"] == (explored + STEPS, explored * 2 * VIEWS + STEPS * VIEWS)
    assert found["vision"] == (explored, explored * 2 * SEEN)  # both candidates at once
    assert found["language"] == (explored, explored * 2 * ASKED)


def test_vsds_lora_counts_with_the_denoiser_it_is_a_copy_of(models, tmp_path) -> None:
    found = calls_of(models, tmp_path, "vsd")
    guided, own, learnt = 2 * VIEWS, VIEWS, VIEWS
    assert found["denoiser"] == (3 * STEPS, STEPS * (guided + own + learnt))
    assert found["vision"] == (0, 0)


def test_nothing_is_counted_outside_the_block(models) -> None:
    picture = torch.rand(1, models.prior.image_px, models.prior.image_px, 3)
    with counted(models) as calls:
        models.prior.encode(picture)
    models.prior.encode(picture)
    assert calls["encoder"] == {"forwards": 1, "samples": 1}
