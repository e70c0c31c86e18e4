"""The regularisers know a smooth, honest field from a torn one."""

import math

import pytest
import torch
from torch import Tensor

from backend.scene import regularize
from backend.scene.initial import box, ellipsoid
from backend.scene.volume import Resolution

UNIT = torch.ones(3)


def corner_points(resolution: Resolution) -> Tensor:
    axes = [torch.linspace(-0.5, 0.5, n + 1) for n in resolution]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def sphere_field(resolution: Resolution) -> tuple[Tensor, Tensor]:
    """Signed distance to a sphere of radius 0.3, and the grid's spacing."""
    field = corner_points(resolution).norm(dim=-1) - 0.3
    return field.view([n + 1 for n in resolution]), UNIT / torch.tensor(resolution)


def octahedron() -> tuple[Tensor, Tensor]:
    vertices = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    faces = [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]
    return vertices, torch.tensor(faces)


def check_gradient(loss, field: Tensor) -> None:
    torch.autograd.gradcheck(loss, (field.double().requires_grad_(),), eps=1e-5, atol=1e-5)


def test_laplacian_is_zero_for_a_linear_field_and_grows_with_noise() -> None:
    points = corner_points((8, 6, 4)).view(9, 7, 5, 3)
    cell = UNIT / torch.tensor([8, 6, 4])
    plane = points @ torch.tensor([0.3, -0.5, 0.8])
    assert regularize.laplacian_loss(plane, cell) < 1e-8
    noise = 0.01 * torch.randn(plane.shape, generator=torch.Generator().manual_seed(0))
    assert regularize.laplacian_loss(plane + noise, cell) > 1e-3


def test_laplacian_of_a_quadratic_is_its_second_derivative_times_the_cell() -> None:
    x = corner_points((8, 8, 8)).view(9, 9, 9, 3)[..., 0]
    value = regularize.laplacian_loss(0.5 * x.square(), UNIT / 8)
    assert value == pytest.approx((1 / 8) ** 2 / 3, rel=1e-4)  # one axis of three, change of slope 1 * cell


def test_eikonal_is_zero_for_a_distance_and_not_for_twice_it() -> None:
    field, cell = sphere_field((24, 20, 16))
    assert regularize.eikonal_loss(field, cell) < 1e-3
    assert regularize.eikonal_loss(2 * field, cell) == pytest.approx(1.0, abs=0.02)


def test_eikonal_gradient_is_finite_where_the_field_is_flat() -> None:
    field = torch.zeros(4, 4, 4, requires_grad=True)
    regularize.eikonal_loss(field, UNIT / 3).backward()
    assert field.grad is not None and field.grad.isfinite().all()


def test_field_losses_match_finite_differences() -> None:
    field, cell = sphere_field((4, 3, 5))
    field = field + 0.013  # no corner at exactly 0, where signs would flip under the difference
    check_gradient(lambda f: regularize.laplacian_loss(f, cell.double()), field)
    check_gradient(lambda f: regularize.eikonal_loss(f, cell.double()), field)
    check_gradient(regularize.sign_entropy_loss, field)


def test_sign_entropy_is_log_two_twice_at_a_surface_of_zeros_and_zero_without_a_surface() -> None:
    field, _ = sphere_field((8, 8, 8))
    assert regularize.sign_entropy_loss(1e-6 * field) == pytest.approx(2 * math.log(2), abs=1e-4)
    assert regularize.sign_entropy_loss(field.abs() + 1.0) == 0.0


def test_sign_entropy_descent_removes_a_floater() -> None:
    field = torch.full((9, 9, 9), 0.2)
    field[4, 4, 4] = -0.05
    field.requires_grad_()
    for _ in range(60):
        (gradient,) = torch.autograd.grad(regularize.sign_entropy_loss(field), field)
        field = (field - 0.1 * gradient).detach().requires_grad_()
        if (field > 0).all():
            return
    pytest.fail("the floater is still there")


def test_faces_of_a_closed_mesh_pair_up_along_every_edge() -> None:
    vertices, faces = octahedron()
    pairs = regularize.face_pairs(faces, len(vertices))
    assert pairs.shape == (2, 12)
    for one, other in pairs.T.tolist():
        assert len(set(faces[one].tolist()) & set(faces[other].tolist())) == 2


def test_normal_smoothness_is_the_mean_over_edges_of_one_minus_cos() -> None:
    vertices, faces = octahedron()
    expected = 1 - 1 / 3  # the octahedron's dihedral angle is acos(-1/3)
    assert regularize.normal_smoothness_loss(vertices, faces) == pytest.approx(expected, rel=1e-5)
    assert regularize.normal_smoothness_loss(0.01 * vertices, faces) == pytest.approx(expected, rel=1e-5)


def test_normal_smoothness_of_a_hinge_matches_finite_differences() -> None:
    """With one pair of faces its weight, which carries no gradient on purpose, cancels."""
    vertices = torch.tensor([[0.0, 0, 0], [0, 1, 0], [1, 0.3, 0.4], [-0.8, 0.5, 0.3]], dtype=torch.float64)
    faces = torch.tensor([[0, 2, 1], [0, 1, 3]])
    loss = regularize.normal_smoothness_loss
    assert 0.05 < loss(vertices, faces) < 1.0
    torch.autograd.gradcheck(lambda v: loss(v, faces), (vertices.requires_grad_(),))


def test_slivers_and_empty_surfaces_give_finite_gradients() -> None:
    vertices, faces = octahedron()
    flat = torch.cat([faces, torch.tensor([[0, 0, 2], [2, 0, 0]])])
    vertices.requires_grad_()
    loss = regularize.normal_smoothness_loss(vertices, flat)
    loss = loss + regularize.normal_smoothness_loss(vertices[:0], faces[:0])
    loss.backward()
    assert loss.isfinite() and vertices.grad is not None and vertices.grad.isfinite().all()


def test_weights_loss_leaves_gamma_alone() -> None:
    weights = torch.zeros(5, 21)
    weights[:, 20] = 3.0
    assert regularize.weights_loss(weights) == 0.0
    weights[:, 0] = -1.0
    assert regularize.weights_loss(weights) == pytest.approx(1 / 20)


def test_ellipsoid_distance_is_that_of_the_nearest_point_on_it() -> None:
    radii = torch.tensor([0.41, 0.2, 0.07])
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(300, 3, generator=generator) - 0.5
    points[:3] = torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.0, 0.0], [0.0, 0.3, 0.0]])
    theta, phi = torch.meshgrid(torch.linspace(0, math.pi, 200), torch.linspace(0, 2 * math.pi, 400), indexing="ij")
    sphere = torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], -1).reshape(-1, 3)
    nearest = torch.cdist(points, sphere * radii).amin(1)
    distance = ellipsoid(points, radii)
    assert (distance.abs() - nearest).abs().max() < 3e-3
    assert ((distance < 0) == ((points / radii).norm(dim=-1) < 1)).all()


def test_box_distance_is_exact_inside_at_a_face_and_at_a_corner() -> None:
    half = torch.tensor([0.4, 0.3, 0.2])
    points = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.7, 0.7, 0.2]])
    assert torch.allclose(box(points, half), torch.tensor([-0.2, 0.1, 0.5]), atol=1e-6)
