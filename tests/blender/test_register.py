"""Switching the add-on on and off leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from types import ModuleType

import bpy
import pytest

import addon_utils  # isort: skip - it is found once bpy is there

from .conftest import ROOT

pytestmark = pytest.mark.blender
NAME = "blender_addon"
PLAIN = {"capture_output": True, "text": True, "check": False}


def traces() -> dict[str, object]:
    """Everything of the add-on that Blender holds outside of files."""
    lists = [getattr(bpy.app.handlers, name) for name in dir(bpy.app.handlers)]
    handlers = [function for each in lists if isinstance(each, list) for function in each]
    return {
        "classes": sorted(name for name in dir(bpy.types) if name.lower().startswith("diorama")),
        "properties": [
            kind.__name__
            for kind in (bpy.types.Object, bpy.types.Scene, bpy.types.WindowManager)
            if hasattr(kind, "diorama")
        ],
        "operators": dir(bpy.ops.diorama),
        "handlers": [function for function in handlers if function.__module__.startswith(NAME)],
        "threads": [thread.name for thread in threading.enumerate() if thread.name.startswith("diorama")],
        "processes": children(),
    }


def children() -> list[str]:
    """The command lines of this process's children."""
    listed = subprocess.run(
        ["ps", "--no-headers", "-o", "args", "--ppid", str(os.getpid())], **PLAIN
    ).stdout.splitlines()
    return [line for line in listed if not line.startswith("ps ")]


def timer_is_registered(module: ModuleType) -> bool:
    return bpy.app.timers.is_registered(module.jobs._timer)


def test_ten_times_on_and_off_leaves_nothing() -> None:
    before = traces()
    for _ in range(10):
        module = addon_utils.enable(NAME, default_set=True)
        assert hasattr(bpy.types.Scene, "diorama")
        assert timer_is_registered(module)
        addon_utils.disable(NAME, default_set=True)
        assert not timer_is_registered(module)
    assert traces() == before
    assert before["classes"] == before["properties"] == before["handlers"] == before["threads"] == []


def test_a_file_made_without_the_add_on_is_read_and_one_made_with_it_keeps_its_slots(addon, tmp_path) -> None:
    bpy.ops.diorama.add_slot(prompt="a red cube")
    path = str(tmp_path / "slots.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    addon_utils.disable(NAME, default_set=True)
    bpy.ops.wm.open_mainfile(filepath=path)
    bpy.ops.wm.save_mainfile()
    addon_utils.enable(NAME, default_set=True)
    bpy.ops.wm.open_mainfile(filepath=path)
    (slot,) = addon.slots.slots_of(bpy.context.scene)
    assert slot.diorama.prompt == "a red cube"


def test_every_class_of_the_add_on_is_registered(addon: ModuleType) -> None:
    unregistered = [cls.__name__ for cls in addon.CLASSES if not cls.is_registered]
    assert unregistered == []


def test_the_timer_survives_loading_a_file(addon: ModuleType) -> None:
    bpy.ops.wm.read_homefile(use_empty=True)
    assert timer_is_registered(addon)
    assert bpy.context.window_manager.diorama.state == ""


@pytest.mark.skipif(
    bpy.app.version < (4, 3), reason="the module of 4.2 crashes at its end after any property with an update function"
)
def test_blender_as_a_python_module_ends_with_the_add_on_switched_on(tmp_path) -> None:
    """Blender 4.5 hung in its own clean-up while a class was registered."""
    script = "import bpy, addon_utils; addon_utils.enable('blender_addon'); bpy.ops.diorama.add_slot(); print('end')"
    environment = {**os.environ, "BLENDER_USER_RESOURCES": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, timeout=120, **PLAIN)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "end"), done.stderr
