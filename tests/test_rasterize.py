"""Visibility, against rays cast in float64, and the cases where rasterisers go wrong."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.render.launch import kernel_device
from backend.render.outlines import neighbours
from backend.render.rasterize import NOTHING, rasterize
from backend.scene.mesh import Mesh, merge
from tests.render_reference import around, ball, box, cast_rays, soup


def clip_of(mesh: Mesh, cameras) -> Tensor:
    """(B, V, 4) float32."""
    homogeneous = torch.cat([mesh.vertices, torch.ones_like(mesh.vertices[:, :1])], dim=1)
    return (homogeneous @ cameras.world_to_clip.transpose(1, 2)).float()


def flat(points: list[tuple[float, float]], width: int, depth: float = 2.0) -> Tensor:
    """Clip coordinates of points given in pixels from the top left, all at one distance: (1, V, 4)."""
    xy = torch.tensor(points) * (2.0 / width) - 1.0
    x, y, w = xy[:, 0], -xy[:, 1], torch.full((len(points),), depth)
    return torch.stack([x * w, y * w, torch.zeros_like(w), w], dim=1)[None]


def agrees_with_rays(mesh: Mesh, cameras, size: int) -> float:
    """Asserts the same triangle at every clear pixel; returns the share of clear pixels."""
    seen = rasterize(clip_of(mesh, cameras), mesh.faces, size, size)[0].numpy()
    expected = cast_rays(mesh, cameras, size, size)
    np.testing.assert_array_equal(seen[expected.clear], expected.triangle[expected.clear])
    return float(expected.clear.mean())


@pytest.mark.parametrize("size", [0.02, 0.1, 0.5])
def test_the_nearest_of_many_triangles_is_seen(size):
    assert agrees_with_rays(soup(300, size, seed=1), around([30.0]), 48) > 0.95


@pytest.mark.parametrize("seed", range(4))
def test_triangles_that_reach_through_the_near_plane_and_behind_the_camera_are_cut_there(seed):
    mesh = soup(40, 3.0, seed)
    cameras = around([30.0], radius=0.4)
    w = clip_of(mesh, cameras)[0, :, 3][mesh.faces]
    assert ((w.amin(1) < 0) & (w.amax(1) > 0)).sum() >= 10
    assert agrees_with_rays(mesh, cameras, 40) > 0.95


def test_a_floor_under_the_camera_is_seen_up_to_the_horizon():
    floor = box((100.0, 100.0, 0.1), at=(0.0, 0.0, -0.5))
    assert agrees_with_rays(floor, around([10.0], elevation_deg=5.0), 48) > 0.9


@pytest.mark.parametrize("shape", [box(), ball(4)])
def test_a_closed_mesh_shows_only_front_faces_and_no_holes(shape):
    cameras = around([0.0, 45.0, 90.0])
    clip = clip_of(shape, cameras)
    seen = rasterize(clip, shape.faces, 64, 64)
    p = clip[:, shape.faces][..., [0, 1, 3]]
    front = torch.linalg.det(p.double()) > 0
    for view in range(3):
        assert front[view][seen[view][seen[view] != NOTHING]].all()
        covered = seen[view] != NOTHING
        first = covered.float().argmax(1)
        last = 63 - covered.flip(1).float().argmax(1)
        spans = torch.where(covered.any(1), last - first + 1, 0)
        assert torch.equal(covered.sum(1), spans)  # both are convex: every row is one run of pixels


def test_no_pixel_is_lost_on_a_diagonal_through_pixel_centres():
    corners = flat([(0, 0), (16, 0), (16, 16), (0, 16)], 16, depth=1.7)
    seen = rasterize(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]), 16, 16)
    assert (seen != NOTHING).all()


@pytest.mark.parametrize("turn", [[0, 1, 2], [0, 2, 1]])
def test_a_triangle_around_one_centre_covers_that_pixel_alone_from_both_sides(turn):
    corners = flat([(5.4, 3.4), (5.6, 3.4), (5.5, 3.7)], 16)
    seen = rasterize(corners, torch.tensor([turn]), 16, 16)
    assert (seen != NOTHING).nonzero().tolist() == [[0, 3, 5]]


def test_a_triangle_between_centres_covers_nothing():
    seen = rasterize(flat([(5.6, 3.6), (6.4, 3.6), (6.0, 4.4)], 16), torch.tensor([[0, 1, 2]]), 16, 16)
    assert (seen == NOTHING).all()


def test_picture_rows_and_columns_may_differ_in_number():
    corners = torch.tensor([[[-1.0, 1.0, 0, 1], [1, 1, 0, 1], [1, 0, 0, 1], [-1, 0, 0, 1]]])
    seen = rasterize(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]), 6, 20)
    assert (seen[0, :3] != NOTHING).all() and (seen[0, 3:] == NOTHING).all()


def test_of_two_triangles_at_one_depth_the_smaller_index_is_taken():
    corners = flat([(0, 0), (16, 0), (0, 16)], 16)
    seen = rasterize(corners, torch.tensor([[0, 1, 2], [0, 1, 2]]), 16, 16)
    assert set(seen.unique().tolist()) == {NOTHING, 0}


def test_surfaces_a_millionth_apart_are_told_apart():
    sheet = [(0.0, 0.0), (16.0, 0.0), (0.0, 16.0)]
    corners = torch.cat([flat(sheet, 16, depth=3.0 * (1 + 1e-6)), flat(sheet, 16, depth=3.0)], dim=1)
    seen = rasterize(corners, torch.tensor([[0, 1, 2], [3, 4, 5]]), 16, 16)
    assert set(seen.unique().tolist()) == {NOTHING, 1}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_triangle_with_a_corner_that_is_not_finite_is_left_out(bad):
    corners = flat([(0, 0), (16, 0), (0, 16), (16, 16)], 16)
    corners[0, 3, 0] = bad
    seen = rasterize(corners, torch.tensor([[1, 2, 3], [0, 1, 2]]), 16, 16)
    assert set(seen.unique().tolist()) == {NOTHING, 1}


def test_triangles_without_area_are_left_out():
    corners = flat([(0.5, 0.5), (15.5, 15.5), (8.5, 8.5)], 16)
    seen = rasterize(corners, torch.tensor([[0, 1, 2], [0, 0, 1], [1, 1, 1]]), 16, 16)
    assert (seen == NOTHING).all()


def test_no_faces_and_no_vertices_give_an_empty_picture():
    seen = rasterize(torch.zeros(2, 0, 4), torch.zeros(0, 3, dtype=torch.int64), 5, 7)
    assert seen.shape == (2, 5, 7) and (seen == NOTHING).all()


def test_repeated_calls_agree_where_surfaces_coincide():
    mesh = merge([ball(3), ball(3), ball(2)])
    clip = clip_of(mesh, around([0.0, 70.0]))
    first = rasterize(clip, mesh.faces, 64, 64)
    assert all(torch.equal(first, rasterize(clip, mesh.faces, 64, 64)) for _ in range(5))


def test_neighbours_share_an_edge_that_exactly_two_faces_have():
    #   3---2---5     and a fin (0, 2, 4) on the edge 0-2, which then has three faces
    #   | / | /
    #   0---1
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [1, 5, 2], [0, 2, 4]], dtype=torch.int32)
    table = neighbours(faces, 6)
    assert table.tolist() == [[2, NOTHING, NOTHING], [NOTHING] * 3, [NOTHING, 0, NOTHING], [NOTHING] * 3]


def test_neighbours_of_a_closed_mesh_are_mutual():
    faces = ball(2).faces.int()
    table = neighbours(faces, int(faces.max()) + 1)
    assert (table != NOTHING).all()
    back = table[table.long()]  # (F, 3, 3)
    assert (back == torch.arange(len(faces))[:, None, None]).any(-1).all()


def test_devices_without_warp_are_served_by_the_cpu():
    assert kernel_device(torch.device("mps")).type == "cpu"
    assert kernel_device(torch.device("cuda", 1)) == torch.device("cuda", 1)


def test_warp_says_nothing_to_the_user():
    code = (
        "import torch; from backend.render.rasterize import rasterize;"
        "rasterize(torch.rand(1, 3, 4), torch.tensor([[0, 1, 2]]), 4, 4)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "" and "Warp" not in run.stderr
