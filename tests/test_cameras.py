"""Cameras: where they stand, which way is up, and what views are drawn."""

import math

import pytest
import torch

from backend.render.cameras import NEAR, Cameras, ViewRange, fit_distance, orbit, pose_vectors, sample_ring, view_name


def one(azimuth: float, elevation: float, distance: float = 3.0, fov: float = 40.0, target=(0.0, 0.0, 0.0)) -> Cameras:
    azimuth_deg, elevation_deg, metres, fov_deg = (torch.tensor([v]) for v in (azimuth, elevation, distance, fov))
    return orbit(azimuth_deg, elevation_deg, metres, fov_deg, torch.tensor(target))


def project(camera: Cameras, point: tuple[float, float, float]) -> torch.Tensor:
    clip = camera.world_to_clip[0] @ torch.tensor([*point, 1.0])
    return clip[:3] / clip[3]


@pytest.mark.parametrize(
    ("azimuth", "elevation", "position"),
    [(0, 0, (0, -3, 0)), (90, 0, (3, 0, 0)), (180, 0, (0, 3, 0)), (270, 0, (-3, 0, 0)), (0, 90, (0, 0, 3))],
)
def test_azimuth_runs_from_the_front_over_the_right_and_elevation_goes_up(azimuth, elevation, position):
    camera = one(azimuth, elevation)
    torch.testing.assert_close(camera.position[0], torch.tensor(position).float(), atol=1e-5, rtol=0)


def test_the_front_view_shows_x_to_the_right_and_z_upwards():
    right, up = project(one(0, 0), (0.5, 0, 0)), project(one(0, 0), (0, 0, 0.5))
    assert right[0] > 0.1 and abs(right[1]) < 1e-6
    assert up[1] > 0.1 and abs(up[0]) < 1e-6


@pytest.mark.parametrize("elevation", [-89.0, -20.0, 0.0, 45.0, 90.0])
def test_the_target_is_in_the_middle_at_every_elevation(elevation):
    target = (0.3, -0.2, 0.7)
    torch.testing.assert_close(
        project(one(33.0, elevation, target=target), target)[:2], torch.zeros(2), atol=1e-5, rtol=0
    )


def test_rotations_are_orthonormal_and_right_handed():
    rotation = one(123.0, 37.0).world_to_camera[0, :3, :3]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3), atol=1e-6, rtol=0)
    assert torch.linalg.det(rotation) > 0


def test_the_near_plane_is_at_minus_one_and_nearer_points_have_smaller_depth():
    camera = one(0, 0, distance=3.0)
    assert project(camera, (0, -3 + 3 * NEAR, 0))[2] == pytest.approx(-1, abs=1e-4)
    assert project(camera, (0, -1, 0))[2] < project(camera, (0, 1, 0))[2]


def test_the_field_of_view_is_the_angle_between_the_pictures_edges():
    half = math.tan(math.radians(25)) * 3
    assert project(one(0, 0, fov=50.0), (half, 0, 0))[0] == pytest.approx(1, abs=1e-5)
    assert project(one(0, 0, fov=50.0), (0, 0, half))[1] == pytest.approx(1, abs=1e-5)


def test_fit_distance_makes_the_sphere_touch_the_pictures_edge():
    fov = torch.tensor([40.0])
    distance = float(fit_distance(fov, 0.7))
    # The tangent from the camera to the sphere leaves the axis by half the field of view.
    assert math.degrees(math.asin(0.7 / distance)) == pytest.approx(20.0, abs=1e-4)


def test_a_ring_is_even_in_azimuth_and_within_its_range():
    views = ViewRange(elevation_deg=(-10.0, 30.0), fov_deg=(35.0, 45.0), zoom=(0.9, 1.1))
    for seed in range(20):
        ring = sample_ring(4, views, torch.zeros(3), 0.5, torch.Generator().manual_seed(seed))
        steps = (ring.azimuth_deg.roll(-1) - ring.azimuth_deg) % 360
        torch.testing.assert_close(steps, torch.full((4,), 90.0), atol=1e-3, rtol=0)
        assert ((ring.elevation_deg >= -10) & (ring.elevation_deg <= 30)).all()
        nearest, farthest = (float(fit_distance(torch.tensor(fov), 0.5)) * z for fov, z in ((45.0, 0.9), (35.0, 1.1)))
        distance = ring.position.norm(dim=1)
        assert ((distance >= nearest - 1e-4) & (distance <= farthest + 1e-4)).all()


def test_the_same_seed_gives_the_same_ring():
    a, b = (sample_ring(4, ViewRange(), torch.zeros(3), 0.5, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(a.world_to_clip, b.world_to_clip)


def test_pose_vectors_hold_the_cameras_axes_and_a_position_of_length_one():
    target = torch.tensor([1.0, 2.0, 3.0])
    camera = one(50.0, 20.0, distance=4.0, target=(1.0, 2.0, 3.0))
    pose = pose_vectors(camera, target).view(4, 4)
    torch.testing.assert_close(pose[:3, :3], camera.world_to_camera[0, :3, :3].T)
    torch.testing.assert_close(pose[:3, 3], (camera.position[0] - target) / 4.0, atol=1e-5, rtol=0)
    assert pose[3].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("azimuth", "elevation", "name"),
    [(0, 0, "front"), (350, 10, "front"), (90, 0, "side"), (-90, 0, "side"), (180, 0, "back"), (10, 75, "overhead")],
)
def test_views_have_names(azimuth, elevation, name):
    assert view_name(azimuth, elevation) == name
