"""Unwrapping: islands inside the texture, apart from each other, never on top of each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from backend.export.uv import MARGIN_PX, Unwrapped, unwrap

from .solids import KINDS, solid

TEXTURE_PX = 256


@pytest.fixture(scope="module", params=KINDS)
def unwrapped(request) -> Unwrapped:
    return unwrap(*solid(request.param), TEXTURE_PX)


def island_of_face(faces: np.ndarray) -> np.ndarray:
    """(F,) number of the island: faces that share a texture vertex."""
    count = faces.max() + 1
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    _, label = connected_components(coo_array((np.ones(len(start)), (start, end)), shape=(count, count)))
    return label[faces[:, 0]]


def layers(unwrapped: Unwrapped, px: int) -> tuple[np.ndarray, np.ndarray]:
    """How many faces strictly contain each centre of a px x px raster, and the island of the last of them, or -1.

    A slow loop over faces that shares nothing with the code under test.
    """
    count, island = np.zeros((px, px), int), np.full((px, px), -1)
    labels = island_of_face(unwrapped.faces)
    for corners, label in zip(unwrapped.uv[unwrapped.faces] * px - 0.5, labels, strict=True):
        x0, y0 = np.ceil(corners.min(axis=0)).astype(int)
        x1, y1 = np.floor(corners.max(axis=0)).astype(int) + 1
        x, y = np.meshgrid(np.arange(x0, x1), np.arange(y0, y1))
        a, b, c = corners
        sides = [(q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]) for p, q in ((a, b), (b, c), (c, a))]
        turn = np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))
        inside = np.all([turn * side > 1e-4 for side in sides], axis=0)
        count[y0:y1, x0:x1] += inside
        island[y0:y1, x0:x1][inside] = label
    return count, island


def test_no_two_faces_overlap(unwrapped):
    count, _ = layers(unwrapped, 1024)
    assert count.max() == 1


def test_islands_keep_apart_by_at_least_two_texels(unwrapped):
    _, island = layers(unwrapped, TEXTURE_PX * 4)
    reach = 2 * 4 - 1  # two texels, less the raster's own step
    for rows, columns in ((reach, 0), (0, reach), (reach, reach), (reach, -reach)):
        there = np.roll(island, (rows, columns), axis=(0, 1))
        assert not ((island >= 0) & (there >= 0) & (island != there)).any()


def test_islands_keep_clear_of_the_texture_s_edge(unwrapped):
    assert unwrapped.uv.min() * TEXTURE_PX >= MARGIN_PX - 1e-3
    assert unwrapped.uv.max() * TEXTURE_PX <= TEXTURE_PX - MARGIN_PX + 1e-3


def test_every_face_has_its_place_in_the_order_given(unwrapped, request):
    _, faces = solid(request.node.callspec.params["unwrapped"])
    assert np.array_equal(unwrapped.source[unwrapped.faces], faces)


def test_texels_are_spent_evenly(unwrapped, request):
    vertices, faces = solid(request.node.callspec.params["unwrapped"])
    flat, corners = unwrapped.uv[unwrapped.faces], vertices[faces]
    e, g = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    flat_area = np.abs(e[:, 0] * g[:, 1] - e[:, 1] * g[:, 0])
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    ratio = np.sqrt(flat_area / area)
    ratio /= np.median(ratio)
    assert np.average((ratio > 0.6) & (ratio < 1.6), weights=area) > 0.95


def test_a_fair_share_of_the_texture_is_used_by_few_islands(unwrapped):
    assert unwrapped.filled > 0.35
    assert unwrapped.islands <= 30
    assert unwrapped.islands == island_of_face(unwrapped.faces).max() + 1


def test_a_surface_of_many_islands_still_fits_a_small_texture():
    vertices, faces = solid("box")
    offsets = np.array([(i, j, k) for i in range(2) for j in range(2) for k in range(2)]) * 2.0
    many = np.concatenate([vertices + offset for offset in offsets])
    index = np.concatenate([faces + i * len(vertices) for i in range(len(offsets))])
    unwrapped = unwrap(many, index, 128)
    assert unwrapped.islands == 6 * len(offsets)
    assert unwrapped.uv.min() >= 0 and unwrapped.uv.max() <= 1


def test_the_same_mesh_is_unwrapped_the_same_way_twice():
    first, second = (unwrap(*solid("capsule"), 128) for _ in range(2))
    assert np.array_equal(first.uv, second.uv) and np.array_equal(first.faces, second.faces)
