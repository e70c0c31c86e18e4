"""Shapes, colours and placements of a scene: geometry, gradients, locks, checkpoints, refining, recovery."""

import copy
from typing import Any

import pytest
import torch
import trimesh
from torch import Tensor

from backend.render.cameras import fit_distance, orbit
from backend.render.lighting import studio_lighting
from backend.render.shade import render
from backend.scene.mesh import Mesh
from backend.scene.placement import Placement, euler_rotation, turn_rotation
from backend.scene.shape import enclosed_volume
from backend.scene.slots import Scene
from backend.schema import Slot

CPU = torch.device("cpu")
ORIGIN = torch.zeros(3)


def slot(**changes: Any) -> Slot:
    return Slot(**{"name": "thing", "prompt": "a thing"} | changes)


def make(*slots: Slot, resolution: int = 12) -> Scene:
    return Scene(slots or (slot(),), resolution, CPU, torch.Generator().manual_seed(0))


def disturb(scene: Scene, seed: int = 1) -> Scene:
    """The scene with every parameter moved a little, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for model in scene.slots:
            shape = model.shape
            shape.sdf += 0.02 * torch.randn(shape.sdf.shape, generator=generator)
            shape.deformation += 0.5 * torch.randn(shape.deformation.shape, generator=generator)
            shape.weights += 0.3 * torch.randn(shape.weights.shape, generator=generator)
            for parameter in [*model.appearance.parameters(), *model.placement.parameters()]:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return scene


def solid(vertices: Tensor, faces: Tensor) -> trimesh.Trimesh:
    return trimesh.Trimesh(vertices.detach().numpy(), faces.numpy(), process=False)


def picture(mesh: Mesh, scene: Scene, px: int = 48, views: int = 2) -> Tensor:
    """(B, H, W, 4): colour and coverage, from above the equator all round."""
    ones = torch.ones(views)
    azimuth = 30.0 + torch.arange(views) * (360.0 / views)
    cameras = orbit(azimuth, 25.0 * ones, fit_distance(40 * ones, 0.75), 40 * ones, ORIGIN)
    frames = render(mesh, scene.colour, cameras, studio_lighting(cameras, ORIGIN), px, px)
    return torch.cat([frames.rgb, frames.alpha], dim=-1)


# Placement


def test_to_world_puts_the_box_where_the_slot_says() -> None:
    scene = make(slot(centre=(1.0, 2.0, 3.0), size=(2.0, 1.0, 0.5), rotation_deg=(0.0, 0.0, 90.0)))
    corner = scene.to_world(0) @ torch.tensor([0.5, 0.5, 0.5, 1.0])
    assert torch.allclose(corner, torch.tensor([1.0 - 0.5, 2.0 + 1.0, 3.25, 1.0]), atol=1e-6)


def test_euler_angles_turn_about_x_then_y_then_z() -> None:
    turned = euler_rotation(torch.tensor([90.0, 0.0, 90.0])) @ torch.tensor([0.0, 1.0, 0.0])
    assert torch.allclose(turned, torch.tensor([0.0, 0.0, 1.0]), atol=1e-6)  # Y to Z about X; Z stays about Z
    turned = euler_rotation(torch.tensor([0.0, 90.0, 90.0])) @ torch.tensor([0.0, 0.0, 1.0])
    assert torch.allclose(turned, torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)  # Z to X about Y, X to Y about Z


def test_turn_rotation_is_the_matrix_exponential() -> None:
    for turn in ([0.0, 0.0, 0.0], [1e-4, 0.0, -2e-4], [0.7, -1.1, 0.4], [0.0, 3.1, 0.0]):
        x, y, z = turn
        cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
        expected = torch.linalg.matrix_exp(cross)
        assert torch.allclose(turn_rotation(torch.tensor(turn, dtype=torch.float64)), expected, atol=1e-12)


@pytest.mark.parametrize("turn", [(0.0, 0.0, 0.0), (0.4, -0.3, 0.9)])
def test_to_world_gradients_match_finite_differences(turn: tuple[float, float, float]) -> None:
    placement = Placement(slot(size=(1.0, 0.5, 2.0), rotation_deg=(10.0, 20.0, 30.0)), CPU).double()

    def to_world(translation: Tensor, turn: Tensor, log_scale: Tensor) -> Tensor:
        values = {"translation": translation, "turn": turn, "log_scale": log_scale}
        return torch.func.functional_call(_ToWorld(placement), {f"of.{k}": v for k, v in values.items()}, ())

    start = [torch.tensor([0.1, 0.2, 0.3]), torch.tensor(turn), torch.tensor(0.2)]
    torch.autograd.gradcheck(to_world, [v.double().requires_grad_() for v in start])


class _ToWorld(torch.nn.Module):
    """The matrix as a module's output, so that functional_call can be asked for it."""

    def __init__(self, placement: Placement) -> None:
        super().__init__()
        self.of = placement

    def forward(self) -> Tensor:
        return self.of.to_world()


def test_place_and_to_local_follow_the_matrix() -> None:
    scene = disturb(make(slot(size=(1.0, 0.5, 2.0), rotation_deg=(10.0, 20.0, 30.0))))
    local = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    world = (scene.to_world(0) @ torch.cat([local, torch.ones(20, 1)], 1).T).T[:, :3]
    assert torch.allclose(scene.slots[0].placement.place(local), world, atol=1e-6)
    assert torch.allclose(scene.slots[0].placement.to_local(world), local, atol=1e-6)


def test_the_learnt_turn_is_about_the_axes_of_the_world() -> None:
    placement = Placement(slot(rotation_deg=(90.0, 0.0, 0.0)), CPU)  # the box's Y is the world's Z
    with torch.no_grad():
        placement.turn.copy_(torch.tensor([0.0, 0.0, torch.pi / 2]))
    assert torch.allclose(placement.rotation()[:, 1], torch.tensor([0.0, 0.0, 1.0]), atol=1e-6)
    assert torch.allclose(placement.rotation()[:, 0], torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)


@pytest.mark.parametrize(
    ("lock", "parameter"), [("lock_position", "translation"), ("lock_rotation", "turn"), ("lock_size", "log_scale")]
)
def test_a_locked_part_never_changes_and_the_others_do(lock: str, parameter: str) -> None:
    scene = make(slot(**{lock: True}))
    optimiser = torch.optim.AdamW(scene.parameter_groups(1e-2, 1e-2, 1e-2), weight_decay=0.1)
    vertices = scene.scene_mesh(scene.surfaces(True)).vertices
    (vertices * torch.tensor([1.0, 2.0, -3.0])).sin().sum().backward()
    optimiser.step()
    for name, value in scene.slots[0].placement.named_parameters():
        assert (value == 0).all() == (name == parameter), name


def test_groups_without_free_parameters_are_left_out() -> None:
    scene = make(slot(lock_position=True, lock_rotation=True, lock_size=True))
    assert [group["name"] for group in scene.parameter_groups(1e-2, 2e-2, 3e-2)] == ["geometry", "colour"]
    groups = make().parameter_groups(1e-2, 2e-2, 3e-2)
    assert [(group["name"], group["lr"]) for group in groups] == [
        ("geometry", 1e-2),
        ("colour", 2e-2),
        ("placement", 3e-2),
    ]


# Shape


@pytest.mark.parametrize("size", [(1.0, 1.0, 1.0), (2.0, 1.0, 0.1), (0.3, 0.3, 3.0)])
@pytest.mark.parametrize("training", [True, False])
def test_the_first_surface_is_a_closed_body_clear_of_the_box(size: tuple[float, float, float], training: bool) -> None:
    scene = make(slot(size=size), resolution=16)
    (surface,) = scene.surfaces(training)
    mesh = solid(surface.vertices, surface.faces)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.body_count == 1
    assert surface.vertices.abs().max() < 0.45
    assert surface.vertices.abs().amax(0).min() > 0.35
    assert enclosed_volume(surface) == pytest.approx(torch.pi / 6 * 0.82**3, rel=0.12)


def test_resolution_follows_the_box_but_never_falls_below_eight() -> None:
    shape = make(slot(size=(2.0, 1.0, 0.1)), resolution=32).slots[0].shape
    assert shape.resolution == (32, 16, 8)
    assert torch.allclose(shape.cell, torch.tensor([1 / 32, 1 / 32, 0.05 / 8]))


def test_a_body_that_fills_its_box_is_still_closed() -> None:
    scene = make(slot(size=(1.0, 0.7, 0.5)))
    with torch.no_grad():
        scene.slots[0].shape.sdf.fill_(-0.3)
        scene.slots[0].shape.deformation.fill_(9.0)
    (surface,) = scene.surfaces(True)
    assert solid(surface.vertices, surface.faces).is_watertight
    assert surface.vertices.abs().max() <= 0.5
    assert enclosed_volume(surface) > 0.8


def test_a_disturbed_surface_is_still_closed() -> None:
    (surface,) = disturb(make()).surfaces(True)
    assert solid(surface.vertices, surface.faces).is_watertight


def test_signed_distance_is_in_metres_and_follows_the_placement() -> None:
    scene = make(slot(centre=(5.0, 0.0, 0.0), size=(2.0, 2.0, 2.0)), resolution=24)
    placement = scene.slots[0].placement
    with torch.no_grad():
        placement.translation.copy_(torch.tensor([0.0, 1.0, 0.0]))
        placement.log_scale.fill_(0.5)
        placement.turn.copy_(torch.tensor([0.3, 0.2, 0.1]))
    scale = float(placement.extent()[0].detach()) / 2.0
    radius = 0.82 * scale
    away = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    for share in (0.3, 0.8, 1.0, 1.15):
        points = torch.tensor([5.0, 1.0, 0.0]) + share * radius * away
        expected = (share - 1.0) * radius
        assert (scene.sdf_at(0, points) - expected).abs().max() < 0.02 * scale


def test_an_object_keeps_to_the_size_of_its_box() -> None:
    """A relation's reward would rather shrink one object and blow up the other than move them."""
    placement = make(slot(size=(2.0, 1.0, 1.0))).slots[0].placement
    for log_scale, factor in ((0.0, 1.0), (0.05, 1.05), (9.0, 1.25), (-9.0, 0.8)):
        with torch.no_grad():
            placement.log_scale.fill_(log_scale)
        assert placement.extent().tolist() == pytest.approx([2.0 * factor, factor, factor], rel=2e-3)


def test_signed_distance_grows_by_the_distance_to_the_box_outside() -> None:
    scene = make(slot(size=(1.0, 0.5, 0.5), centre=(0.0, 0.0, 0.0)))
    at_face = scene.sdf_at(0, torch.tensor([[0.5, 0.1, 0.0]]))
    beyond = scene.sdf_at(0, torch.tensor([[2.5, 0.1, 0.0]]))
    assert at_face > 0
    assert float((beyond - at_face).detach()) == pytest.approx(2.0, abs=1e-5)


def test_signed_distance_is_zero_on_a_surface_with_moved_corners() -> None:
    scene = make(slot(size=(1.0, 0.6, 1.0)), resolution=24)
    shape = scene.slots[0].shape
    with torch.no_grad():
        shape.deformation += torch.randn(shape.deformation.shape, generator=torch.Generator().manual_seed(0))
    (surface,) = scene.surfaces(False)
    world = scene.slots[0].placement.place(surface.vertices)
    assert scene.sdf_at(0, world).abs().mean() < 0.075 / 24


def test_an_object_learns_to_turn_round_but_not_to_lean() -> None:
    scene = disturb(make(slot(size=(1.0, 0.6, 0.8))))
    placement = scene.slots[0].placement
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(3)) + placement.position().detach()
    scene.sdf_at(0, points).sum().backward()
    assert placement.turn.grad is not None
    assert placement.turn.grad[:2].tolist() == [0.0, 0.0]
    assert placement.turn.grad[2] != 0.0


def test_signed_distance_gradients_match_finite_differences() -> None:
    scene = disturb(make(slot(size=(1.0, 0.6, 0.8), rotation_deg=(0.0, 30.0, 0.0)))).double()
    generator = torch.Generator().manual_seed(3)
    points = (2.0 * torch.rand(8, 3, generator=generator) - 1.0).double() + scene.slots[0].placement.position().detach()
    model = scene.slots[0]

    def total() -> Tensor:
        return scene.sdf_at(0, points).sum()

    wanted = [points.requires_grad_(), *model.placement.parameters(), model.shape.sdf]
    gradients = torch.autograd.grad(total(), wanted)
    step = 1e-6
    for value, gradient in zip(wanted, gradients, strict=True):
        direction = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        if value is model.placement.turn:
            direction[:2] = 0.0  # leaning is not learnt: see the next test
        with torch.no_grad():
            value += step * direction
            higher = total()
            value -= 2 * step * direction
            lower = total()
            value += step * direction
        assert (gradient * direction).sum() == pytest.approx(float((higher - lower) / (2 * step)), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("size", [(1.0, 1.0, 1.0), (1.0, 0.5, 0.3)])
def test_refining_keeps_the_surface_within_half_a_cell_and_colour_and_placement_exactly(
    size: tuple[float, float, float],
) -> None:
    scene = make(slot(size=size), resolution=16)
    with torch.no_grad():
        for parameter in scene.slots[0].placement.parameters():
            parameter += 0.1
        shape = scene.slots[0].shape
        shape.deformation += 0.5 * torch.randn(shape.deformation.shape, generator=torch.Generator().manual_seed(0))
        (before,) = scene.surfaces(False)
    at = torch.rand(30, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    colour, place = scene.colour(at, torch.zeros(30, dtype=torch.int64)), scene.to_world(0)
    cells = torch.tensor(shape.resolution)
    scene.refine(28)
    (after,) = scene.surfaces(False)
    assert max(shape.resolution) == 28
    assert hausdorff(before.vertices * cells, before.faces, after.vertices * cells, after.faces) < 0.5
    assert torch.equal(scene.colour(at, torch.zeros(30, dtype=torch.int64)), colour)
    assert torch.equal(scene.to_world(0), place)


def test_refining_carries_moves_weights_and_the_last_good_state_over() -> None:
    shape = make(slot(size=(1.0, 0.75, 1.0))).slots[0].shape
    nx, ny, nz = shape.resolution
    x, y, z = torch.meshgrid(*(torch.arange(n) + 0.5 for n in shape.resolution), indexing="ij")
    with torch.no_grad():
        shape.deformation.fill_(0.3)
        ramp = (1.0 * x / nx + 2.0 * y / ny + 3.0 * z / nz).reshape(-1, 1)
        shape.weights.copy_(ramp + torch.arange(21))
        move = shape.offsets()[~shape.rim][0]
        shape.last_good.copy_(2.0 * shape.sdf)
    shape.refine(20)
    nx, ny, nz = shape.resolution
    x, y, z = torch.meshgrid(*(torch.arange(n) + 0.5 for n in shape.resolution), indexing="ij")
    deep = (shape.grid.vertices.abs() < 0.3).all(-1)
    assert torch.allclose(shape.offsets()[deep], move, atol=1e-6)
    expected = (1.0 * x / nx + 2.0 * y / ny + 3.0 * z / nz)[..., None] + torch.arange(21)
    weights = shape.weights.detach().view(nx, ny, nz, 21)
    assert torch.allclose(weights[3:-3, 3:-3, 3:-3], expected[3:-3, 3:-3, 3:-3], atol=1e-4)
    assert torch.allclose(shape.last_good[deep], 2.0 * shape.sdf[deep], atol=1e-5)


def hausdorff(one: Tensor, one_faces: Tensor, other: Tensor, other_faces: Tensor) -> float:
    """Largest distance from a vertex of one surface to points all over the other, both ways."""
    shares = torch.tensor([[i, j, 8 - i - j] for i in range(9) for j in range(9 - i)]) / 8.0
    first, second = ((shares @ v.detach()[f]).reshape(-1, 3) for v, f in ((one, one_faces), (other, other_faces)))
    there = torch.cdist(one.detach(), second).amin(1).max()
    back = torch.cdist(other.detach(), first).amin(1).max()
    return float(torch.maximum(there, back))


# Scene


def test_scene_mesh_is_every_slot_in_its_place_and_slot_mesh_the_canonical_one() -> None:
    scene = make(slot(name="a", centre=(3.0, 0.0, 0.0), size=(2.0, 1.0, 4.0)), slot(name="b"), resolution=24)
    surfaces = scene.surfaces(True)
    mesh = scene.scene_mesh(surfaces)
    first = mesh.vertices[: len(surfaces[0].vertices)]
    assert torch.allclose(first.amax(0), torch.tensor([3.0 + 0.82, 0.41, 1.64]), atol=0.08)  # half a cell
    assert torch.equal(mesh.face_slot.unique(return_counts=True)[1], torch.tensor([len(s.faces) for s in surfaces]))
    alone = scene.slot_mesh(0, surfaces[0])
    assert torch.allclose(alone.vertices.amax(0), torch.tensor([0.205, 0.1025, 0.41]), atol=0.02)
    assert (alone.face_slot == 0).all() and torch.equal(alone.local, surfaces[0].vertices)


def test_each_slot_has_its_own_colour() -> None:
    scene = make(slot(name="a"), slot(name="b"), slot(name="c"))
    for index, model in enumerate(scene.slots):
        with torch.no_grad():
            model.appearance.albedo.weight.zero_()
            model.appearance.albedo.bias.copy_(20.0 * torch.eye(3)[index] - 10.0)
    which = torch.tensor([2, 0, 1, 1, 0])
    assert torch.allclose(scene.colour(torch.zeros(5, 3), which), torch.eye(3)[which], atol=1e-3)


def test_one_empty_surface_leaves_the_others_visible_and_the_gradient_whole() -> None:
    scene = make(slot(name="a", centre=(0.0, 0.0, 0.0)), slot(name="b", centre=(0.0, 0.0, 0.0)))
    with torch.no_grad():
        scene.slots[0].shape.sdf.fill_(0.5)
    image = picture(scene.scene_mesh(scene.surfaces(True)), scene, px=24)
    image.square().sum().backward()
    assert image[..., 3].sum() > 0
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in scene.parameters())


def test_a_picture_gives_gradient_to_everything_that_is_free() -> None:
    scene = make(slot(centre=(0.0, 0.0, 0.0), size=(1.0, 0.8, 0.6)), resolution=16)
    image = picture(scene.scene_mesh(scene.surfaces(True)), scene)
    generator = torch.Generator().manual_seed(0)
    (image * torch.rand(image.shape, generator=generator)).sum().backward()
    model = scene.slots[0]
    shape, placement = model.shape, model.placement
    reached = [shape.sdf, shape.deformation, shape.weights, placement.translation, placement.turn, placement.log_scale]
    for parameter in [*reached, *model.appearance.levels]:
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0


# Checkpoints


def test_state_dict_round_trips_exactly_onto_another_resolution() -> None:
    slots = (slot(name="a", size=(1.0, 0.5, 0.5)), slot(name="b", lock_size=True))
    scene = disturb(make(*slots))
    scene.refine(20)
    state = {name: value.clone() for name, value in scene.state_dict().items()}
    assert all(isinstance(value, Tensor) for value in state.values())
    other = make(*slots)
    other.load_state_dict(state)
    assert other.slots[0].shape.resolution == scene.slots[0].shape.resolution
    for one, two in zip(scene.surfaces(True), other.surfaces(True), strict=True):
        assert torch.equal(one.vertices, two.vertices) and torch.equal(one.faces, two.faces)
    points = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(scene.sdf_at(1, points), other.sdf_at(1, points))
    assert torch.equal(
        scene.colour(points - 0.5, torch.arange(20) % 2), other.colour(points - 0.5, torch.arange(20) % 2)
    )
    for name, value in other.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert [p.requires_grad for p in other.parameters()] == [p.requires_grad for p in scene.parameters()]


# Recovery


def test_a_vanished_object_comes_back() -> None:
    scene = make()
    assert scene.recover(scene.surfaces(True)) == []
    with torch.no_grad():
        scene.slots[0].shape.sdf.fill_(0.4)
    surfaces = scene.surfaces(True)
    assert len(surfaces[0].faces) == 0 and scene.slots[0].vanished(surfaces[0])
    assert scene.recover(surfaces) == [0]
    (surface,) = scene.surfaces(True)
    assert not scene.slots[0].vanished(surface) and enclosed_volume(surface) > 0.1


def test_revival_goes_back_towards_the_last_healthy_shape() -> None:
    scene = make(resolution=16)
    shape = scene.slots[0].shape
    with torch.no_grad():  # a smaller body low in its box
        shape.sdf.copy_((shape.grid.vertices - torch.tensor([0.0, 0.0, -0.2])).norm(dim=-1) - 0.2)
    scene.recover(scene.surfaces(True))
    with torch.no_grad():
        shape.sdf.fill_(1.0)
    scene.recover(scene.surfaces(True))
    (surface,) = scene.surfaces(True)
    assert enclosed_volume(surface) < 0.2
    assert surface.vertices[:, 2].mean() < -0.05


def test_a_thin_rest_is_not_remembered() -> None:
    scene = make()
    shape = scene.slots[0].shape
    good = shape.last_good.clone()
    with torch.no_grad():
        shape.sdf.copy_(shape.sdf + 0.39)
    scene.recover(scene.surfaces(True))
    assert torch.equal(shape.last_good, good)


# All together


def test_a_cube_is_fitted_from_its_pictures() -> None:
    scene = make(slot(size=(1.0, 1.0, 1.0), centre=(0.0, 0.0, 0.0)), resolution=20)
    box = trimesh.creation.box((0.6, 0.6, 0.6))
    corners, faces = torch.tensor(box.vertices).float(), torch.tensor(box.faces)
    target_scene = copy.deepcopy(scene)
    with torch.no_grad():
        target_scene.slots[0].appearance.albedo.weight.zero_()
        target_scene.slots[0].appearance.albedo.bias.copy_(torch.tensor([2.0, -2.0, -2.0]))
        mesh = Mesh(corners, faces, torch.zeros(len(faces), dtype=torch.int64), corners)
        target = picture(mesh, target_scene, views=4)
    optimiser = torch.optim.Adam(scene.parameter_groups(1e-2, 2e-2, 0.0))
    errors = []
    for _ in range(60):
        optimiser.zero_grad()
        (surface,) = scene.surfaces(True)
        loss = (picture(scene.slot_mesh(0, surface), scene, views=4) - target).abs().mean()
        (loss + 0.05 * surface.l_dev).backward()
        optimiser.step()
        errors.append(loss.item())
    assert errors[-1] < errors[0] / 3
