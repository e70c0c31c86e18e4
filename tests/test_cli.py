"""The command line: exit status, and one clear message for whatever is wrong. Networks are untrained."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from backend.cli import main
from backend.presets import model_folder
from tests.cli_requests import refused

ROOT = Path(__file__).parents[1]


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
        ('{"prompt": "a cube", "settings": {"step": 4}}', "settings.step: unknown setting. Did you mean steps?"),
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
def test_missing_and_truncated_weights_are_named(capsys, write, request_data, folders, tmp_path, part, fault) -> None:
    copy = tmp_path / "models"
    shutil.copytree(folders[0].parent, copy)
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


def test_the_module_exits_with_two_for_a_user_error(folders) -> None:
    done = subprocess.run([sys.executable, "-m", "backend", "generate", ""], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: PROMPT: is empty.")


def test_the_starter_models_are_what_a_run_takes_unasked() -> None:
    assert model_folder("starter", "prior").name == "prior"


def test_a_python_without_the_packages_is_told_what_to_install(tmp_path) -> None:
    environment = tmp_path / "bare"
    venv.create(environment, with_pip=False)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = subprocess.run([python, "-m", "backend", "generate", "a red cube"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert "is not installed" in done.stderr and "requirements/cpu.txt" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_python_without_the_packages_still_gets_the_doctor_s_report(tmp_path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    python = tmp_path / "bare" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = subprocess.run([python, "-m", "backend", "doctor"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == ""
    assert "torch is not installed" in done.stdout and "requirements/cpu.txt" in done.stdout
    assert "Not ready: torch" in done.stdout
