"""Whole runs with the user's meshes, on untrained networks: what stays, what moves, what resumes, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from backend.checkpoint import Checkpoint
from backend.cli import main
from backend.errors import RequestError
from backend.generate import _Loop, make_optimizer
from backend.guidance.models import Models, load_models
from backend.prepare import prepare, with_meshes
from backend.presets import settings_for
from backend.run import CHECKPOINT, run
from backend.scene.given import make_given
from backend.scene.slots import Scene
from backend.schema import read_request
from tests.user_meshes import coloured, floor, write_glb

CPU = torch.device("cpu")
create = trimesh.creation
BROWN = (200, 120, 40, 255)
ON_TABLE = {"subject": "hat", "relation": "on top of", "object": "table"}


def small(folders: tuple[Path, Path], **more) -> dict:
    settings = {"prior": str(folders[0]), "vlm": str(folders[1]), "steps": 2, "views": 2, "resolution": 10}
    return settings | {"final_resolution": 12, "refine_at": 0.6, "texture_px": 128, "preview_px": 32} | more


@pytest.fixture(scope="module")
def models(folders) -> Models:
    return load_models(settings_for("starter", small(folders)), CPU)


def table() -> trimesh.Trimesh:
    top = create.box((2.0, 2.0, 0.1))
    top.apply_translation((0.0, 0.0, 0.65))
    return coloured(top, BROWN)


def hat() -> trimesh.Trimesh:
    cone = create.cone(0.3, 0.6)
    cone.apply_translation((0.0, 0.0, 0.75))
    return cone


@pytest.fixture
def meshes(tmp_path) -> Path:
    return write_glb(tmp_path / "scene.glb", {"table": table(), "hat": hat()})


def asked(folders, **more) -> dict:
    slots = [
        {"name": "table", "prompt": "a brown table", "kind": "context"},
        {"name": "hat", "prompt": "a blue cone", "kind": "start"},
        {"name": "ball", "prompt": "a red sphere", "centre": [0.7, 0.0, 1.0], "size": [0.5, 0.5, 0.5]},
    ]
    return {"slots": slots, "relations": [ON_TABLE], "seed": 3, "settings": small(folders, **more)}


def ignore(_) -> None:
    """What a run tells, not listened to."""


def surface(scene: Scene, index: int) -> np.ndarray:
    """World vertices of one slot."""
    mesh = scene.scene_mesh(scene.surfaces(training=False))
    return mesh.vertices[mesh.faces[mesh.face_slot == index].unique()].detach().numpy()


def make_loop(models: Models, data: dict, path: Path) -> tuple[_Loop, torch.optim.Adam]:
    request, read, _ = with_meshes(read_request(data), path)
    request, _ = prepare(request)
    settings = settings_for("starter", data["settings"])
    generator = torch.Generator().manual_seed(0)
    given, _ = make_given(request.slots, read, settings.resolution, CPU)
    scene = Scene(request.slots, settings.resolution, CPU, generator, given=given)
    return _Loop(request, settings, models, scene, generator), make_optimizer(scene, settings)


def test_steps_look_at_every_object_but_never_at_context(models, folders, meshes) -> None:
    loop, optimizer = make_loop(models, asked(folders), meshes)
    seen: list[int] = []
    of_object = loop.objective.of_object
    loop.objective.of_object = lambda index, *rest: seen.append(index) or of_object(index, *rest)  # type: ignore
    before = surface(loop.scene, 0)
    for step in range(2):
        losses, _ = loop.step(step, 0.5, optimizer)
        assert ("penetration" in losses) == (step % loop.settings.scene_every == 0)
    assert sorted(seen) == [1, 2]
    assert np.array_equal(before, surface(loop.scene, 0))


def test_an_object_sunk_into_context_is_pushed_out_and_what_hangs_over_it_comes_down(models, folders, tmp_path) -> None:
    path = write_glb(tmp_path / "a.glb", {"table": table()})
    data = asked(folders, lr_placement=0.02)
    ball = {"prompt": "a red sphere", "size": [0.5, 0.5, 0.5]}
    data |= {"relations": [], "slots": [data["slots"][0]]}
    data["slots"] += [
        ball | {"name": "sunk", "centre": [0.5, 0, 0.8]},
        ball | {"name": "high", "centre": [-0.5, 0, 1.4]},
    ]
    loop, _ = make_loop(models, data, path)
    placements = [loop.scene.model(index).placement for index in (1, 2)]
    optimizer = torch.optim.Adam([placement.translation for placement in placements], lr=0.02)
    for _ in range(40):
        terms = loop.objective.of_scene(loop.scene.surfaces(training=True))
        optimizer.zero_grad()
        (terms["penetration"] + terms["support"]).backward()
        optimizer.step()
    sunk, high = surface(loop.scene, 1), surface(loop.scene, 2)
    assert sunk[:, 2].min() == pytest.approx(0.7, abs=0.04)  # 0.55 at first
    assert high[:, 2].min() == pytest.approx(0.7, abs=0.04)  # 1.2 at first: it falls onto the table, not to the ground


def test_a_floor_of_the_users_own_is_the_ground(models, folders, tmp_path) -> None:
    path = write_glb(tmp_path / "a.glb", {"floor": floor(5.0, -1.0)})
    data = asked(folders) | {"relations": []}
    data["slots"] = [
        {"name": "floor", "prompt": "a floor", "kind": "context"},
        {"name": "ball", "prompt": "a ball", "centre": [0.0, 0.0, -0.4]},
    ]
    loop, _ = make_loop(models, data, path)
    terms = loop.objective.of_scene(loop.scene.surfaces(training=True))
    terms["support"].backward()
    assert loop.scene.model(1).placement.translation.grad[2] > 0  # 0.19 above the floor, it is drawn down
    assert terms["support"].item() == pytest.approx(0.19 / 0.82, rel=0.1)


@pytest.fixture(scope="module")
def result(models, folders, tmp_path_factory) -> Path:
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("run")
    path = write_glb(folder / "meshes.glb", {"table": table(), "hat": hat()})
    told: list = []
    written = run(read_request(asked(folders)), folder, CPU, told.append, ignore, models=models, meshes=path)
    assert [step.step for step in told] == [1, 2, 3, 4]  # two steps for each object that is optimised
    assert set(written.checks.gap_m) == {"hat", "ball"}
    return folder


def test_a_run_keeps_context_out_of_the_result_and_names_it(result) -> None:
    glb = trimesh.load(result / "scene.glb")
    assert {"hat", "ball"} <= set(glb.graph.nodes) and "table" not in glb.graph.nodes
    report = json.loads((result / "report.json").read_text())
    assert report["context"] == ["table"]
    assert [slot["name"] for slot in report["slots"]] == ["hat", "ball"]
    assert [(r["object"], type(r["fulfilled"])) for r in report["relations"]] == [("table", bool)]
    box = report["request"]["slots"][0]
    assert box["centre"] == pytest.approx([0, 0, 0.65]) and box["size"] == pytest.approx([2, 2, 0.1])


def test_the_start_is_still_the_mesh_after_a_short_run(result) -> None:
    got = trimesh.load(result / "scene.glb").geometry["hat"]
    assert got.volume == pytest.approx(hat().volume, rel=0.35)
    assert sorted(got.extents) == pytest.approx([0.6, 0.6, 0.6], abs=0.12)


def test_preview_pictures_show_context_in_its_colour(result) -> None:
    picture = np.asarray(Image.open(result / "preview.png").convert("RGB")).astype(float)
    brown = (picture[..., 0] > 1.15 * picture[..., 1]) & (picture[..., 1] > 1.15 * picture[..., 2])
    assert brown.mean() > 0.08


class Stop(Exception):
    """What an on_step raises that wants no more."""


def test_a_run_resumes_without_the_meshes_to_the_objects_of_an_undisturbed_one(
    models, folders, meshes, result, tmp_path, capsys
) -> None:
    def stop(step) -> None:
        if step.step == 3:  # the grids have been refined
            raise Stop

    stopped, data = tmp_path / "stopped", asked(folders, checkpoint_every_s=1e-9)
    with pytest.raises(Stop):
        run(read_request(data), stopped, CPU, stop, ignore, models=models, meshes=meshes)
    meshes.unlink()
    assert Checkpoint(stopped / CHECKPOINT).step == 3
    assert main(["generate", "--resume", str(stopped / CHECKPOINT), "--device", "cpu"]) == 0
    capsys.readouterr()
    one, two = (trimesh.load(folder / "scene.glb").geometry for folder in (result, stopped))
    for name in ("hat", "ball"):
        assert np.array_equal(one[name].vertices, two[name].vertices)
        assert np.array_equal(one[name].visual.material.baseColorTexture, two[name].visual.material.baseColorTexture)
    assert json.loads((stopped / "report.json").read_text())["context"] == ["table"]


def refused(capsys, *arguments: str) -> str:
    assert main(["generate", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    return err


def write(tmp_path: Path, data: dict) -> str:
    path = tmp_path / "request.json"
    path.write_text(json.dumps(data))
    return str(path)


def test_slots_that_want_meshes_without_any_are_refused(capsys, folders, tmp_path) -> None:
    message = refused(capsys, "--request", write(tmp_path, asked(folders)), "--out", str(tmp_path / "out"))
    assert "slots[0].kind: slot 'table' is of kind context, and no meshes came with the request" in message
    assert "--meshes FILE.glb" in message


def test_only_context_is_refused(capsys, folders, meshes, tmp_path) -> None:
    data = asked(folders) | {"relations": []}
    data["slots"] = data["slots"][:1]
    arguments = ["--request", write(tmp_path, data), "--meshes", str(meshes), "--out", str(tmp_path / "out")]
    assert "every slot is context" in refused(capsys, *arguments)
    with pytest.raises(RequestError, match="nothing to generate"):
        prepare(read_request(data))


@pytest.mark.parametrize(
    ("content", "says"), [(b"no GLB", "is not a GLB file"), (None, "cannot be read")], ids=["damaged", "missing"]
)
def test_a_bad_meshes_file_is_named(capsys, folders, tmp_path, content, says) -> None:
    path = tmp_path / "scene.glb"
    if content is not None:
        path.write_bytes(content)
    arguments = ["--request", write(tmp_path, asked(folders)), "--meshes", str(path), "--out", str(tmp_path / "out")]
    message = refused(capsys, *arguments)
    assert says in message and str(path) in message


def test_a_slot_whose_node_is_missing_is_named(capsys, folders, tmp_path) -> None:
    path = write_glb(tmp_path / "a.glb", {"table": table()})
    arguments = ["--request", write(tmp_path, asked(folders)), "--meshes", str(path), "--out", str(tmp_path / "out")]
    assert "no node named 'hat'" in refused(capsys, *arguments)


def test_meshes_nobody_wants_are_a_warning_and_with_resume_an_error(capsys, meshes, tmp_path) -> None:
    request = read_request({"slots": [{"name": "cube", "prompt": "a cube"}]})
    assert with_meshes(request, meshes)[2] == ["the meshes were not used: no slot is of kind start or context"]
    assert "--meshes" in refused(capsys, "--resume", str(tmp_path / "c"), "--meshes", str(meshes))
