"""The GLB under test, made by the backend in its own environment, and Blender with that GLB imported."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import bpy
import pytest

ROOT = Path(__file__).parents[2]
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
