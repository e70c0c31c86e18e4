"""The doctor names what is missing and what to do about it."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from backend import doctor
from backend.doctor import Check


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    for name in ("prior/unet", "vlm"):
        folder = tmp_path / "weights" / name
        folder.mkdir(parents=True)
        save_file({"a": torch.zeros(1000)}, folder / "model.safetensors")
    return tmp_path / "weights"


def test_a_complete_installation_is_ready(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checks = doctor.diagnose(weights, tmp_path)
    status = doctor.print_report(checks)
    printed = capsys.readouterr().out
    assert [check for check in checks if not check.ok] == []
    assert status == 0
    assert "Ready to generate" in printed
    assert all(check.name in printed and check.text in printed for check in checks)


def test_every_part_of_the_machine_is_looked_at(weights: Path) -> None:
    names = [check.name for check in doctor.diagnose(weights)]
    assert names == "Python,torch,device,Warp,Kaolin,bitsandbytes,packages,model prior,model vlm,disk".split(",")


def test_a_failed_check_gives_status_1_and_prints_its_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    status = doctor.print_report([Check("disk", False, "full", "Free some"), Check("torch", True, "2.8.0", "")])
    printed = capsys.readouterr().out
    assert status == 1
    assert "FAIL disk" in printed
    assert "-> Free some" in printed
    assert "Not ready: disk\n" in printed


def test_advice_alone_is_not_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.print_report([Check("Kaolin", True, "not installed", "python -m pip install it")]) == 0
    assert "note Kaolin" in capsys.readouterr().out


def test_missing_weights_are_named_with_their_folder(tmp_path: Path) -> None:
    check = doctor.check_model("vlm", tmp_path / "vlm")
    assert not check.ok
    assert str(tmp_path / "vlm") in check.text
    assert check.remedy


def test_truncated_weights_are_found(weights: Path) -> None:
    file = weights / "vlm" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    check = doctor.check_model("vlm", weights / "vlm")
    assert not check.ok
    assert str(file) in check.text


def test_an_old_python_and_a_missing_package_fail() -> None:
    assert not doctor.check_python((3, 9, 18)).ok
    check = doctor.check_packages(("json", "no_such_package_anywhere"))
    assert not check.ok
    assert check.text == "no_such_package_anywhere is not installed"


def test_a_full_disk_fails_and_a_folder_to_come_is_judged_by_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor.check_disk(tmp_path / "not" / "yet").ok
    monkeypatch.setattr(doctor, "NEEDED_DISK", 2**62)
    assert not doctor.check_disk(tmp_path).ok


@pytest.mark.parametrize(
    ("torch_version", "cuda", "told"),
    [
        ("2.8.0", "12.8", "torch-2.8.0_cu128.html"),
        ("2.6.0", "11.8", "torch-2.6.0_cu118.html"),
        ("2.13.0", "13.0", "no Kaolin 0.18.0 wheel for torch 2.13.0 with CUDA 13.0"),
        ("2.8.0", "11.8", "no Kaolin 0.18.0 wheel for torch 2.8.0 with CUDA 11.8"),
        ("2.13.0", None, "requirements/cuda.txt"),
    ],
)
def test_kaolin_advice_fits_the_torch_at_hand(torch_version: str, cuda: str | None, told: str) -> None:
    assert told in doctor.kaolin_advice(torch_version, cuda)


def test_the_doctor_s_wheel_is_that_of_the_cuda_requirements() -> None:
    lines = (Path(doctor.__file__).parents[1] / "requirements" / "cuda.txt").read_text().splitlines()
    page = next(line.split()[1] for line in lines if line.startswith("--find-links"))
    torch_version = next(line.removeprefix("torch==") for line in lines if line.startswith("torch=="))
    assert page == doctor.KAOLIN_PAGE.format(torch=torch_version, cuda="128")
    assert f"kaolin=={doctor.KAOLIN}" in lines
    assert torch_version == list(doctor.KAOLIN_WHEELS)[-1]


@pytest.mark.parametrize(
    ("version", "cuda", "told", "remedy"),
    [
        (None, False, "not installed, needed only for the setting vlm_four_bit, on CUDA", ""),
        (None, True, "not installed", doctor.GET_BITSANDBYTES),
        ("0.45.5", True, "0.45.5 is too old", doctor.GET_BITSANDBYTES),
        ("0.50.2", True, "0.50.2", ""),
    ],
)
def test_bitsandbytes_is_advised_where_four_bits_could_be_used(monkeypatch, version, cuda, told, remedy) -> None:
    def installed(name: str) -> str:
        if version is None:
            raise PackageNotFoundError
        return version

    monkeypatch.setattr(doctor.importlib.metadata, "version", installed)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    check = doctor.check_four_bit()
    assert check.ok and check.text.startswith(told) and check.remedy == remedy


def test_the_extra_for_four_bits_is_what_the_doctor_advises() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    (extra,) = re.findall(r'^four-bit = \["(.*)"\]', text, re.MULTILINE)
    assert f'"{extra}"' in doctor.GET_BITSANDBYTES


def test_the_doctor_reports_a_missing_torch_instead_of_crashing() -> None:
    code = "import sys; sys.modules['torch'] = None; from backend.doctor import print_report; sys.exit(print_report())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert "FAIL torch" in done.stdout
    assert "requirements/cpu.txt" in done.stdout


def test_every_dependency_is_looked_for() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    asked = re.findall(r'"([\w-]+)', text.split("dependencies = [")[1].split("]")[0])
    imported = {"pillow": "PIL", "warp-lang": "warp"}
    names = {imported.get(name, name.replace("-", "_")) for name in asked}
    assert names == {*doctor.PACKAGES, "torch", "warp"}
