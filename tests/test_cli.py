"""The command line: exit status, one clear message, whole files or none, Ctrl-C, resuming. Networks are untrained."""

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
from backend.export.result import TURNTABLE_FRAMES
from backend.presets import model_folder
from backend.run import CHECKPOINT, run
from backend.schema import read_request
from tests.small_models import write_small_models

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]
RESULT = ["preview.png", "report.json", "scene.glb", "turntable.gif"]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[Path, Path]:
    return write_small_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def request_data(models) -> dict:
    """The smallest request that does all a run does."""
    settings = {"prior": str(models[0]), "vlm": str(models[1]), "steps": 3, "views": 2, "resolution": 8}
    settings |= {"final_resolution": 9, "refine_at": 0.6, "reward_from": 0, "texture_px": 64, "preview_px": 32}
    return {"slots": [{"name": "cube", "prompt": "a red cube"}], "seed": 1, "settings": settings}


@pytest.fixture
def write(tmp_path):
    """Writes a request (or any text or bytes) to a file; returns its path."""

    def write_file(content, name: str = "request.json") -> str:
        data = content if isinstance(content, bytes) else (content if isinstance(content, str) else json.dumps(content))
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return str(path)

    return write_file


def refused(capsys, *arguments: str, status: int = 2) -> str:
    """The one message of a command that must fail."""
    assert main(["generate", *arguments]) == status
    out, err = capsys.readouterr()
    assert out == ""
    message = [line for line in err.splitlines() if not line.startswith(("warning: ", "["))]
    assert len(message) == 1, err
    assert message[0].startswith("error: ")
    assert "Traceback" not in err
    return message[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to generate"),
        ([""], "PROMPT: is empty"),
        (["  "], "PROMPT: is empty"),
        (["a cube", "--preset", "fast"], "no preset 'fast'"),
        (["a cube", "--seed", "-1"], "seed"),
        (["a cube", "--seed", str(2**63)], "seed"),
        (["a cube", "--steps", "0"], "settings.steps"),
        (["a cube", "--layout", "none.json"], "none.json: cannot be read"),
        (["a cube", "--request", "none.json"], "takes the place of PROMPT"),
        (["a cube on top of a sphere and the sphere on top of the cube"], "contradict"),
        (["--resume", "none.safetensors"], "no usable checkpoint"),
        (["--resume", "c.safetensors", "--steps", "9", "--seed", "3"], "--seed, --steps"),
        (["a cube", "--resume", "c.safetensors"], "PROMPT"),
    ],
)
def test_faulty_arguments_end_with_one_message(capsys, tmp_path, monkeypatch, arguments, says) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, *arguments)
    assert list(tmp_path.rglob("scene.glb")) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        (b"\xff\xfe{\x00}\x00", "is not JSON"),
        (b'{"prompt": "a c\xffbe"}', "is not JSON"),
        ('{"seed": 1' + "0" * 5000 + "}", "is not JSON"),
        ("[]", "expected a JSON object"),
        ("null", "expected a JSON object"),
        ('{"prompt": "a cube", "prompts": 3}', "prompts: unknown key"),
        ('{"prompt": "a cube", "settings": {"lr_geometry": NaN}}', "settings.lr_geometry"),
        ('{"prompt": "a cube", "settings": {"step": 4}}', "settings.step: unknown setting"),
        ('{"prompt": "a cube", "settings": [4]}', "settings: "),
        ('{"slots": [{"name": "a", "prompt": "b", "size": [1, 1e999, 1]}]}', "slots[0].size[1]"),
    ],
)
def test_a_faulty_file_ends_with_one_message(capsys, write, content, says) -> None:
    assert says in refused(capsys, "--layout", write(content))
    assert says in refused(capsys, "--request", write(content), "--steps", "3")


def test_a_folder_instead_of_a_file_is_refused(capsys, tmp_path) -> None:
    assert "cannot be read" in refused(capsys, "--request", str(tmp_path))


def test_a_byte_order_mark_is_no_fault(capsys, write) -> None:
    assert "no preset 'none'" in refused(capsys, "--request", write(b'\xef\xbb\xbf{"prompt": "a", "preset": "none"}'))


def test_arguments_of_the_wrong_kind_exit_with_two(capsys) -> None:
    for arguments in (["generate", "a cube", "--seed", "one"], ["generate", "--colour"], ["paint"], []):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    capsys.readouterr()


@pytest.mark.parametrize("part", ["prior/unet/diffusion_pytorch_model.safetensors", "vlm/model.safetensors"])
@pytest.mark.parametrize("fault", ["missing", "truncated", "empty"])
def test_missing_and_truncated_weights_are_named(capsys, write, request_data, models, tmp_path, part, fault) -> None:
    copy = tmp_path / "models"
    shutil.copytree(models[0].parent, copy)
    weights = copy / part
    if fault == "missing":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[: 1000 if fault == "truncated" else 0])
    request_data["settings"] |= {"prior": str(copy / "prior"), "vlm": str(copy / "vlm")}
    message = refused(capsys, "--request", write(request_data), "--out", str(tmp_path / "out"))
    assert str(weights.parent) in message


def test_a_folder_without_a_model_is_named(capsys, write, request_data, tmp_path) -> None:
    request_data["settings"] |= {"vlm": str(tmp_path / "nowhere")}
    message = refused(capsys, "--request", write(request_data), "--out", str(tmp_path / "out"))
    assert f"no known model named {str(tmp_path / 'nowhere')!r}" in message


def test_an_output_folder_that_cannot_be_is_refused_before_anything_is_loaded(
    capsys, write, request_data, tmp_path
) -> None:
    request_data["settings"] |= {"vlm": str(tmp_path / "nowhere")}
    (tmp_path / "file").write_text("in the way")
    message = refused(capsys, "--request", write(request_data), "--out", str(tmp_path / "file" / "out"))
    assert "could not be written" in message
    assert "No checkpoint" in message


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
    assert "does not know: plaid" in err
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


def test_the_module_exits_with_two_for_a_user_error(models) -> None:
    done = subprocess.run([sys.executable, "-m", "backend", "generate", ""], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: PROMPT: is empty.")


def test_the_starter_models_are_what_a_run_takes_unasked() -> None:
    assert model_folder("starter", "prior").name == "prior"
