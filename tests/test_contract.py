"""Both sides of the contract understand the files in tests/contract (the add-on's: tests/blender/test_collect.py)."""

import ast
import json
import os
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from backend.image.request import EDIT_METHODS, IMAGE_METHODS, ImageRequest
from backend.image.size import LONGEST_ASPECT, SHORTEST_PX
from backend.scene.glb_reader import read_parts
from backend.schema import (
    LONGEST_M,
    MAX_SLOTS,
    MOST_ELONGATED,
    SHORTEST_EDGE_M,
    Relation,
    SceneRequest,
    Slot,
    read_request,
)
from backend.service.wire import Job

CONTRACT = Path(__file__).parent / "contract"
REQUESTS = sorted(CONTRACT.glob("request_*.json"))
WRITTEN = SceneRequest(
    prompt="a red mug on a brown table",
    negative_prompt="broken",
    slots=(
        Slot(name="table", prompt="a brown table", centre=(0, 0, 0.4), size=(1.25, 1.25, 0.75), lock_position=True),
        Slot(name="mug", prompt="a red mug", centre=(0.25, 0.125, 1.25), size=(0.5, 0.5, 0.5), rotation_deg=(0, 0, 30)),
    ),
    relations=(Relation(subject="mug", relation="on top of", object="table"),),
    seed=5,
    settings={"steps": 12, "texture_px": 128, "views": 2},
)


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.stem)
def test_what_the_add_on_collects_is_a_request(path):
    request = read_request(json.loads(path.read_text()))
    assert json.loads(request.model_dump_json()) == json.loads(path.read_text())


def test_the_backend_reads_the_meshes_that_the_add_on_writes():
    request = read_request(json.loads((CONTRACT / "request_own_meshes.json").read_text()))
    parts = read_parts((CONTRACT / "request_own_meshes.glb").read_bytes(), [slot.name for slot in request.slots])
    for slot in request.slots:
        vertices = np.concatenate([part.vertices for part in parts[slot.name]])
        x, y, z = vertices.max(0) - vertices.min(0)
        assert (x, z, y) == pytest.approx(slot.size, abs=1e-4)  # glTF's Y is up


def test_there_is_a_request_of_every_kind_of_slot():
    kinds = {slot.kind for path in REQUESTS for slot in read_request(json.loads(path.read_text())).slots}
    assert kinds == {"generate", "start", "context"}


def test_what_the_add_on_is_tested_with_is_what_the_schema_writes():
    """UPDATE_CONTRACT=1 writes the fixture anew."""
    request = json.loads(WRITTEN.model_dump_json())
    path = CONTRACT / "from_backend.json"
    data = json.loads(path.read_text()) if path.is_file() else {}
    if os.environ.get("UPDATE_CONTRACT"):
        data = {"request": request, "job": {**JOB, "request": request}}
        path.write_text(json.dumps(data, indent=2) + "\n")
    assert data["request"] == data["job"]["request"] == request


def test_the_job_that_the_add_on_is_tested_with_is_one_of_the_service_s():
    data = json.loads((CONTRACT / "from_backend.json").read_text())["job"]
    assert json.loads(Job.model_validate(data).model_dump_json(exclude_unset=True)) == data


def test_the_add_on_s_limits_are_the_schema_s():
    text = (Path(__file__).parents[1] / "blender_addon" / "collect.py").read_text()
    assert f"\nMAX_SLOTS = {MAX_SLOTS} " in text
    limits = text.split("SHORTEST_EDGE_M, LONGEST_M, MOST_ELONGATED = ")[1].splitlines()[0]
    assert tuple(map(float, limits.split(", "))) == (SHORTEST_EDGE_M, LONGEST_M, MOST_ELONGATED)


def assigned(module: str, name: str) -> Any:
    """The value that a module of the add-on gives a name, without importing the module, which needs Blender."""
    tree = ast.parse((Path(__file__).parents[1] / "blender_addon" / f"{module}.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"{module}.py has no {name}")


def test_the_image_editor_s_limits_and_choices_are_the_backend_s():
    assert assigned("collect_picture", "(SHORTEST_PX, LONGEST_ASPECT)") == (SHORTEST_PX, LONGEST_ASPECT)
    longest = {
        limit.max_length for limit in ImageRequest.model_fields["prompt"].metadata if hasattr(limit, "max_length")
    }
    assert {assigned("collect_picture", "LONGEST_PROMPT")} == longest
    for name, known in (
        ("IMAGE_METHODS", IMAGE_METHODS),
        ("EDIT_METHODS", EDIT_METHODS),
        ("PICTURE_PRESETS", get_args(ImageRequest.model_fields["preset"].annotation)),
    ):
        assert {row[0] for row in assigned("properties", name)} == set(known)


JOB = {
    "id": "20261123-141500-ab12cd",
    "kind": "scene",
    "state": "done",
    "created": "2026-11-23T14:15:00Z",
    "started": "2026-11-23T14:15:01Z",
    "finished": "2026-11-23T14:16:00Z",
    "position": None,
    "progress": None,
    "error": None,
    "warnings": [],
    "log_tail": "",
    "relations": [
        {"subject": "mug", "relation": "on top of", "object": "table", "fulfilled": True, "probability": 0.9}
    ],
    "has_result": True,
    "has_preview": True,
    "has_checkpoint": True,
    "seconds": 59.0,
}
