"""blender_addon/install.py: real environments and a real pip, with a tiny wheel in a local folder and no network."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from .addon_modules import addon_module, error_of
from .false_pythons import posix, says, script
from .install_ground import Ground, make_wheel
from .small_disk import grow, small_disk

install = addon_module("install")
environment = addon_module("environment")
torch_build = addon_module("torch_build")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """pip must not ask an index, nor follow this machine's settings."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_USER", "1")  # what some users have set, and what no environment can do
    monkeypatch.setattr(install, "ROOM", {"cpu": 0, "cuda": 0})


@pytest.fixture
def ground(tmp_path):
    return Ground(tmp_path)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A ground whose environment was installed once, over a half-made one; tests may not break it."""
    ground = Ground(tmp_path_factory.mktemp("installed"))
    (ground.home / "env" / "bin").mkdir(parents=True)
    (ground.home / "env" / "bin" / "python").write_text("half")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(install, "ROOM", {"cpu": 0, "cuda": 0})
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("PIP_NO_INDEX", "1")
        ground.python = ground.installer().run()
    return ground


@pytest.mark.slow
def test_an_environment_is_made_in_place_of_a_half_made_one(installed):
    told = subprocess.run([installed.python, "-c", "import tiny; print(tiny.VERSION)"], capture_output=True, check=True)
    assert told.stdout.strip() == b"1.0"
    assert install.installed_python(installed.home) == installed.python
    assert not install.outdated(installed.home, installed.source)
    assert any("Making an environment" in line for line in installed.lines)
    assert "Successfully installed tiny-1.0" in (installed.home / "install.log").read_text()


@pytest.mark.slow
def test_other_requirements_make_it_outdated_and_comments_do_not(installed, tmp_path):
    other = Ground(tmp_path)
    other.require("tiny==1.0", "# another comment", links=installed.wheels.as_uri())
    assert not install.outdated(installed.home, other.source)
    other.require("tiny==2.0", links=installed.wheels.as_uri())
    assert install.outdated(installed.home, other.source)
    assert install.outdated(tmp_path / "nothing", other.source)


@pytest.mark.slow
def test_cancelled_in_the_middle_then_repeated_it_goes_on(ground, installed):
    ground.begin(installed, "cpu ")
    listener = socket.create_server(("127.0.0.1", 0))  # takes the connection of pip and never answers
    ground.require("tiny==1.0", links=f"http://127.0.0.1:{listener.getsockname()[1]}/")
    children = []

    def cancel_pip():
        listener.accept()
        children.extend(children_of(os.getpid()))
        ground.cancel.set()
        children.append(time.monotonic())

    thread = threading.Thread(target=cancel_pip)
    thread.start()
    with pytest.raises(install.Cancelled):
        ground.installer().run()
    thread.join()
    assert time.monotonic() - children.pop() < 8
    assert children and not any(addon_module("processes").is_running(pid) for pid in children)
    assert install.installed_python(ground.home) is None  # half an environment is none
    listener.close()

    ground.cancel.clear()
    ground.require("tiny==1.0")
    assert ground.installer().run() == install.installed_python(ground.home)
    assert "Going on with the environment that is there" in ground.lines


def children_of(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def test_a_second_installation_at_once_is_refused(ground):
    seen = []

    def on_line(line):
        if not seen:
            seen.append(error_of(ground.installer().run))
            ground.cancel.set()

    with pytest.raises(install.Cancelled):
        ground.installer(on_line=on_line).run()
    assert "Another installation" in seen[0].what


@posix
def test_a_cancelled_venv_is_killed(ground, tmp_path):
    base = script(tmp_path / "python", f'[ "$1" = "-m" ] && exec sleep 60\nexec {sys.executable} "$@"')
    threading.Timer(1.5, ground.cancel.set).start()
    start = time.monotonic()
    with pytest.raises(install.Cancelled):
        ground.installer([base]).run()
    assert time.monotonic() - start < 6


@posix
def test_wrong_pythons_are_passed_over_and_named(ground, tmp_path):
    bases = [
        says(tmp_path / "old", (3, 10, 13)),
        says(tmp_path / "narrow", (3, 11, 7), bits=32),
        says(tmp_path / "bare", (3, 11, 2), venv=False),
        script(tmp_path / "stub", "echo 'Python was not found'; exit 9"),
        tmp_path / "missing",
    ]
    error = error_of(ground.installer(bases).run)
    assert error.mend == "install" and "3.10.13, and 3.11 or newer is needed" in error.what
    said = "\n".join(ground.lines)
    assert all(word in said for word in ("32-bit", "python3-venv", "stub cannot be run", "missing cannot be run"))


@posix
def test_a_base_that_cannot_make_environments_is_passed_over(ground, tmp_path):
    bad = script(tmp_path / "bad", f'[ "$1" = "-m" ] && {{ echo out of luck; exit 1; }}\nexec {sys.executable} "$@"')
    assert "out of luck" in error_of(ground.installer([bad]).run).what


@pytest.mark.slow
def test_a_package_that_does_not_exist_is_named(installed, tmp_path):
    other = Ground(tmp_path)
    other.home, other.wheels = installed.home, installed.wheels
    other.require("no-such-package==3.0")
    before = install.installed_python(installed.home)
    error = error_of(other.installer().run)
    assert "There is no no-such-package==3.0 for Python 3." in error.what and error.mend == "settings"
    assert before and install.installed_python(installed.home) is None
    installed.installer().run()  # repeated, it is whole again
    assert install.installed_python(installed.home) == before


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the CUDA build's wheels are Linux's")
def test_without_kaolin_the_cuda_build_is_still_installed(ground, installed):
    ground.begin(installed, "cuda ")
    ground.require("tiny==1.0", "kaolin==0.18.0")
    ground.installer(cuda=True).run()
    assert any("no Kaolin" in line for line in ground.lines)
    assert not install.outdated(ground.home, ground.source)


@pytest.mark.slow
@pytest.mark.skipif(not torch_build.pip_brings_cuda(), reason="elsewhere the usual PyTorch is without CUDA")
@pytest.mark.parametrize("there", [True, False])
def test_without_a_gpu_pytorch_comes_without_cuda_where_pip_s_own_settings_have_it(
    ground, installed, there, monkeypatch
):
    ground.begin(installed, "cpu ")
    ground.require("tiny==1.0", "torch==2.0")
    make_wheel(ground.wheels, "torch", "2.0")
    small = ground.wheels.parent / "small"
    if there:
        make_wheel(small, "torch", "2.0+cpu")
    monkeypatch.setenv("PIP_FIND_LINKS", small.as_uri())
    python = ground.installer().run()
    told = subprocess.run([python, "-c", "import torch; print(torch.VERSION)"], capture_output=True, check=True)
    assert told.stdout.strip() == (b"2.0+cpu" if there else b"2.0")
    assert any("CUDA inside" in line for line in ground.lines) is not there


def test_an_index_that_is_no_address_is_named_before_anything_is_made(ground):
    installer = install.Installer(ground.source, ground.home, ground.lines.append, ground.cancel, torch_index="cpu")
    error = error_of(installer.run)
    assert "'cpu'" in error.what and error.mend == "settings"
    assert not (ground.home / "env").exists()


def test_too_little_room_is_said_before_anything_is_made(ground, monkeypatch):
    monkeypatch.setattr(install, "ROOM", {"cpu": 10**18, "cuda": 10**18})
    assert "GB left" in error_of(ground.installer().run).what
    assert not (ground.home / "env").exists()


def is_full_disk(error):
    return error.what == "The disk is full" and error.mend == "install" and "Make room" in error.remedy


@pytest.mark.parametrize("size", ["16k", "4m"])
def test_a_disk_too_small_for_an_empty_environment_is_not_blamed_on_python(ground, size):
    with small_disk(ground.home, size):
        assert is_full_disk(error_of(ground.installer().run))
        assert install.installed_python(ground.home) is None


@pytest.mark.slow
def test_a_disk_too_small_for_the_packages_is_named_and_with_room_it_goes_on(ground):
    make_wheel(ground.wheels, size=60 * 10**6)
    with small_disk(ground.home, "60m"):
        assert is_full_disk(error_of(ground.installer().run))
        assert install.installed_python(ground.home) is None
        grow(ground.home, "200m")
        assert ground.installer().run() == install.installed_python(ground.home)
    assert "Going on with the environment that is there" in ground.lines


def test_missing_requirements_are_named(ground):
    (ground.source / "requirements" / "cpu.txt").unlink()
    assert "without its requirements" in error_of(ground.installer().run).what


@pytest.mark.slow
def test_an_environment_whose_base_is_gone_is_not_installed(installed):
    config = installed.home / "env" / "pyvenv.cfg"
    text = config.read_text()
    config.write_text(text.replace("home = ", "home = /gone"))
    try:
        assert install.installed_python(installed.home) is None
    finally:
        config.write_text(text)


@pytest.mark.slow
def test_looking_whether_it_is_installed_is_quick(installed):
    start = time.perf_counter()
    for _ in range(20):
        install.installed_python(installed.home)
        install.outdated(installed.home, installed.source)
    assert (time.perf_counter() - start) / 20 < 0.01


def test_windows_long_paths_get_a_short_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCALAPPDATA", "C:/Users/me/AppData/Local")
    home = Path("C:/Users/me/AppData/Roaming/Blender Foundation/Blender/4.5/extensions/.user/user_default/diorama")
    short = environment.environment_folder(home, windows=True, long_paths=False)
    assert short == Path("C:/Users/me/AppData/Local/Diorama/env")
    assert environment.environment_folder(home, windows=True, long_paths=True) == home / "env"
    assert environment.environment_folder(home, windows=False) == home / "env"
    assert environment.environment_folder(Path("C:/d"), windows=True, long_paths=False) == Path("C:/d/env")


@pytest.mark.slow
def test_a_python_with_nothing_in_it_is_refused_by_name(installed):
    error = error_of(install.check_python, installed.python)
    assert (
        error.what.startswith("This Python lacks what the backend needs: torch, diffusers") and error.mend == "install"
    )
