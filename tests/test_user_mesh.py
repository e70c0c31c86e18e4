"""The user's meshes: read, turned into distances, started from, stood beside, and kept by checkpoints."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree
from torch import Tensor

from backend.errors import RequestError
from backend.scene import user_mesh
from backend.scene.context import Context, split_for_shading
from backend.scene.given import make_given, starting_field, with_boxes
from backend.scene.isosurface import make_grid
from backend.scene.mesh import vertex_normals
from backend.scene.mesh_distance import HALF_THICKNESS, grid_distance
from backend.scene.slots import SHELL, Scene
from backend.scene.user_mesh import read_user_meshes
from backend.schema import Slot
from tests.user_meshes import TRIANGLE, as_user_mesh, coloured, floor, glb, tree, write_glb

CPU = torch.device("cpu")
SIZE = (24, 24, 24)
CORNERS = make_grid(SIZE, CPU).vertices
CELL = 1.0 / 24.0
create = trimesh.creation
TURNS = [(0.0, 0.0, 0.0), (np.pi / 4, 0.0, 0.0), (0.4, 0.7, 0.2), (np.arctan(np.sqrt(0.5)), 0.0, np.pi / 4)]


def turned(mesh: trimesh.Trimesh, angles: tuple[float, float, float]) -> trimesh.Trimesh:
    mesh.apply_transform(trimesh.transformations.euler_matrix(*angles))
    return mesh


def field_of(mesh: trimesh.Trimesh):
    vertices, faces = torch.tensor(np.asarray(mesh.vertices)).float(), torch.tensor(np.asarray(mesh.faces))
    return grid_distance(vertices, faces, CORNERS, SIZE)


def slot(kind: str, name: str = "thing", **more) -> Slot:
    return Slot(name=name, prompt=f"a {name}", kind=kind, **more)  # type: ignore[arg-type]


def surface_of(mesh: trimesh.Trimesh, resolution: int = 24) -> trimesh.Trimesh:
    """What a slot with a box of edge 1 around the origin starts with."""
    box = slot("start", centre=(0.0, 0.0, 0.0))
    given, _ = make_given([box], {"thing": as_user_mesh(mesh)}, resolution, CPU)
    scene = Scene([box], resolution, CPU, torch.Generator().manual_seed(0), given=given)
    surface = scene.surfaces(training=False)[0]
    return trimesh.Trimesh(surface.vertices.detach().numpy(), surface.faces.numpy(), process=False)


def farthest(one: trimesh.Trimesh, other: trimesh.Trimesh) -> float:
    """Largest distance from a point of one surface to the other surface (sampled)."""
    return float(cKDTree(other.sample(20000, seed=0)).query(one.sample(4000, seed=1))[0].max())


# Distances


def sphere(points: Tensor) -> Tensor:
    return points.norm(dim=-1) - 0.4


def cube(points: Tensor) -> Tensor:
    beyond = points.abs() - 0.3
    return beyond.clamp_min(0).norm(dim=-1) + beyond.amax(-1).clamp_max(0)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize(
    ("mesh", "truth"), [(create.icosphere(4, 0.4), sphere), (create.box((0.6, 0.6, 0.6)), cube)], ids=["sphere", "cube"]
)
def test_distances_to_closed_bodies_are_those_of_the_formulas(mesh, truth, inverted) -> None:
    mesh = mesh.copy()
    if inverted:
        mesh.invert()
    field = field_of(mesh)
    assert (field.sdf - truth(CORNERS)).abs().max() < 0.06 * CELL
    assert field.thickened == 0.0


def test_a_half_open_ball_is_a_half_ball() -> None:
    ball = create.icosphere(4, 0.4)
    bowl = trimesh.Trimesh(ball.vertices, ball.faces[ball.triangles_center[:, 2] < 0])
    sdf = field_of(bowl).sdf
    radius, below = CORNERS.norm(dim=-1), CORNERS[:, 2] < 0
    # Deep in the half ball and far from it the sign is sure; the film lies within a cell of the opening.
    assert (sdf[(radius < 0.4 - CELL) & (CORNERS[:, 2] < -1.5 * CELL)] < 0).all()
    assert (sdf[(radius > 0.4 + CELL) | (CORNERS[:, 2] > 1.5 * CELL)] > 0).all()
    near_film = below & (radius < 0.2) & (CORNERS[:, 2] > -0.1)
    assert (sdf[near_film] - CORNERS[near_film, 2]).abs().max() < 1.1 * CELL  # the film counts as surface


def test_bodies_that_cross_and_face_either_way_are_one_solid() -> None:
    one, other = create.box((0.4, 0.4, 0.4)), create.icosphere(3, 0.25)
    one.apply_translation((-0.15, 0, 0))
    other.apply_translation((0.15, 0, 0))
    sdf = field_of(trimesh.util.concatenate([one, other])).sdf
    inside = (CORNERS - torch.tensor([-0.15, 0, 0])).abs().amax(-1) < 0.2 - 0.1 * CELL
    inside |= (CORNERS - torch.tensor([0.15, 0, 0])).norm(dim=-1) < 0.25 - 0.1 * CELL
    assert (sdf[inside] < 0).all()


@pytest.mark.parametrize("thickness", [0.7 * CELL, 0.1 * CELL, 0.0])
@pytest.mark.parametrize("angles", TURNS)
def test_thin_plates_become_one_closed_body_no_thicker_than_needed(thickness, angles) -> None:
    plate = create.box((0.6, 0.6, thickness)) if thickness else floor(0.3)
    plate = turned(plate, angles)
    body = surface_of(plate)  # where it is not turned, it lies on corners of the grid
    assert body.is_watertight and body.body_count == 1 and body.euler_number == 2
    assert farthest(body, plate) < (HALF_THICKNESS + 0.3) * CELL
    assert farthest(plate, body) < 1.1 * CELL


def test_in_a_flat_box_a_plate_stays_as_thin_as_its_own_cells_allow() -> None:
    box = slot("start", centre=(0.0, 0.0, 0.0), size=(1.0, 1.0, 0.2))  # 24, 24, 8 cells: 0.042 m, 0.042 m, 0.025 m
    given, _ = make_given([box], {"thing": as_user_mesh(create.box((0.8, 0.8, 0.02)))}, 24, CPU)
    scene = Scene([box], 24, CPU, torch.Generator().manual_seed(0), given=given)
    height = scene.scene_mesh(scene.surfaces(training=False)).vertices[:, 2]
    assert 0.02 < height.max() - height.min() < 2 * HALF_THICKNESS * 0.025 + 0.002


def test_a_wire_across_the_grid_holds_together() -> None:
    body = surface_of(turned(create.cylinder(0.02 * CELL, 0.85, sections=6), (0.5, 0.3, 0.2)), resolution=12)
    assert body.is_watertight and body.body_count == 1


# Starting with a mesh


@pytest.mark.parametrize(
    "mesh",
    [
        create.icosphere(4, 0.4),
        turned(create.box((0.5, 0.4, 0.6)), (0.4, 0.7, 0.2)),
        create.torus(0.3, 0.12),
    ],
    ids=["sphere", "box", "torus"],
)
def test_the_first_surface_reproduces_the_mesh_within_a_cell(mesh) -> None:
    body = surface_of(mesh)
    assert body.is_watertight
    assert farthest(body, mesh) < CELL and farthest(mesh, body) < CELL
    assert body.volume == pytest.approx(mesh.volume, rel=0.12)


def test_a_mesh_that_fills_its_box_keeps_all_but_its_last_cell() -> None:
    mesh = create.box((1.0, 1.0, 1.0))
    body = surface_of(mesh)
    assert body.is_watertight
    assert farthest(body, mesh) < CELL and farthest(mesh, body) < np.sqrt(3) * CELL


def test_a_start_stands_in_the_world_where_the_mesh_does(tmp_path) -> None:
    mesh = create.box((0.6, 0.2, 0.4))
    mesh.apply_transform(trimesh.transformations.euler_matrix(0, 0, 0.5))
    mesh.apply_translation((3.0, -2.0, 1.0))
    path = write_glb(tmp_path / "a.glb", {"thing": mesh})
    asked = [slot("start", rotation_deg=(0.0, 0.0, np.degrees(0.5)))]
    meshes, warnings = read_user_meshes(path, asked)
    slots = with_boxes(asked, meshes)
    assert slots[0].size == pytest.approx((0.6 / 0.9, 0.2 / 0.9, 0.4 / 0.9), rel=1e-4)
    given, more = make_given(slots, meshes, 24, CPU)
    scene = Scene(slots, 24, CPU, torch.Generator().manual_seed(0), given=given)
    surface = scene.scene_mesh(scene.surfaces(training=False))
    body = trimesh.Trimesh(surface.vertices.detach().numpy(), surface.faces.numpy(), process=False)
    assert farthest(body, mesh) < 0.7 / 24 and farthest(mesh, body) < 0.7 / 24
    assert warnings + more == []


def test_a_box_that_is_given_is_kept_and_what_reaches_out_of_it_is_told() -> None:
    asked = slot("start", centre=(0.0, 0.0, 0.0), size=(1.0, 1.0, 0.5))
    meshes = {"thing": as_user_mesh(create.icosphere(3, 0.4))}
    assert with_boxes([asked], meshes) == (asked,)
    _, warnings = starting_field(asked, meshes["thing"], 24, CPU)
    assert len(warnings) == 1 and "0.15 m out of its box" in warnings[0]


def test_thickening_is_told_in_metres() -> None:
    _, warnings = starting_field(slot("start", centre=(0.0, 0.0, 0.0)), as_user_mesh(floor(0.3, 0.01)), 24, CPU)
    assert len(warnings) == 1 and "thickened, to 0.0625 m at most" in warnings[0]


def test_a_mesh_beside_its_box_is_refused() -> None:
    with pytest.raises(RequestError, match="hardly anything of its mesh lies in its box"):
        starting_field(slot("start", centre=(9.0, 0.0, 0.0)), as_user_mesh(create.icosphere(2, 0.4)), 12, CPU)


def test_a_vanished_start_comes_back_as_the_mesh_even_on_a_finer_grid_and_from_a_checkpoint() -> None:
    box = slot("start", centre=(0.0, 0.0, 0.0))
    mesh = create.torus(0.3, 0.15)
    given, _ = make_given([box], {"thing": as_user_mesh(mesh)}, 24, CPU)
    scene = Scene([box], 24, CPU, torch.Generator().manual_seed(0), given=given)
    scene.refine(32)
    other = Scene([box], 24, CPU, torch.Generator().manual_seed(1))  # without the mesh, as a resumed run makes it
    other.load_state_dict(scene.state_dict())
    with torch.no_grad():
        other.model(0).shape.sdf.fill_(0.4)
        other.model(0).shape.last_good.fill_(0.4)
    assert other.recover(other.surfaces(training=True)) == [0]
    surface = other.surfaces(training=False)[0]
    body = trimesh.Trimesh(surface.vertices.detach().numpy(), surface.faces.numpy(), process=False)
    assert farthest(body, mesh) < CELL and farthest(mesh, body) < CELL


# Context


def mixed(*, at: float = 0.3) -> tuple[Scene, list[Slot]]:
    """A ball of radius 0.41 whose centre is `at` metres above a wide context floor without thickness."""
    slots = [slot("context", "floor"), slot("generate", "ball", centre=(0.0, 0.0, at))]
    given, _ = make_given(slots, {"floor": as_user_mesh(floor(), (0.9, 0.2, 0.1))}, 12, CPU)
    return Scene(slots, 12, CPU, torch.Generator().manual_seed(0), given=given), slots


def test_context_has_no_parameters_and_keeps_its_place_through_a_step() -> None:
    scene, _ = mixed()
    before = scene.slots[0].state_dict()
    groups = scene.parameter_groups(0.1, 0.1, 0.1)
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in scene.slots[1].parameters()}
    mesh = scene.scene_mesh(scene.surfaces(training=True))
    optimizer = torch.optim.Adam(groups)
    (mesh.vertices.square().sum() + scene.colour(mesh.local, torch.zeros(len(mesh.local)).long()).sum()).backward()
    optimizer.step()
    after = scene.scene_mesh(scene.surfaces(training=True))
    count = int((mesh.face_slot == 0).sum()) * 2
    assert all(torch.equal(value, scene.slots[0].state_dict()[key]) for key, value in before.items())
    assert torch.equal(mesh.vertices[:count], after.vertices[:count])
    assert not torch.equal(mesh.vertices[count:], after.vertices[count:])


def test_context_is_seen_in_its_own_colours() -> None:
    scene, _ = mixed()
    mesh = scene.scene_mesh(scene.surfaces(training=True))
    own = mesh.faces[mesh.face_slot == 0].unique()
    shown = scene.colour(mesh.local[own], torch.zeros(len(own), dtype=torch.int64))
    assert torch.allclose(shown, torch.tensor([0.9, 0.2, 0.1]).expand_as(shown), atol=1e-6)
    material = scene.material(0, mesh.local[own])
    assert torch.allclose(material.albedo, shown) and len(material.roughness) == len(own)


def test_colours_and_hard_edges_split_vertices_and_soft_ones_do_not() -> None:
    box = as_user_mesh(create.box((1.0, 1.0, 1.0)))
    vertices, faces, _ = split_for_shading(box)
    assert len(vertices) == 24
    normals = vertex_normals(vertices, faces)
    assert torch.allclose(normals.abs().amax(-1), torch.ones(24))
    ball = as_user_mesh(create.icosphere(2, 1.0))
    assert len(split_for_shading(ball)[0]) == len(ball.vertices)
    half = ball._replace(colour=ball.colour * (ball.vertices[ball.faces].mean(1)[:, 2:] > 0))
    vertices, faces, colours = split_for_shading(half)
    assert len(vertices) > len(ball.vertices)
    assert torch.equal(colours[faces], half.colour[:, None].expand(-1, 3, -1))
    assert torch.equal(vertices[faces], ball.vertices[ball.faces])


def test_distance_to_context_is_exact_and_its_gradient_points_away() -> None:
    context = Context(as_user_mesh(create.box((4.0, 4.0, 1.0))), 0.1, CPU)
    points = torch.tensor([[0.3, 0.2, 0.7], [0.3, 0.2, 0.4], [2.5, 0.0, 0.0]], requires_grad=True)
    distance = context.signed_distance(points)
    assert torch.allclose(distance, torch.tensor([0.2, -0.1, 0.5]), atol=1e-5)  # closed: the shell does not count
    distance.sum().backward()
    assert torch.allclose(points.grad, torch.tensor([[0.0, 0, 1], [0, 0, 1], [1, 0, 0]]), atol=1e-4)


def test_a_wall_without_thickness_is_as_thick_as_its_shell() -> None:
    scene, _ = mixed()
    points = torch.tensor([[0.0, 0.0, 0.5], [3.0, 3.0, 0.01], [3.0, 3.0, -0.01]])
    assert torch.allclose(scene.sdf_at(0, points), torch.tensor([0.5, 0.01, 0.01]) - SHELL, atol=1e-5)


def test_points_on_context_are_spread_over_its_area() -> None:
    context = Context(as_user_mesh(floor(10.0)), 0.0, CPU)
    points = context.surface_points(2000, torch.Generator().manual_seed(0))
    assert points.shape == (2000, 3) and (points[:, 2] == 0).all()
    assert points.mean(0).abs().max() < 0.6 and (points[:, :2].std(0) - 20 / 12**0.5).abs().max() < 0.3


def test_a_checkpoint_carries_context_to_a_scene_made_without_it() -> None:
    scene, slots = mixed()
    points = torch.tensor([[0.1, 0.2, 0.3]])
    other = Scene(slots, 12, CPU, torch.Generator().manual_seed(5))
    other.load_state_dict(scene.state_dict())
    assert torch.equal(other.scene_mesh(other.surfaces(True)).vertices, scene.scene_mesh(scene.surfaces(True)).vertices)
    assert torch.equal(other.sdf_at(0, points), scene.sdf_at(0, points))


def test_cameras_frame_the_objects_and_what_of_the_context_is_near() -> None:
    scene, _ = mixed()
    low, high = torch.tensor([[-10.0, -10, 0], [-0.5, -0.5, 0]]), torch.tensor([[10.0, 10, 0], [0.5, 0.5, 1]])
    low, high = scene.in_view(low, high)
    assert torch.equal(low, torch.tensor([-1.0, -1, 0])) and torch.equal(high, torch.tensor([1.0, 1, 1]))


def test_a_box_goes_round_context_and_a_flat_one_grows_down() -> None:
    meshes = {"floor": as_user_mesh(floor(2.0, 0.5))}
    (boxed,) = with_boxes([slot("context", "floor", centre=(7.0, 7.0, 7.0))], meshes)
    assert boxed.centre[2] + boxed.size[2] / 2 == pytest.approx(0.5)
    assert boxed.centre[:2] == pytest.approx((0.0, 0.0), abs=1e-6) and boxed.size[:2] == pytest.approx((4.0, 4.0))
    Slot.model_validate(boxed.model_dump())


# Reading


def test_meshes_come_in_blenders_axes_with_their_colours(tmp_path) -> None:
    mesh = coloured(create.box((1.0, 2.0, 3.0)), (255, 128, 0, 255))
    mesh.apply_translation((1.0, 2.0, 3.0))
    path = write_glb(tmp_path / "a.glb", {"thing": mesh, "not asked for": create.box((9.0, 9.0, 9.0))})
    meshes, warnings = read_user_meshes(path, [slot("context"), slot("generate", "other")])
    read = meshes["thing"]
    assert list(meshes) == ["thing"] and warnings == [] and read.closed
    assert torch.allclose(read.vertices.amin(0), torch.tensor([0.5, 1.0, 1.5]), atol=1e-6)
    assert torch.allclose(read.vertices.amax(0), torch.tensor([1.5, 3.0, 4.5]), atol=1e-6)
    assert len(read.vertices) == 8 and len(read.faces) == 12
    linear = torch.tensor([1.0, 128 / 255, 0.0])
    assert torch.allclose(read.colour[0], user_mesh.to_srgb(linear), atol=1e-3)


def test_a_large_context_mesh_is_simplified_and_keeps_colours_and_shape(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(user_mesh, "CONTEXT_FACES", 2000)
    ball = create.icosphere(4, 1.0)
    path = write_glb(tmp_path / "a.glb", {"thing": ball})
    read, warnings = read_user_meshes(path, [slot("context")])
    assert 1500 < len(read["thing"].faces) <= 2000 and read["thing"].closed
    assert "its 5120 triangles were simplified to" in warnings[0]
    assert (read["thing"].vertices.norm(dim=-1) - 1).abs().max() < 0.02
    started, none = read_user_meshes(path, [slot("start")])
    assert len(started["thing"].faces) == 5120 and none == []  # its distances are taken once
    both = as_user_mesh(ball)
    red = (both.vertices[both.faces].mean(1)[:, 2:] > 0).float() * torch.tensor([1.0, 0.0, 0.0])
    simpler = user_mesh._simplified(both._replace(colour=red))
    wrong = simpler.colour[:, 0] != (simpler.vertices[simpler.faces].mean(1)[:, 2] > 0).float()
    assert wrong.float().mean() < 0.02


def triangle(points) -> bytes:
    return np.array(points, np.float32).tobytes()


def thing(binary: bytes = TRIANGLE, name: str = "thing", buffers: tuple[dict, ...] = ({},), **node) -> bytes:
    """A GLB of one triangle with this name."""
    return glb(tree([{"name": name, "mesh": 0, **node}], buffers=list(buffers)), binary)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"not at all", "not a GLB file"),
        (thing(name="other"), "no node named 'thing'"),
        (glb(tree([{"name": "thing"}])), "no node named 'thing'"),
        (thing(triangle(np.zeros((3, 3)))), "no face with an area"),
        (thing(triangle([[0, 0, 0], [1, 1, 1], [2, 2, 2]])), "no face with an area"),
        (thing(triangle([[0, 0, 0], [1, 0, 0], [0, np.nan, 0]])), "not finite"),
        (thing(triangle([[0, 0, 0], [1, 0, 0], [0, 1e9, 0]])), "reaches beyond"),
        (thing(scale=[0, 0, 0]), "no face with an area"),
        (thing(buffers=({"uri": "a.bin"},)), "outside the file"),
    ],
)
def test_bad_meshes_are_refused_by_name(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "scene.glb"
    path.write_bytes(data)
    with pytest.raises(RequestError, match=says) as caught:
        read_user_meshes(path, [slot("start")])
    assert str(path) in caught.value.where and caught.value.remedy


def test_a_missing_file_and_too_many_faces_are_refused(tmp_path, monkeypatch) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_user_meshes(tmp_path / "nothing.glb", [slot("start")])
    monkeypatch.setattr(user_mesh, "MAX_FACES", 11)
    with pytest.raises(RequestError, match="has 12 faces, more than 11"):
        read_user_meshes(write_glb(tmp_path / "a.glb", {"thing": create.box()}), [slot("start")])


def test_an_empty_primitive_is_an_empty_mesh(tmp_path) -> None:
    content = json.loads(json.dumps(tree([{"name": "thing", "mesh": 0}])))
    content["accessors"][0]["count"] = 0
    (tmp_path / "a.glb").write_bytes(glb(content))
    with pytest.raises(RequestError, match="has no faces"):
        read_user_meshes(tmp_path / "a.glb", [slot("context")])
