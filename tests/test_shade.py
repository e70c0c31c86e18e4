"""Pictures and their gradients: against rays cast in float64, supersampled coverage, and finite differences."""

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.render.rasterize import NOTHING
from backend.render.shade import Frames, render, to_linear, to_srgb
from backend.scene.mesh import Mesh, merge, vertex_normals
from tests.render_reference import (
    PALETTE,
    around,
    ball,
    box,
    by_slot,
    cast_rays,
    convex_coverage,
    daylight,
    moved,
    patterned,
    single,
    soup,
)

SIZE = 48
RADIUS = 0.8  # of the sphere that fits the picture
PIXEL = 2 * RADIUS / SIZE  # metres, about, at the target


def frames(mesh: Mesh, azimuths=(20.0, 140.0, 260.0), colour=by_slot, size: int = SIZE) -> Frames:
    return render(mesh, colour, around(list(azimuths), radius=RADIUS), daylight(len(azimuths)), size, size)


def shaded(mesh: Mesh, picture, light) -> np.ndarray:
    """What the reference's hits look like, written out in numpy: (H, W, 3) sRGB, undefined on the background."""
    corners = mesh.faces.numpy()[picture.triangle]  # (H, W, 3)
    normals = vertex_normals(mesh.vertices, mesh.faces).numpy()
    normal = (picture.weights[..., None] * normals[corners]).sum(-2)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    slot = mesh.face_slot.numpy()[picture.triangle]
    local = (picture.weights[..., None] * mesh.local.numpy()[corners]).sum(-2)
    albedo = PALETTE.numpy()[slot] * (0.6 + 0.4 * np.sin(4 * local))
    linear = np.where(albedo <= 0.04045, albedo / 12.92, ((albedo + 0.055) / 1.055) ** 2.4)
    cosine = np.clip(normal @ light.direction[0].numpy(), 0, None)[..., None]
    ambient = float(light.ambient[0])
    linear = linear * (ambient + (1 - ambient) * cosine)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_colour_depth_normal_and_slot_are_those_of_the_rays():
    mesh = merge([ball(2, at=(-0.2, 0, 0), slot=3), box((0.5, 0.5, 0.5), at=(0.3, 0.1, 0.2), slot=11)])
    camera, light = around([35.0], radius=RADIUS), daylight(1)
    picture = cast_rays(mesh, camera, SIZE, SIZE)
    got = render(single(mesh), patterned, single(camera), single(light), SIZE, SIZE)
    inner = picture.clear & (picture.triangle >= 0)
    outer = picture.clear & (picture.triangle < 0)
    for rows, columns in (
        (0, 1),
        (0, -1),
        (1, 0),
        (-1, 0),
    ):  # pixels whose four neighbours see the same slot: unblended
        inner &= np.roll(got.slot[0].numpy(), (rows, columns), (0, 1)) == got.slot[0].numpy()
    assert inner.mean() > 0.2
    assert (got.slot[0].numpy()[inner] == mesh.face_slot.numpy()[picture.triangle[inner]]).all()
    assert (got.slot[0].numpy()[outer] == NOTHING).all()
    np.testing.assert_allclose(got.depth[0].numpy()[inner], picture.depth[inner], rtol=1e-5)
    assert (got.depth[0].numpy()[outer] == 0).all()
    expected = shaded(mesh, picture, light)
    np.testing.assert_allclose(got.rgb[0].numpy()[inner], expected[inner], atol=2e-3)
    lengths = got.normal[0].norm(dim=-1).numpy()
    np.testing.assert_allclose(lengths[inner], 1.0, atol=1e-5)
    assert (lengths[outer] == 0).all()


@pytest.mark.parametrize("mesh", [box(), ball(2), ball(4)], ids=["box", "coarse ball", "fine ball"])
def test_alpha_is_the_covered_share_of_each_pixel(mesh):
    got = frames(mesh, azimuths=(25.0,)).alpha[0, ..., 0].numpy()
    exact = convex_coverage(mesh, around([25.0], radius=RADIUS), SIZE, 6)
    edge = (exact > 0) & (exact < 1)
    assert edge.sum() > 50
    error = np.abs(got - exact)
    assert error[~edge].max() < 0.15
    assert error[edge].mean() < 0.06 and error.max() < 0.35
    assert got.sum() == pytest.approx(exact.sum(), rel=0.005)


def test_values_stay_in_range_whatever_the_triangles():
    for size in (0.01, 0.05, 0.3):
        cameras, light = around([20.0, 140.0, 260.0], radius=RADIUS), daylight(3)
        got = render(single(soup(400, size, seed=3)), by_slot, single(cameras), single(light), SIZE, SIZE)
        assert float(got.rgb.min()) >= 0 and float(got.rgb.max()) <= 1
        assert float(got.alpha.min()) >= 0 and float(got.alpha.max()) <= 1


def test_one_to_sixteen_slots_keep_their_index_and_colour():
    for count in (1, 16):
        balls = [ball(1, 0.12, at=(0.35 * (i % 4) - 0.5, 0.0, 0.35 * (i // 4) - 0.5), slot=i) for i in range(count)]
        camera, light = around([0.0], 0.0, RADIUS), daylight(1, ambient=1.0)
        got = render(merge(balls), by_slot, camera, light, SIZE, SIZE)
        assert set(got.slot.unique().tolist()) == {NOTHING, *range(count)}
        for i in range(count):
            solid = (got.slot[0] == i) & (got.alpha[0, ..., 0] == 1)
            rgb = got.rgb[0][solid]
            torch.testing.assert_close(rgb, PALETTE[i].expand_as(rgb), atol=1e-6, rtol=0)


def test_each_view_has_its_own_background():
    backgrounds = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    light = daylight(3)._replace(background=backgrounds)
    got = render(ball(2), by_slot, around([0.0, 120.0, 240.0], radius=RADIUS), light, SIZE, SIZE)
    torch.testing.assert_close(got.rgb[:, 0, 0], backgrounds)


def test_an_empty_mesh_gives_the_background():
    points = torch.zeros(0, 3, dtype=torch.float64)
    none = Mesh(points, torch.zeros(0, 3).long(), torch.zeros(0).long(), points)
    lonely = none._replace(vertices=torch.rand(4, 3).double(), local=torch.rand(4, 3).double())
    for mesh in (none, lonely):
        got = frames(mesh)
        assert (
            (got.rgb == 0.9).all() and (got.alpha == 0).all() and (got.slot == NOTHING).all() and (got.depth == 0).all()
        )


def test_the_inside_of_an_open_box_is_lit_towards_the_camera():
    lid = box()
    opened = lid._replace(
        faces=lid.faces[(vertex_heights(lid) < 0.39)], face_slot=lid.face_slot[(vertex_heights(lid) < 0.39)]
    )
    camera = around([0.0], 80.0, RADIUS)
    got = render(opened, by_slot, camera, daylight(1), SIZE, SIZE)
    assert got.slot[0, SIZE // 2, SIZE // 2] == 0
    to_camera = camera.position[0] / camera.position[0].norm()
    assert float(got.normal[0, SIZE // 2, SIZE // 2] @ to_camera) > 0.5


def vertex_heights(mesh: Mesh) -> Tensor:
    """The lowest corner of each face: (F,)."""
    return mesh.vertices[mesh.faces][..., 2].amin(1)


def test_srgb_and_linear_light_are_inverse():
    values = torch.linspace(0, 1, 101)
    torch.testing.assert_close(to_srgb(to_linear(values)), values, atol=1e-6, rtol=0)


# Gradients


def matching_loss(mesh: Mesh, target: Tensor) -> Tensor:
    """How far the picture is from another one: smooth in the mesh up to the size of a pixel."""
    return (frames(mesh).rgb - target).square().sum()


def directional(loss, parameter: Tensor, direction: Tensor, step: float) -> tuple[float, float]:
    """The derivative of `loss` along `direction`, by autograd and by a central difference of `step`."""
    leaf = parameter.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    with torch.no_grad():
        difference = (loss(parameter + step * direction) - loss(parameter - step * direction)) / (2 * step)
    return float((gradient * direction).sum()), float(difference)


@pytest.mark.parametrize("step_px", [0.2, 0.5])
@pytest.mark.parametrize("mesh", [box(), ball(4)], ids=["box", "fine ball"])
def test_gradient_of_placement_is_the_finite_difference(mesh, step_px):
    target = frames(moved(mesh, torch.tensor([0.08, -0.06, 0.05]))).rgb
    place = torch.tensor([0.013, 0.007, -0.009], dtype=torch.float64)
    for direction in torch.eye(3, dtype=torch.float64):
        exact, difference = directional(
            lambda p: matching_loss(moved(mesh, p), target), place, direction, step_px * PIXEL
        )
        assert exact == pytest.approx(difference, rel=0.15)


def test_gradient_of_an_occluding_silhouette_is_the_finite_difference():
    behind = box((1.2, 0.1, 1.2), at=(0.0, 0.5, 0.0), slot=2)
    light, camera = daylight(1, ambient=1.0), around([10.0], 10.0, RADIUS)

    def loss(place: Tensor) -> Tensor:
        got = render(merge([moved(ball(3, 0.3, slot=1), place), behind]), by_slot, camera, light, SIZE, SIZE)
        return (got.rgb[..., 0] * torch.linspace(0, 1, SIZE, dtype=torch.float64)).sum()

    for direction in (torch.tensor([1.0, 0, 0]).double(), torch.tensor([0, 1.0, 0]).double()):
        exact, difference = directional(loss, torch.zeros(3, dtype=torch.float64), direction, 0.3 * PIXEL)
        assert exact == pytest.approx(difference, rel=0.15)


def test_gradient_of_a_body_that_stands_on_the_floor_reaches_its_outline():
    floor = box((3.0, 3.0, 0.1), at=(0.0, 0.0, -0.45), slot=2)
    light, camera = daylight(1, ambient=1.0), around([30.0], 25.0, RADIUS)

    def loss(place: Tensor) -> Tensor:
        got = render(merge([moved(box(slot=1), place), floor]), by_slot, camera, light, SIZE, SIZE)
        return (got.rgb[..., 0] * torch.linspace(0, 1, SIZE, dtype=torch.float64)[:, None]).sum()

    for direction in (torch.tensor([1.0, 0, 0]).double(), torch.tensor([0, 1.0, 0]).double()):
        exact, difference = directional(loss, torch.zeros(3, dtype=torch.float64), direction, 0.3 * PIXEL)
        assert exact == pytest.approx(difference, rel=0.15)


def test_gradient_of_size_is_the_length_of_the_outline():
    # Growth by a small radius adds to the covered area the outline's length times it.
    ball_4 = ball(4)

    def area(scale: Tensor) -> Tensor:
        return frames(ball_4._replace(vertices=ball_4.vertices * scale)).alpha.sum()

    one = torch.ones((), dtype=torch.float64)
    gradient, difference = directional(area, one, one, 0.02)
    assert gradient == pytest.approx(difference, rel=0.05)
    # The area goes with the square of the scale, nearly: perspective adds a little.
    assert gradient == pytest.approx(2 * float(area(one)), rel=0.15)


@pytest.mark.parametrize("angle", [0.0, 20.0, 45.0, 70.0, 90.0])
def test_a_silhouette_that_moves_by_a_fraction_of_a_pixel_changes_the_picture_in_proportion(angle):
    # A half plane whose edge runs at `angle` through the picture, moved along its normal.
    turn = np.radians(angle)
    normal = torch.tensor([np.cos(turn), 0.0, np.sin(turn)])
    along = torch.tensor([-np.sin(turn), 0.0, np.cos(turn)])
    corners = torch.stack([5 * along, -5 * along, -5 * along - 5 * normal, 5 * along - 5 * normal])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    camera = around([0.0], 0.0, RADIUS)

    def area(offset: Tensor) -> Tensor:
        sheet = Mesh(corners + offset * normal, faces, torch.zeros(2).long(), corners)
        return render(sheet, by_slot, camera, daylight(1), SIZE, SIZE).alpha.sum()

    metre = SIZE / 2 * float(camera.camera_to_clip[0, 0, 0]) / float(camera.position[0].norm())  # in pixels
    length = SIZE / max(abs(np.cos(turn)), abs(np.sin(turn)))  # of the edge within the picture, in pixels
    offsets = torch.linspace(-0.9, 0.9, 7, dtype=torch.float64) / metre
    areas = torch.stack([area(o) for o in offsets])
    expected = SIZE**2 / 2 + offsets * metre * length
    assert (areas - expected).abs().max() < 0.06 * length
    gradients = []
    for o in offsets:
        leaf = o.clone().requires_grad_()
        gradients.append(float(torch.autograd.grad(area(leaf), leaf)[0]))
    assert np.mean(gradients) == pytest.approx(length * metre, rel=0.06)


def test_gradient_of_every_vertex_is_the_finite_difference():
    mesh = box()
    target = frames(moved(mesh, torch.tensor([0.08, -0.06, 0.05]))).rgb
    pairs = [
        directional(
            lambda v: matching_loss(mesh._replace(vertices=v), target),
            mesh.vertices,
            direction.view(8, 3),
            0.3 * PIXEL,
        )
        for direction in torch.eye(24, dtype=torch.float64)
    ]
    exact, difference = np.array(pairs).T
    assert np.linalg.norm(exact - difference) < 0.15 * np.linalg.norm(difference)


def test_gradient_inside_the_silhouette_is_exact():
    # A wall that fills the picture: no outline takes part, so a tiny step must agree to many digits.
    wall = ball(2, radius=3.0)
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(wall.vertices.shape, generator=generator, dtype=torch.float64)
    camera, light = around([0.0], radius=RADIUS), daylight(1)

    def loss(vertices: Tensor) -> Tensor:
        got = render(wall._replace(vertices=vertices), patterned, camera, light, 16, 16)
        assert (got.alpha == 1).all()
        return (got.rgb.square() + got.normal.sum(-1, keepdim=True)).sum() + got.depth.sum()

    exact, difference = directional(loss, wall.vertices, direction, 1e-7)
    assert exact == pytest.approx(difference, rel=1e-4)


def test_gradient_of_colour_and_background_is_the_finite_difference():
    mesh = merge([ball(3, slot=0), box((0.3, 0.3, 0.9), slot=1)])
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(1, SIZE, SIZE, 3, generator=generator, dtype=torch.float64)
    camera = around([15.0], radius=RADIUS)

    def loss(colours: Tensor) -> Tensor:
        light = daylight(1)._replace(background=colours[2:])
        return (weight * render(mesh, lambda _, slot: colours[slot], camera, light, SIZE, SIZE).rgb.square()).sum()

    colours = torch.tensor([[0.8, 0.1, 0.3], [0.2, 0.5, 0.02], [0.9, 0.4, 0.6]], dtype=torch.float64)
    for direction in torch.eye(9, dtype=torch.float64).view(9, 3, 3):
        exact, difference = directional(loss, colours, direction, 1e-5)
        assert exact == pytest.approx(difference, rel=1e-5)


def test_gradients_are_finite_for_slivers_flat_bodies_black_and_stray_vertices():
    flat = box((0.8, 0.8, 0.0), slot=1)
    slivers = soup(200, 0.1, seed=2)
    slivers = slivers._replace(vertices=slivers.vertices * torch.tensor([1.0, 1.0, 1e-7]))
    folded = merge([flat, slivers, soup(100, 2.0, seed=4), soup(100, 0.001, seed=5)])
    degenerate = torch.tensor([[0, 0, 1], [2, 2, 2], [0, 1, 1]])
    mesh = single(folded)._replace(
        faces=torch.cat([folded.faces, degenerate]),
        face_slot=torch.cat([folded.face_slot, torch.zeros(3, dtype=torch.int64)]),
    )
    stray = mesh._replace(
        vertices=torch.cat([mesh.vertices, torch.zeros(2, 3)]).requires_grad_(),
        local=torch.cat([mesh.local, torch.zeros(2, 3)]),
    )
    black = torch.zeros(16, 3, requires_grad=True)
    for elevation in (0.0, 30.0):
        camera, light = single(around([0.0, 45.0], elevation, 0.4)), single(daylight(2, ambient=0.0))
        got = render(stray, lambda _, slot: black[slot], camera, light, SIZE, SIZE)
        loss = got.rgb.square().sum() + got.alpha.sum() + got.normal.sum() + got.depth.sum()
        for gradient in torch.autograd.grad(loss, [stray.vertices, black]):
            assert gradient.isfinite().all()


def test_the_same_scene_gives_the_same_picture_and_gradient():
    mesh = merge([ball(3), box()])
    results = []
    for _ in range(2):
        vertices = mesh.vertices.clone().requires_grad_()
        got = frames(mesh._replace(vertices=vertices), colour=patterned)
        results.append((got.rgb.detach(), torch.autograd.grad(got.rgb.square().sum(), vertices)[0]))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])
