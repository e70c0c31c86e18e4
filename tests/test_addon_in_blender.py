"""The zip in a real Blender: installed with its own commands, used from the command line, replaced while it runs.

Skipped without DIORAMA_BLENDER=/path/to/blender (4.2 or newer; BACKEND_PYTHON as in tests/blender). Both have to see
the same files, so a Blender in a chroot needs this checkout, the Python and --basetemp bound into it under their names.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .addon_modules import addon_module

processes = addon_module("processes")

ROOT = Path(__file__).parents[1]
BLENDER = os.environ.get("DIORAMA_BLENDER", "")
BACKEND_PYTHON = os.environ.get("BACKEND_PYTHON", sys.executable)
MODULE = "bl_ext.user_default.diorama"
PATIENCE_S = 580.0
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BLENDER, reason="needs a whole Blender: DIORAMA_BLENDER=/path/to/blender"),
]
SMALL = '{"views": 2, "resolution": 8, "final_resolution": 8, "preview_px": 32}'
CHOOSE = f"""
import bpy
chosen = bpy.context.preferences.addons[{MODULE!r}].preferences
chosen.python, chosen.device, chosen.location = {BACKEND_PYTHON!r}, "cpu", "PYTHON"
bpy.ops.wm.save_userpref()
"""
LAY_OUT = f"""
import bpy
scene = bpy.context.scene
scene.diorama.steps, scene.diorama.texture_px, scene.diorama.overrides = 2, 64, {SMALL!r}
bpy.ops.diorama.add_slot(prompt="a red cube")
bpy.ops.wm.save_as_mainfile(filepath="FILE")
"""
USE = f"""
import sys
import bpy
def use():
    addon = sys.modules[{MODULE!r}]
    health = addon.headless._connected(addon.preferences.config()).health()
    print("uses", health["version"], addon.jobs.session().local.pid, flush=True)
use()
"""
WAIT = "input()"
RENEW = """
bpy.ops.extensions.package_install_files(filepath="FILE", repo="user_default", enable_on_install=True)
use()
"""


class Blender:
    """A Blender with a user folder of its own, and the add-on installed."""

    def __init__(self, folder: Path) -> None:
        self.user = folder / "user"
        self.user.mkdir()
        self.environment = {**os.environ, "BLENDER_USER_RESOURCES": str(self.user), "HOME": str(folder)}

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        keep = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen([BLENDER, *arguments], env=self.environment, text=True, **keep)

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit status, and what was said."""
        with self.begin(*arguments) as process:
            said, _ = process.communicate("", timeout=PATIENCE_S)
        return process.returncode, said

    def script(self, code: str) -> str:
        """What a script says that has to come to its end."""
        status, said = self.run("-b", "--python-exit-code", "1", "--python-expr", code)
        assert status == 0, said
        return said

    def install(self, path: Path) -> None:
        status, said = self.run("--command", "extension", "install-file", "-r", "user_default", "--enable", str(path))
        assert status == 0, said


@pytest.fixture(scope="module")
def zips(tmp_path_factory) -> tuple[Path, Path]:
    """The zip, and one that is the same but for its version."""
    folder = tmp_path_factory.mktemp("zips")
    subprocess.run([sys.executable, "build_addon.py", "--out", str(folder)], cwd=ROOT, check=True, timeout=PATIENCE_S)
    (first,) = folder.glob("diorama-*.zip")
    second = folder / "newer.zip"
    told = (("blender_manifest.toml", r'^version = ".*"'), ("backend/__init__.py", r'^__version__ = ".*"'))
    with zipfile.ZipFile(first) as old, zipfile.ZipFile(second, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            for file, line in told:
                if name == f"diorama/{file}":
                    data = re.sub(line.encode(), line[1:].replace(".*", "99.0.0").encode(), data, flags=re.MULTILINE)
            new.writestr(name, data)
    return first, second


@pytest.fixture
def blender(zips, tmp_path) -> Blender:
    made = Blender(tmp_path)
    made.install(zips[0])
    return made


def version_of(path: Path) -> str:
    with zipfile.ZipFile(path) as file:
        return re.search(r'^version = "(.*)"', file.read("diorama/blender_manifest.toml").decode(), re.MULTILINE)[1]


def uses(said: str) -> list[tuple[str, int]]:
    """Version and process of each backend that USE connected to."""
    return [(version, int(pid)) for version, pid in re.findall(r"^uses (\S+) (\d+)$", said, re.MULTILINE)]


def test_source_code_installed_in_its_place_names_the_zip_that_is_needed(tmp_path) -> None:
    """Blender finds the manifest in its folder, and takes that folder."""
    shutil.copytree(ROOT / "blender_addon", tmp_path / "diorama-main" / "blender_addon")
    (tmp_path / "blender").mkdir()
    blender = Blender(tmp_path / "blender")
    blender.install(Path(shutil.make_archive(str(tmp_path / "source"), "zip", tmp_path, "diorama-main")))
    status, said = blender.run("--online-mode", "--command", "diorama", "install")
    assert status == 2 and "without its requirements" in said and "diorama-VERSION.zip" in said, said


def test_without_a_backend_the_command_says_so(blender) -> None:
    status, said = blender.run("--command", "diorama", "status")
    assert status == 2 and "error: The backend is not installed yet" in said, said


def test_the_command_generates_a_file_s_slots_and_says_what_runs(blender, tmp_path) -> None:
    blender.script(CHOOSE)
    status, said = blender.run("--command", "diorama", "status")
    assert status == 0 and "backend: not running" in said, said
    room, out, glb = tmp_path / "room.blend", tmp_path / "out.blend", tmp_path / "out.glb"
    blender.script(LAY_OUT.replace("FILE", str(room)))
    options = ["--prompt", "a cube", "--seed", "3", "--save", str(out), "--glb", str(glb)]
    status, said = blender.run("-b", str(room), "--command", "diorama", "generate", *options)
    assert status == 0 and "Diorama: a cube: red cube" in said, said
    assert glb.read_bytes()[:4] == b"glTF" and out.stat().st_size > 0
    (data,) = blender.user.rglob("jobs.sqlite")
    assert not (data.parent / "service.json").exists()  # its backend went with it


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT for one process")
def test_ctrl_c_ends_the_command_with_130(blender, tmp_path) -> None:
    blender.script(CHOOSE)
    room = tmp_path / "room.blend"
    blender.script(LAY_OUT.replace("FILE", str(room)))
    with blender.begin("-b", str(room), "--command", "diorama", "generate", "--steps", "100000") as generating:
        heard = ["step"]
        while not re.match(r"step \d+ of", heard[-1]):
            heard.append(generating.stdout.readline())
            assert heard[-1], heard
        generating.send_signal(signal.SIGINT)
        rest, _ = generating.communicate(timeout=PATIENCE_S)
    assert generating.returncode == 130 and "stopped" in rest, rest


def test_a_new_version_installed_over_a_running_one_replaces_its_idle_backend(blender, zips) -> None:
    old, new = map(version_of, zips)
    blender.script(CHOOSE)
    with blender.begin("-b", "--python-exit-code", "1", "--python-expr", USE + WAIT) as other:
        told = ""
        while not uses(told):
            told = other.stdout.readline()
            assert told, "the other Blender has ended"
        ((version, pid),) = uses(told)
        assert version == old
        renewed = blender.script(USE + RENEW.replace("FILE", str(zips[1])))
        assert [version for version, _ in uses(renewed)] == [old, new], renewed
        assert uses(renewed)[0][1] == pid != uses(renewed)[1][1]
        assert not processes.is_running(pid)
        other.communicate("\n", timeout=PATIENCE_S)
    assert "Traceback" not in renewed, renewed
    assert processes.wait_for_end(uses(renewed)[1][1], 60.0)
