"""`diorama generate|status|install` on the command line: exit status, one clear message, the files it was asked for."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import bpy
import pytest

from .backends import QUICK, WAIT_S, use_local
from .conftest import BACKEND_PYTHON
from .test_slots import add_slot

pytestmark = pytest.mark.blender
ROOT = Path(__file__).parents[2]
# A Blender without a window, whose own handler for Ctrl-C does nothing that Python hears of, with an endless run.
BLENDER = f"""
import ctypes, os, signal, sys
libc = ctypes.CDLL(None)
libc.signal(signal.SIGINT, ctypes.cast(libc.abs, ctypes.c_void_p))
import bpy, addon_utils
addon = addon_utils.enable("blender_addon", default_set=True)
chosen = addon.preferences.preferences()
chosen.python, chosen.device, chosen.location = {BACKEND_PYTHON!r}, "cpu", "PYTHON"
for key, value in {QUICK | {"steps": 100_000}!r}.items():
    setattr(bpy.context.scene.diorama, key, value)
bpy.context.scene.diorama.prompt = "a red cube"
"""
AS_COMMAND = "status = addon.command.run(['generate'])"
AS_SCRIPT = """
status = 0
try:
    bpy.ops.diorama.generate()
except RuntimeError as error:
    print(error)
    status = 1
"""
LEAVE = """
sys.stdout.flush()
os._exit(status)  # Blender 4.2 crashes in its own clean-up
"""


@pytest.fixture
def run(addon, capfd):
    """Runs the command; returns (exit status, what it printed)."""

    def run_command(*arguments: str) -> tuple[int, str]:
        code = addon.command.run(list(arguments))
        out, err = capfd.readouterr()
        return code, out + err

    return run_command


@pytest.mark.parametrize("arguments", [(), ("fly",), ("generate", "--speed", "3"), ("generate", "--seed", "x")])
def test_wrong_arguments_are_status_2_with_usage(run, arguments) -> None:
    code, said = run(*arguments)
    assert code == 2
    assert "usage: blender -b FILE --command diorama" in said


def test_help_is_status_0(run) -> None:
    assert run("--help")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("generate",), "nothing to generate"),
        (("generate", "--prompt", "a red cube", "--seed", "-1"), "--seed"),
        (("generate", "--prompt", "a red cube", "--seed", str(2**40)), "--seed"),
        (("generate", "--prompt", "a red cube", "--steps", "-5"), "--steps"),
        (("generate", "--prompt", "a red cube"), "not installed"),
        (("status",), "not installed"),
    ],
)
def test_what_the_user_can_mend_is_status_2_and_one_message(run, arguments, says) -> None:
    code, said = run(*arguments)
    assert code == 2
    assert [line for line in said.splitlines() if line.startswith("error: ")] != []
    assert says in said
    assert "Traceback" not in said


def test_an_installation_asks_for_online_access(run) -> None:
    if bpy.app.online_access:
        pytest.skip("this Blender may use the network")
    code, said = run("install")
    assert code == 2
    assert "stay offline" in said


@pytest.mark.slow
def test_a_scene_is_generated_and_saved(addon, service, run, tmp_path) -> None:
    use_local(addon)
    for key, value in QUICK.items():
        setattr(bpy.context.scene.diorama, key, value)
    add_slot("a crimson cube")
    blend, glb = tmp_path / "out" / "scene.blend", tmp_path / "scene.glb"
    code, said = run("generate", "--prompt", "a cube", "--seed", "3", "--save", str(blend), "--glb", str(glb))
    assert code == 0, said
    assert "step " in said
    assert "Diorama: a cube: crimson cube" in said
    warned = [line for line in said.splitlines() if line.startswith("warning: ")]
    assert len(warned) == len(set(warned)) > 0 and "crimson" in warned[0]
    assert glb.read_bytes()[:4] == b"glTF"
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    assert bpy.context.scene.diorama.seed == 3
    assert [thing.type for thing in bpy.data.collections["Diorama: a cube"].objects] == ["MESH"]
    code, said = run("status")
    assert code == 0
    assert "version " in said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT for one process")
@pytest.mark.parametrize(
    ("generate", "status", "says"), [(AS_COMMAND, 130, "stopped"), (AS_SCRIPT, 1, "The run was stopped")]
)
def test_ctrl_c_cancels_the_run(addon, service, own_backend, generate, status, says) -> None:
    command = [sys.executable, "-c", BLENDER + generate + LEAVE]
    keep = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, **keep) as blender:
        limit = threading.Timer(WAIT_S, blender.kill)
        limit.start()
        heard = ["step"]
        while not re.match(r"step \d+ of", heard[-1]):
            heard.append(blender.stdout.readline())
            assert heard[-1], heard
        blender.send_signal(signal.SIGINT)
        rest = blender.stdout.read()
        limit.cancel()
    assert blender.returncode == status, rest
    assert says in rest
    client = addon.client.Client(*own_backend.adopt(), timeout_s=60)
    newest = client.jobs()["jobs"][0]
    assert newest["state"] in ("cancelling", "cancelled"), newest


@pytest.mark.slow
def test_the_readmes_script_makes_what_it_says(addon, service, tmp_path, monkeypatch) -> None:
    script = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    use_local(addon)
    for key, value in QUICK.items():
        setattr(bpy.context.scene.diorama, key, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))  # what Blender takes relative paths from
    exec(compile(script, "README.md", "exec"), {})
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "out.blend"))
    scene = bpy.context.scene
    assert len(bpy.data.collections["Diorama: a red mug on top of a brown table"].objects) == 2
    (relation,) = scene.diorama.relations
    assert (relation.subject.diorama.prompt, relation.relation) == ("a red mug", "on top of")
    assert relation.outcome != "none" and relation.probability >= 0.0
