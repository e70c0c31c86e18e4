"""The command line's results: whole files or none, on full disks and after Ctrl-C, and resuming. Untrained networks."""

import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from backend.checkpoint import Checkpoint
from backend.cli import main
from backend.errors import OutputError
from backend.export.files import written_together
from backend.export.result import TURNTABLE_FRAMES
from backend.run import CHECKPOINT, run
from backend.schema import read_request
from tests.cli_requests import refused

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]
RESULT = ["preview.png", "report.json", "scene.glb", "turntable.gif"]


@pytest.fixture
def mount(tmp_path):
    """Mounts a small file system of its own; returns its folder. Skips where that is not allowed."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mounted(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small file system needs root")
        return folder

    yield mounted
    subprocess.run(["umount", str(folder)], capture_output=True)


def test_a_read_only_folder_is_refused(capsys, write, request_data, mount) -> None:
    message = refused(capsys, "--request", write(request_data), "--out", str(mount("ro")))
    assert "read-only" in message


def test_a_result_that_meets_a_full_disk_leaves_its_checkpoint_and_no_half_of_a_file(request_data, mount) -> None:
    folder = mount("size=8m")

    def fill() -> None:
        with suppress(OSError), open(folder / "other", "wb") as file:
            file.write(bytes(8 << 20))

    with pytest.raises(OutputError, match=r"no space left.*disk space") as caught:
        run(read_request(request_data), folder, CPU, lambda step: None, lambda text: None, on_part=fill)
    assert caught.value.where == str(folder / "scene.glb")
    assert sorted(path.name for path in folder.iterdir()) == [CHECKPOINT, "other"]
    (folder / "other").unlink()
    assert main(["generate", "--resume", str(folder / CHECKPOINT)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == RESULT


@pytest.mark.parametrize("every_s", [1e-9, 1e6])  # the first checkpoint meets the full disk, or the last one
def test_a_full_disk_leaves_no_half_of_a_file(capsys, write, request_data, mount, every_s) -> None:
    folder = mount("size=8k")
    request_data["settings"]["checkpoint_every_s"] = every_s
    message = refused(capsys, "--request", write(request_data), "--out", str(folder))
    assert "no space left" in message and "disk space" in message
    assert list(folder.iterdir()) == []


def test_a_run_names_what_it_wrote_and_leaves_nothing_else(capsys, write, request_data, tmp_path) -> None:
    request_data["slots"] = []
    request_data["settings"]["checkpoint_every_s"] = 1e-9
    prompt, out = "a red cube left of a plaid sphere", tmp_path / "out"
    assert main(["generate", prompt, "--layout", write(request_data), "--out", str(out), "--device", "cpu"]) == 0
    printed, err = capsys.readouterr()
    assert sorted(path.name for path in out.iterdir()) == RESULT
    assert {str(path) for path in out.iterdir()} <= set(printed.splitlines())
    assert "left of" in printed.splitlines()[0]
    assert err.count("do not know: plaid") == 1  # both models alike
    assert "6/6" in err
    report = json.loads((out / "report.json").read_text())
    assert report["request"]["prompt"] == prompt
    assert len(report["slots"]) == 2


def test_equal_seeds_give_equal_bytes_and_others_do_not(capsys, write, request_data, tmp_path) -> None:
    path, glbs = write(request_data), []
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        assert main(["generate", "--request", path, "--seed", str(seed), "--out", str(tmp_path / name)]) == 0
        glbs.append((tmp_path / name / "scene.glb").read_bytes())
    assert glbs[0] == glbs[1]
    assert glbs[0] != glbs[2]


def test_a_stopped_run_resumes_to_the_bytes_of_an_undisturbed_one(capsys, write, request_data, tmp_path) -> None:
    assert main(["generate", "--request", write(request_data), "--out", str(tmp_path / "whole")]) == 0
    stopped = tmp_path / "stopped"
    request_data["settings"]["checkpoint_every_s"] = 1e-9

    def stop(step) -> None:
        if step.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(read_request(request_data), stopped, torch.device("cpu"), stop, lambda text: None)
    assert [path.name for path in stopped.iterdir()] == [CHECKPOINT]
    assert main(["generate", "--resume", str(stopped / CHECKPOINT)]) == 0
    assert sorted(path.name for path in stopped.iterdir()) == RESULT
    one, two = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("whole", "stopped"))
    assert one["slots"] == two["slots"]
    assert one["rewards"] == two["rewards"]


def test_a_result_is_there_whole_or_not_at_all_wherever_its_writing_stops(request_data, tmp_path) -> None:
    class Stop(Exception):
        pass

    def write_result(until: float, folder: Path) -> int:
        """Parts until the end, when none is the one to stop at."""
        calls = itertools.count(1)

        def on_part() -> None:
            if next(calls) == until:
                raise Stop

        resume = Checkpoint(folder / CHECKPOINT) if (folder / CHECKPOINT).is_file() else None
        run(read_request(request_data), folder, CPU, lambda step: None, lambda text: None, resume, on_part=on_part)
        return next(calls) - 1

    parts = write_result(math.inf, tmp_path / "whole")
    assert parts == 1 + 6 + TURNTABLE_FRAMES + 1  # objects, views of the contact sheet, of the turntable, the end
    stopped = tmp_path / "stopped"
    for part in (1, 2, 8, parts):
        with pytest.raises(Stop):
            write_result(part, stopped)
        assert [path.name for path in stopped.iterdir()] == [CHECKPOINT]
    assert Checkpoint(stopped / CHECKPOINT).step == request_data["settings"]["steps"]
    assert write_result(math.inf, stopped) == parts
    assert sorted(path.name for path in stopped.iterdir()) == RESULT
    for name in ("scene.glb", "preview.png", "turntable.gif"):
        assert (stopped / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    one, two = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("whole", "stopped"))
    assert one["rewards"] and one["rewards"] == two["rewards"]


def test_a_run_that_is_stopped_while_its_result_is_written_leaves_the_earlier_one(request_data, tmp_path) -> None:
    (tmp_path / "scene.glb").write_bytes(b"of an earlier run")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(read_request(request_data), tmp_path, CPU, lambda step: None, lambda text: None, on_part=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINT, "scene.glb"]
    assert (tmp_path / "scene.glb").read_bytes() == b"of an earlier run"


def test_where_one_file_cannot_take_its_place_all_earlier_ones_are_put_back(tmp_path) -> None:
    names = ("a", "b", "c")
    (tmp_path / "a").write_bytes(b"of an earlier run")
    (tmp_path / "c").mkdir()  # in the way

    def write_all() -> None:
        with written_together(tmp_path, names) as stage:
            stage.mkdir()
            for name in names:
                (stage / name).write_bytes(b"of this run")

    with pytest.raises(OutputError, match="folder"):
        write_all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]
    assert (tmp_path / "a").read_bytes() == b"of an earlier run"


def test_a_folder_in_a_results_place_is_refused_before_the_run(capsys, write, request_data, tmp_path) -> None:
    (tmp_path / "out" / "scene.glb").mkdir(parents=True)
    said = refused(capsys, "--request", write(request_data), "--out", str(tmp_path / "out"))
    assert "scene.glb" in said and "folder" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scene.glb"]


def test_a_run_stopped_before_its_first_step_does_not_offer_the_earlier_ones_checkpoint(
    capsys, write, request_data, tmp_path, monkeypatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / CHECKPOINT).write_bytes(b"of an earlier run")

    def stop(*given, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("backend.run.load_models", stop)
    assert main(["generate", "--request", write(request_data), "--out", str(out)]) == 130
    assert "No checkpoint" in capsys.readouterr().err
    assert (out / CHECKPOINT).read_bytes() == b"of an earlier run"


def test_memory_that_runs_out_ends_with_one_message(capsys, write, request_data, tmp_path, monkeypatch) -> None:
    def refuse(*given, **more):
        raise MemoryError("Unable to allocate 17.5 MiB for an array")

    for part, says in (("write_result", "texture_px"), ("generate", "views")):
        with monkeypatch.context() as patch:
            patch.setattr(f"backend.run.{part}", refuse)
            said = refused(capsys, "--request", write(request_data), "--out", str(tmp_path / part))
            assert "too little memory: 17.5 MiB" in said and says in said


def test_ctrl_c_keeps_the_checkpoint_and_says_how_to_resume(write, request_data, tmp_path) -> None:
    request_data["settings"] |= {"steps": 100_000, "checkpoint_every_s": 1e-9, "refine_at": 1}
    out = tmp_path / "out folder"
    checkpoint = out / CHECKPOINT
    out.mkdir()
    checkpoint.write_bytes(b"of an earlier run")
    process = subprocess.Popen(
        [sys.executable, "-m", "backend", "generate", "--request", write(request_data), "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a job of a shell may ignore it
    )
    try:
        deadline = time.monotonic() + 300
        while process.poll() is None and not (checkpoint.is_file() and checkpoint.stat().st_size > 100):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        printed, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert printed == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("stopped. Go on with: python -m backend generate --resume '")
    assert str(checkpoint) in err
    assert Checkpoint(checkpoint).step >= 1
    assert [path.name for path in out.iterdir()] == [CHECKPOINT]
