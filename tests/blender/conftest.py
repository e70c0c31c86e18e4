"""The add-on in Blender, the GLB under test made by the backend in its own environment, and Blender with that GLB."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
# Before Blender is imported: the user's own Blender settings stay out of the tests, and the tests out of them.
os.environ["BLENDER_USER_RESOURCES"] = tempfile.mkdtemp(prefix="diorama-tests-")
sys.path.insert(0, str(ROOT))

import bpy  # noqa: E402

# Blender's environment has no torch: make_glb.py runs in the backend's.
BACKEND_PYTHON = os.environ.get("BACKEND_PYTHON", str(ROOT / ".venv" / "bin" / "python"))


class Imported(NamedTuple):
    """What is in Blender after the import, and what ought to be."""

    expected: dict[str, Any]  # make_glb.py's expected.json
    objects: dict[str, bpy.types.Object]  # imported mesh objects by name


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with scene.glb and expected.json."""
    folder = tmp_path_factory.mktemp("exported")
    command = [BACKEND_PYTHON, "-m", "tests.blender.make_glb", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}", pytrace=False)
    return folder


@pytest.fixture(scope="session")
def imported(exported: Path) -> Imported:
    """An otherwise empty Blender scene with the GLB in it, imported with Blender's default options."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=str(exported / "scene.glb"))
    bpy.context.view_layer.update()
    meshes = {thing.name: thing for thing in bpy.context.scene.objects if thing.type == "MESH"}
    return Imported(json.loads((exported / "expected.json").read_text()), meshes)


@pytest.fixture
def addon() -> Iterator[ModuleType]:
    """The add-on, enabled in an empty file; switched off afterwards."""
    import addon_utils  # Blender's own; it is found once bpy is there

    bpy.ops.wm.read_factory_settings(use_empty=True)
    module = addon_utils.enable("blender_addon", default_set=True)
    assert module is not None, "the add-on could not be enabled; its traceback is above"
    yield module
    if bpy.context.mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    addon_utils.disable("blender_addon", default_set=True)


@pytest.fixture
def timing() -> Iterator[None]:
    """Python's garbage collector leaves alone what pytest holds: walking it takes 60 ms, in any callback."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def own_backend() -> Iterator[Any]:
    """A backend where the add-on looks for it, not started yet."""
    from blender_addon.backend_process import Backend

    home = Path(bpy.utils.user_resource("DATAFILES", path="diorama", create=True))
    backend = Backend(Path(BACKEND_PYTHON), ROOT, home / "data", home, "cpu")
    yield backend
    backend.stop()


@pytest.fixture
def service(own_backend: Any) -> None:
    """The real backend, running; its models are loaded once, unless a test before this one ended it."""
    own_backend.start(240.0)
