"""The judgements on objects whose noun and colour are known."""

import numpy as np
import pytest
import torch
import trimesh

from backend.evaluate.colour import dominant_colour, nearest_colours
from backend.evaluate.sections import BASIC, noun_by_shape
from backend.evaluate.sight import look_at
from backend.evaluate.things import coloured_mesh, read_things
from backend.export.glb import export_scene
from backend.guidance.vlm import load_vlm
from backend.starter.shapes import COLOURS, NOUNS, assemble, parts_of
from tests.small_models import write_small_models
from tests.solids import Answer, slot


def shape(noun: str, seed: int, stretch: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """A noun of random proportions, stretched along each axis, turned round Z, moved: welded vertices and faces."""
    rng = np.random.default_rng([seed, list(NOUNS).index(noun)])
    made = assemble(parts_of(noun, rng))
    mesh = trimesh.Trimesh(made.vertices.astype(float), made.faces)
    mesh.merge_vertices()
    size = rng.uniform(0.6, 1.5, 3) if stretch else 1.0
    turn = trimesh.transformations.rotation_matrix(rng.uniform(0, np.pi), (0, 0, 1))[:3, :3]
    return mesh.vertices * size @ turn.T + rng.uniform(-3, 3, 3), mesh.faces


@pytest.mark.parametrize("noun", BASIC)
def test_basic_shapes_are_recognised_in_all_proportions(noun) -> None:
    for seed in range(12):
        found = noun_by_shape(*shape(noun, seed))
        assert found.name == noun, (seed, found)
        assert found.score < 0.06


@pytest.mark.parametrize("noun", sorted(set(NOUNS) - set(BASIC)))
def test_everyday_objects_are_none_of_the_basic_shapes(noun) -> None:
    for seed in range(4):
        assert noun_by_shape(*shape(noun, seed)).name is None, seed


@pytest.mark.parametrize("noun", ["cone", "pyramid"])
def test_a_shape_on_its_head_is_refused(noun) -> None:
    vertices, faces = shape(noun, 0)
    upside_down = vertices * np.array([1, -1, -1])  # a turn by half round X
    assert noun_by_shape(upside_down, faces).name is None


def test_a_lightly_bent_cube_is_still_a_cube() -> None:
    mesh = trimesh.creation.box()
    for _ in range(4):
        mesh = mesh.subdivide()
    rounded = mesh.vertices * (1 - 0.12 * (np.abs(mesh.vertices * 2) ** 4).prod(1, keepdims=True))
    bent = rounded + 0.02 * np.sin(9 * mesh.vertices[:, [1, 2, 0]])
    assert noun_by_shape(bent, mesh.faces).name == "cube"


def test_varied_and_darkened_colours_keep_their_name() -> None:
    rng = np.random.default_rng(0)
    for name, value in COLOURS.items():
        varied = np.clip(np.array(value) + rng.uniform(-0.06, 0.06, (50, 3)), 0, 1)
        assert set(nearest_colours(varied)) == {name}
    assert nearest_colours(np.array([[0.6, 0.05, 0.06], [0.1, 0.18, 0.62], [0.75, 0.65, 0.08]])) == [
        "red",
        "blue",
        "yellow",
    ]


def test_accents_do_not_win() -> None:
    trunk = np.array([[0.36, 0.22, 0.12]])
    assert nearest_colours(trunk) == ["brown"]
    assert nearest_colours(trunk, "tree") == [""]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A GLB of a sphere that is blue below and for a third red on top, and of a turned orange box."""

    def banded(points: torch.Tensor) -> Answer:
        top = points[:, 2] > 0.5 / 3
        red, blue = torch.tensor(COLOURS["red"]), torch.tensor(COLOURS["blue"])
        return Answer(torch.where(top[:, None], red, blue), 0.5 * torch.ones(len(points)), torch.zeros(len(points)))

    def orange(points: torch.Tensor) -> Answer:
        plain = torch.tensor(COLOURS["orange"]).expand(len(points), 3)
        return Answer(plain, 0.5 * torch.ones(len(points)), torch.zeros(len(points)))

    ball = slot("ball", "sphere", colour=banded, centre=(2.0, 0.0, 0.5))
    box = slot("box", "box", colour=orange, size=(1.0, 2.0, 0.5), centre=(0.0, 1.0, 0.25))
    turned = box.to_world.clone()
    turned[:3, :3] = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ turned[:3, :3]
    path = tmp_path_factory.mktemp("glb") / "scene.glb"
    export_scene([ball, box._replace(to_world=turned)], path, 128, 5000, {})
    return read_things(path)


def test_things_stand_where_they_were_exported(exported) -> None:
    assert set(exported) == {"ball", "box"}
    low, high = exported["ball"].world.min(0), exported["ball"].world.max(0)
    np.testing.assert_allclose([low, high], [[1.5, -0.5, 0], [2.5, 0.5, 1]], atol=1e-3)
    low, high = exported["box"].world.min(0), exported["box"].world.max(0)
    np.testing.assert_allclose([low, high], [[-1, 0.5, 0], [1, 1.5, 0.5]], atol=1e-3)


def test_things_are_welded_and_closed(exported) -> None:
    for thing in exported.values():
        assert trimesh.Trimesh(thing.vertices, thing.faces, process=False).is_watertight


def test_colours_are_read_from_the_texture_by_area(exported) -> None:
    ball = dominant_colour(exported["ball"])
    assert ball.name == "blue"
    assert ball.score == pytest.approx(2 / 3, abs=0.03)  # Archimedes: a band's share is its height's
    assert dominant_colour(exported["box"]).name == "orange"


def test_nouns_of_exported_things_are_found_by_shape(exported) -> None:
    assert noun_by_shape(exported["ball"].vertices, exported["ball"].faces).name == "sphere"
    assert noun_by_shape(exported["box"].vertices, exported["box"].faces).name == "cube"


def test_vertex_colours_are_the_textures(exported) -> None:
    mesh = coloured_mesh(exported["ball"], exported["ball"].world)
    top = mesh.vertices[:, 2] > 0.8
    torch.testing.assert_close(mesh.local[top].mean(0), torch.tensor(COLOURS["red"]), atol=0.03, rtol=0)


def test_sight_gives_a_known_noun_and_the_same_one_again(exported, tmp_path) -> None:
    vlm = load_vlm(write_small_models(tmp_path)[1], torch.device("cpu"))
    one, two = (look_at(vlm, exported["box"], "orange", pairs=1) for _ in range(2))
    assert one == two
    assert list(one.nouns) == list(NOUNS)
    assert one.noun.score == max(one.nouns.values()) == one.nouns[one.noun.name]
