"""The service's parts that need no process: store, refining, memory, checkpoints, the worker's line."""

import ast
import os
import sqlite3
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import torch

import backend
from backend.errors import OutputError, RequestError
from backend.out_of_memory import explain_memory, is_memory_error, suggest
from backend.presets import PRESETS, settings_for
from backend.service.folder import CHECKPOINT, FINAL, DataFolder, checkpoint_of, log_tail
from backend.service.jobs import Jobs
from backend.service.preview import write_preview
from backend.service.refine import with_more_steps
from backend.service.requests import read_scene
from backend.service.run_picture import advise_picture
from backend.service.store import Store

CUBE = {"name": "cube", "prompt": "a red cube"}
CPU = torch.device("cpu")


@pytest.fixture
def jobs(tmp_path) -> Jobs:
    folder = DataFolder(tmp_path / "data")
    return Jobs(folder, Store(folder.database))


def accept(jobs: Jobs, count: int = 1) -> list[str]:
    return [jobs.accept(read_scene({"slots": [CUBE]}), None).id for _ in range(count)]


def test_jobs_are_taken_in_the_order_they_came_and_a_resumed_one_waits_behind_all(jobs) -> None:
    first, second, third = accept(jobs, 3)
    taken = jobs.take()
    assert taken and taken.id == first
    jobs.end(first, "interrupted")
    assert jobs.resume(first, None).position == 3
    assert [row.id for row in (jobs.take(), jobs.take(), jobs.take()) if row] == [second, third, first]
    assert jobs.take() is None


def test_a_warning_that_a_resumed_run_repeats_is_kept_once(jobs) -> None:
    (job_id,) = accept(jobs)
    for warning in ("too dark", "too small", "too dark"):
        jobs.take()
        jobs.warned(job_id, warning)
        jobs.end(job_id, "interrupted")
        jobs.resume(job_id, None)
    assert jobs.get(job_id).warnings == ["too dark", "too small"]


def test_a_store_opened_again_has_everything_and_what_ran_is_interrupted(jobs) -> None:
    running, cancelling, queued = accept(jobs, 3)
    jobs.take(), jobs.take()
    jobs.cancel(cancelling)
    again = Jobs(jobs.data, Store(jobs.data.database))  # the first was never closed, as after kill -9
    again.recover()
    assert [again.get(i).state for i in (running, cancelling, queued)] == ["interrupted", "cancelled", "queued"]
    (event,) = [event for event in again.store.events_after(running, 0) if event.kind == "done"]
    assert '"interrupted"' in event.data


def test_the_time_a_killed_service_was_down_is_not_counted(jobs) -> None:
    (job_id,) = accept(jobs)
    jobs.take()
    began = datetime.now(timezone.utc)
    jobs.store.change(job_id, started=(began - timedelta(hours=9)).isoformat())
    sign = jobs.data.job(job_id) / "log.txt"
    sign.write_bytes(b"")
    written = (began - timedelta(hours=8)).timestamp()
    for path in sign.parent.iterdir():
        os.utime(path, (written, written))
    jobs.recover()
    assert jobs.get(job_id).seconds == pytest.approx(3600, abs=1)


def test_what_a_kill_cut_off_is_swept_and_results_are_kept_though_the_list_is_lost(jobs) -> None:
    (kept,) = accept(jobs)
    taken_in, unlisted = (jobs.data.job(f"20260101-000000-abcde{n}") for n in "ab")
    for folder, name in ((taken_in, "meshes.glb"), (unlisted, "scene.glb"), (jobs.data.inbox, "cut off.glb")):
        folder.mkdir()
        (folder / name).write_bytes(b"")
    jobs.recover()
    assert not taken_in.exists() and not jobs.data.inbox.exists()
    assert (unlisted / "scene.glb").exists()
    assert jobs.data.job(kept).is_dir()


def test_a_job_that_another_version_accepted_is_still_listed(jobs) -> None:
    (job_id,) = accept(jobs)
    jobs.store.change(job_id, request={"prompt": "a cube", "from_the_future": 1})
    assert jobs.get(job_id).request.prompt == "a cube"


def test_event_numbers_are_never_used_twice(jobs) -> None:
    (job_id,) = accept(jobs)
    last = jobs.store.events_after(job_id, 0)[-1].number
    jobs.store.forget_events(job_id)
    jobs.logged(job_id, "more")
    assert jobs.store.events_after(job_id, 0)[0].number > last


def test_a_transaction_that_fails_leaves_nothing(jobs) -> None:
    (job_id,) = accept(jobs)

    def half_done() -> None:
        with jobs.store.transaction():
            jobs.store.change(job_id, state="done")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half_done()
    assert jobs.get(job_id).state == "queued"


def test_threads_take_each_job_once(jobs) -> None:
    wanted, taken = accept(jobs, 12), []

    def work() -> None:
        while row := jobs.take():
            taken.append(row.id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(wanted)


def test_a_file_that_is_no_database_or_of_a_newer_version_is_refused(tmp_path) -> None:
    path = tmp_path / "jobs.sqlite"
    path.write_bytes(b"not a database" * 50)
    with pytest.raises(OutputError, match="Rename"):
        Store(path)
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(OutputError, match="newer version"):
        Store(path)


def test_a_job_that_cannot_be_written_is_not_accepted(jobs) -> None:
    (jobs.data.path / "jobs").rename(jobs.data.path / "away")
    (jobs.data.path / "jobs").write_text("in the way")
    with pytest.raises(OutputError):
        accept(jobs)
    assert jobs.page(10, None).jobs == []


def test_unset_fields_stay_unset_so_that_boxes_are_still_laid_out(jobs) -> None:
    (job_id,) = accept(jobs)
    assert jobs.find(job_id).request == {"slots": [CUBE]}


def test_more_steps_go_on_where_the_schedules_had_arrived() -> None:
    request = {"slots": [CUBE], "settings": {"steps": 100, "refine_at": 0.5, "reward_fade": [0.2, 0.6]}}
    old = settings_for("starter", request["settings"])
    new = settings_for("starter", with_more_steps(request, 60)["settings"])
    assert new.steps == 160
    for before, after in (
        (old.refine_at, new.refine_at),
        (old.t_until, new.t_until),
        (old.reward_from, new.reward_from),
        (old.explore_until, new.explore_until),
        *zip(old.colour_from, new.colour_from, strict=True),
        *zip(old.reward_fade, new.reward_fade, strict=True),
    ):
        assert after * new.steps == pytest.approx(before * old.steps)
    assert request["settings"] == {"steps": 100, "refine_at": 0.5, "reward_fade": [0.2, 0.6]}


def test_a_reward_that_never_faded_does_not_fade_over_more_steps() -> None:
    new = settings_for("starter", with_more_steps({"slots": [CUBE]}, 60)["settings"])
    assert new.reward_fade == (1.0, 1.0)


def test_more_steps_than_a_run_may_have_are_refused() -> None:
    with pytest.raises(RequestError, match="steps"):
        with_more_steps({"slots": [CUBE]}, 100_000)


def test_service_and_run_mean_the_same_checkpoint() -> None:
    run = ast.parse((Path(backend.__file__).parent / "run.py").read_text())  # importing it takes seconds
    named = [n.value for n in run.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "CHECKPOINT"]
    assert [ast.literal_eval(value) for value in named] == [CHECKPOINT]


def test_the_newest_checkpoint_counts(tmp_path) -> None:
    assert checkpoint_of(tmp_path) is None
    for age, name in ((20, CHECKPOINT), (10, FINAL)):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    assert checkpoint_of(tmp_path) == tmp_path / FINAL
    os.utime(tmp_path / CHECKPOINT)
    assert checkpoint_of(tmp_path) == tmp_path / CHECKPOINT


def test_a_logs_end_is_its_last_lines_however_long_it_is(tmp_path) -> None:
    path = tmp_path / "log.txt"
    assert log_tail(path) == ""
    path.write_bytes(b"x" * 50_000 + b"\n\xff\n" + b"".join(b"line %d\n" % n for n in range(40)))
    assert log_tail(path, 2) == "line 38\nline 39"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has ..."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError(
            "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call"
        ),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.06 GB)"),
        RuntimeError("Failed to allocate 123456 bytes on device 'cuda:0'"),
        RuntimeError("could not create a primitive"),
    ],
)
def test_too_little_memory_is_told_from_other_faults(error) -> None:
    assert is_memory_error(error)
    assert not is_memory_error(RuntimeError("shapes do not match"))


def test_too_little_memory_names_what_was_needed_and_what_would_fit() -> None:
    settings = settings_for("starter", {"views": 8, "final_resolution": 64})
    asked = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has ...")
    error = explain_memory(asked, lambda share: suggest(settings, share), CPU)
    assert "2.5 GiB" in error.what
    assert "views to 3 (now 8)" in error.remedy
    assert "'starter'" in error.remedy


def test_what_is_suggested_is_allowed_and_less() -> None:
    for share in (0.01, 0.3, 0.8, 1.0, 5.0):
        text = suggest(PRESETS["starter"], share)
        assert text and text[0].isupper()
    assert "more memory" in suggest(settings_for("starter", {"views": 1, "final_resolution": 8}), 0.1)


def test_with_big_networks_what_costs_only_time_is_suggested_first() -> None:
    frugal = {"offload_idle": True, "encode_at_once": 1}
    text = suggest(PRESETS["paper"], 0.5)
    assert text.startswith("Set encode_at_once to 1") and "encode_at_once to 1 (now 4)" in text and "views to 1" in text
    assert not any(name in suggest(settings_for("paper", frugal), 0.5) for name in frugal)
    assert not any(name in suggest(PRESETS["starter"], 0.5) for name in frugal)


def test_candidates_are_denoised_fewer_at_once_before_anything_is_lost() -> None:
    explored = {"strategy": "min-max", "candidates": 4, "encode_at_once": 1}
    assert suggest(settings_for("paper", explored), 0.5).startswith("Set denoise_at_once to 8 (now 32)")
    one_by_one = suggest(settings_for("paper", explored | {"denoise_at_once": 8}), 0.5)
    assert "denoise_at_once" not in one_by_one + suggest(PRESETS["paper"], 0.5)  # one noise has no candidates


def test_a_large_vlm_is_to_see_less_or_to_have_weights_in_four_bits() -> None:
    text = suggest(PRESETS["paper"], 0.5)
    assert "turn on vlm_four_bit" in text and "set vlm_px to 160 (now 256)" in text
    there = suggest(settings_for("paper", {"vlm_four_bit": True, "vlm_px": 128}), 0.5)
    assert "vlm_" not in there + suggest(settings_for("starter", {}), 0.5)


def test_a_picture_that_needs_too_much_memory_is_told_which_settings_need_less() -> None:
    def advice(method: str, **settings) -> str:
        return advise_picture({"kind": "image", "prompt": "a cube", "method": method, **settings}, 0.5)

    text = advice("reward-sds", preset="paper")
    assert text.startswith("Set batch to 8 (now 16), or turn on offload_idle") and "vlm_four_bit" in text
    assert "set vlm_px to 160" in text
    assert advice("sds", preset="paper").startswith("Take the preset 'starter'")


def test_a_preview_that_cannot_be_written_is_no_reason_to_stop(tmp_path) -> None:
    pictures = torch.rand(4, 32, 32, 3)
    assert write_preview(pictures, tmp_path / "preview.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["preview.jpg"]
    (tmp_path / "file").write_text("")
    assert not write_preview(pictures, tmp_path / "file" / "preview.jpg")
