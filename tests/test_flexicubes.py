from __future__ import annotations

import pytest
import torch

from backend.scene import flexicubes_tables as tables
from backend.scene.flexicubes import extract, make_grid
from tests.mesh_checks import (
    assert_closed_and_oriented,
    assert_one_fan_at_each_vertex,
    assert_same_mesh,
    volume,
)
from tests.slow_flexicubes import slow_flexicubes

RESOLUTIONS = [(4, 4, 4), (5, 3, 2), (1, 4, 2), (1, 1, 1)]


def random_field(resolution, seed, dtype=torch.float32):
    """A grid with noise for its field, deformation (under half a cube) and weights."""
    generator = torch.Generator().manual_seed(seed)
    grid = make_grid(resolution, "cpu")
    corners, cubes = grid.vertices.shape[0], grid.cubes.shape[0]
    sdf = torch.randn(corners, generator=generator, dtype=dtype)
    deformation = (torch.rand(corners, 3, generator=generator, dtype=dtype) - 0.5) * 0.9 / torch.tensor(resolution)
    weights = torch.randn(cubes, 21, generator=generator, dtype=dtype)
    return grid, sdf, deformation, weights


def with_boundary_outside(grid, sdf):
    """The field with the grid's outermost corners set to 1."""
    return torch.where((grid.vertices.abs() > 0.4999).any(1), 1.0, sdf)


def sphere(resolution, radius=0.35):
    """A grid with a sphere's distance field and neutral deformation and weights."""
    grid = make_grid(resolution, "cpu")
    sdf = grid.vertices.norm(dim=1) - radius
    return grid, sdf, torch.zeros_like(grid.vertices), torch.zeros(grid.cubes.shape[0], 21)


def test_every_patch_of_every_case_is_bounded_by_one_loop():
    for case in range(256):
        patch = tables.patches(case)
        lines = [line for face in range(6) for line in tables.face_lines(case, face)]
        for edge in range(12):
            assert sum(edge in line for line in lines) == (2 if tables.is_crossing(case, edge) else 0)
        for number in set(patch) - {-1}:
            members = {e for e in range(12) if patch[e] == number}
            reached, rest = {min(members)}, list(lines)
            while any(reached & set(line) for line in rest):
                reached |= {e for line in rest if reached & set(line) for e in line}
                rest = [line for line in rest if not set(line) <= reached]
            assert reached == members and len(members) >= 3


def test_two_cubes_draw_the_same_lines_in_their_common_face():
    for axis in range(3):
        lower, upper = tables.face_edges(2 * axis), tables.face_edges(2 * axis + 1)
        for case in range(256):
            upper_corners = [c for c in range(8) if c >> axis & 1 and case >> c & 1]
            neighbour = sum(1 << (c ^ 1 << axis) for c in upper_corners)
            ours = {frozenset(upper.index(e) for e in line) for line in tables.face_lines(case, 2 * axis + 1)}
            theirs = {frozenset(lower.index(e) for e in line) for line in tables.face_lines(neighbour, 2 * axis)}
            assert ours == theirs


def test_complement_of_each_of_the_36_twisted_cases_parts_the_twist_and_touches_no_other_face():
    twisted = [(case, tables.twisted_face(case)) for case in range(256) if tables.twisted_face(case) >= 0]
    assert len(twisted) == 36
    for case, face in twisted:
        assert [f for f in range(6) if len(tables.face_lines(case, f)) == 2] == [face]
        patch = tables.patches(255 - case)
        first, second = tables.face_lines(255 - case, face)
        assert patch[first[0]] != patch[second[0]]


def test_table_tensors_are_the_functions_values():
    t = tables.cube_tables("cpu")
    for case in range(256):
        patch = tables.patches(case)
        assert t.patch_of_edge[case].tolist() == [max(p, 0) for p in patch]
        assert t.crossing[case].tolist() == [p >= 0 for p in patch]
        assert t.patch_count[case] == max(patch) + 1
        assert t.twisted_face[case] == tables.twisted_face(case)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_mesh_and_l_dev_equal_a_slow_version_of_the_paper(resolution):
    nx, ny, nz = resolution
    for seed in range(6):
        grid, sdf, deformation, weights = random_field(resolution, seed, torch.float64)
        surface = extract(grid, sdf, deformation, weights)
        lattice = (nx + 1, ny + 1, nz + 1)
        positions = (grid.vertices + deformation).reshape(*lattice, 3).numpy()
        vertices, faces, l_dev = slow_flexicubes(
            resolution, sdf.reshape(lattice).numpy(), positions, weights.reshape(nx, ny, nz, 21).numpy()
        )
        assert_same_mesh(surface.vertices, surface.faces, torch.tensor(vertices), torch.tensor(faces), 1e-12)
        assert surface.l_dev.item() == pytest.approx(l_dev, abs=1e-12)


def test_one_corner_inside_gives_a_cube_of_half_a_cell():
    grid = make_grid((2, 2, 2), "cpu")
    sdf = torch.where(grid.vertices.norm(dim=1) == 0, -1.0, 1.0)
    surface = extract(grid, sdf, torch.zeros(27, 3), torch.zeros(8, 21), training=False)
    assert sorted(surface.vertices.mul(12).round().tolist()) == [
        [x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)
    ]
    assert volume(surface.vertices, surface.faces) == pytest.approx((1 / 6) ** 3)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("resolution", [(8, 8, 8), (7, 12, 5)])
def test_noise_with_its_boundary_outside_gives_a_closed_oriented_manifold(resolution, training):
    for seed in range(4):
        grid, sdf, deformation, weights = random_field(resolution, seed)
        faces = extract(grid, with_boundary_outside(grid, sdf), deformation, weights, training).faces
        assert_closed_and_oriented(faces)
        assert_one_fan_at_each_vertex(faces)


def test_two_cubes_twisted_at_their_common_face_stay_manifold():
    grid = make_grid((4, 3, 3), "cpu")
    sdf = with_boundary_outside(grid, -torch.ones(grid.vertices.shape[0])).reshape(5, 4, 4)
    sdf[2, 1, 1] = sdf[2, 2, 2] = 1  # two outside corners of one face, inside on both sides of it
    inside = sdf.reshape(-1)[grid.cubes] < 0
    cases = (inside * 2 ** torch.arange(8)).sum(1).reshape(4, 3, 3)
    assert tables.twisted_face(int(cases[1, 1, 1])) == 1 and tables.twisted_face(int(cases[2, 1, 1])) == 0
    surface = extract(grid, sdf.reshape(-1), torch.zeros_like(grid.vertices), torch.zeros(36, 21))
    assert_closed_and_oriented(surface.faces)
    assert_one_fan_at_each_vertex(surface.faces)


@pytest.mark.parametrize("seed", range(3))
def test_smooth_random_field_gives_a_closed_oriented_manifold(seed):
    grid, noise, deformation, weights = random_field((14, 10, 12), seed)
    coarse = noise[: 6 * 5 * 4].reshape(1, 1, 6, 5, 4)
    smooth = torch.nn.functional.interpolate(coarse, (15, 11, 13), mode="trilinear", align_corners=True)
    faces = extract(grid, with_boundary_outside(grid, smooth.reshape(-1)), deformation, weights).faces
    assert_closed_and_oriented(faces)
    assert_one_fan_at_each_vertex(faces)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_equal_finite_differences(training):
    grid, sdf, deformation, weights = random_field((3, 2, 2), 1, torch.float64)
    sdf = sdf + 0.2 * sdf.sign()  # crossings stay away from the ends of their edges
    features = torch.randn(grid.vertices.shape[0], 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    inputs = [x.requires_grad_() for x in (sdf, deformation, weights, features)]

    def outputs(sdf, deformation, weights, features):
        surface = extract(grid, sdf, deformation, weights, training, features)
        return surface.vertices, surface.l_dev, surface.features

    # Random directions in all inputs at once: the matrix of every single derivative takes half a minute.
    for _ in range(5):
        assert torch.autograd.gradcheck(outputs, inputs, eps=1e-6, atol=1e-6, fast_mode=True)
    vertices, _, _ = outputs(*inputs)
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(vertices.square().sum(), inputs[:3]))


def test_features_equal_to_positions_come_out_as_the_vertices():
    grid, sdf, deformation, weights = random_field((5, 4, 3), 0)
    for training in (True, False):
        surface = extract(grid, sdf, deformation, weights, training, features=grid.vertices + deformation)
        torch.testing.assert_close(surface.features, surface.vertices)


def test_sphere_is_oriented_outward_and_its_volume_converges():
    errors = []
    for n in (8, 16, 32):
        surface = extract(*sphere((n, n, n)))
        errors.append(abs(volume(surface.vertices, surface.faces) / (4 / 3 * torch.pi * 0.35**3) - 1))
    assert errors[2] < errors[1] / 3 < errors[0] / 9 < 0.02


def test_sphere_in_a_box_of_unequal_resolution_lies_on_the_sphere():
    surface = extract(*sphere((12, 20, 30)))
    assert_closed_and_oriented(surface.faces)
    assert (surface.vertices.norm(dim=1) - 0.35).abs().max() < 0.02
    assert volume(surface.vertices, surface.faces) == pytest.approx(4 / 3 * torch.pi * 0.35**3, rel=0.04)


def test_quad_is_cut_along_the_diagonal_with_the_larger_gamma_product():
    grid = make_grid((2, 2, 1), "cpu")
    sdf = torch.where(grid.vertices[:, 2] > 0, 1.0, -1.0)  # one quad of the four cubes, around the edge in the middle
    for favoured in ({0, 3}, {1, 2}):
        weights = torch.zeros(4, 21)
        weights[list(favoured), 20] = 2.0
        faces = extract(grid, sdf, torch.zeros_like(grid.vertices), weights, training=False).faces
        assert len(faces) == 2
        assert set(faces[0].tolist()) & set(faces[1].tolist()) == favoured


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("value", [1.0, 0.0, -1.0])
def test_empty_and_full_fields_give_an_empty_surface_with_zero_gradients(value, training):
    grid = make_grid((3, 4, 5), "cpu")
    corners, cubes = grid.vertices.shape[0], grid.cubes.shape[0]
    sdf = torch.full((corners,), value, requires_grad=True)
    deformation = torch.zeros(corners, 3, requires_grad=True)
    weights = torch.zeros(cubes, 21, requires_grad=True)
    surface = extract(grid, sdf, deformation, weights, training, features=torch.zeros(corners, 2))
    assert surface.vertices.shape == (0, 3) and surface.faces.shape == (0, 3) and surface.features.shape == (0, 2)
    assert surface.l_dev == 0
    (surface.vertices.sum() + surface.l_dev).backward()
    assert all(x.grad is not None and not x.grad.any() for x in (sdf, deformation, weights))


def test_surface_through_the_grids_boundary_stays_open_there():
    grid = make_grid((4, 4, 4), "cpu")
    surface = extract(grid, grid.vertices[:, 0] - 0.1, torch.zeros_like(grid.vertices), torch.zeros(64, 21), False)
    assert surface.vertices.shape == (16, 3) and surface.faces.shape == (2 * 9, 3)
    torch.testing.assert_close(surface.vertices[:, 0], torch.full((16,), 0.1))


def test_corner_exactly_on_the_surface_counts_as_outside_and_gives_finite_gradients():
    grid, sdf, deformation, weights = sphere((8, 8, 8), radius=0.375)  # passes through corners on the axes
    assert (sdf == 0).any()
    inputs = [x.requires_grad_() for x in (sdf, deformation, weights)]
    surface = extract(grid, *inputs)
    assert_closed_and_oriented(surface.faces)
    gradients = torch.autograd.grad(surface.vertices.square().sum() + surface.l_dev, inputs)
    assert all(g.isfinite().all() for g in gradients)


def test_grid_corners_and_cubes_are_in_the_documented_order():
    grid = make_grid((2, 3, 4), "cpu")
    assert grid.vertices.shape == (3 * 4 * 5, 3) and grid.cubes.shape == (2 * 3 * 4, 8)
    torch.testing.assert_close(grid.vertices[(1 * 4 + 2) * 5 + 3], torch.tensor([0.0, 2 / 3 - 0.5, 0.25]))
    low, high = grid.vertices[grid.cubes[(1 * 3 + 2) * 4 + 3]][[0, 7]]
    torch.testing.assert_close(low, torch.tensor([0.0, 1 / 6, 0.25]))
    torch.testing.assert_close(high, torch.tensor([0.5, 0.5, 0.5]))
