"""Baking: the texture gives back the colour field, at the rims of islands too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backend.export.bake import bake
from backend.export.texels import REACH_PX, cover
from backend.export.uv import Unwrapped, unwrap

from .solids import KINDS, Answer, bilinear, sample_surface, solid, waves

TEXTURE_PX = 256
SIZE = np.array([1.0, 1.5, 0.5])  # the slot's box: metres are not local units


def identity(points):
    return points


def square(low: float, high: float) -> Unwrapped:
    """One island: the square [low, high]^2 of the texture, as two faces."""
    corners = np.array([[low, low], [high, low], [high, high], [low, high]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    return Unwrapped(corners, faces, np.arange(4), 1, (high - low) ** 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bilinear_lookup_anywhere_on_the_surface_gives_the_field_within_2_of_255(kind):
    vertices, faces = solid(kind)
    metres = vertices * SIZE
    unwrapped = unwrap(metres, faces, TEXTURE_PX)
    baked = bake(metres, unwrapped, lambda p: p / SIZE, waves, TEXTURE_PX)
    face, weight = sample_surface(metres[faces], 20_000)
    local = np.einsum("nk,nkx->nx", weight, vertices[faces][face])
    uv = np.einsum("nk,nkx->nx", weight, unwrapped.uv[unwrapped.faces][face])
    expected = waves(torch.from_numpy(local))
    for picture, values in (
        (baked.albedo, expected.albedo),
        (baked.roughness[..., None], expected.roughness[:, None]),
        (baked.metallic[..., None], expected.metallic[:, None]),
    ):
        assert np.abs(bilinear(picture, uv) - values.numpy() * 255).max() <= 2.0


def test_lookups_along_every_seam_agree_on_both_sides():
    vertices, faces = solid("box")
    unwrapped = unwrap(vertices, faces, TEXTURE_PX)
    baked = bake(vertices, unwrapped, identity, waves, TEXTURE_PX)
    by_edge: dict[tuple[int, int], list[np.ndarray]] = {}
    for corners, flat in zip(faces, unwrapped.faces, strict=True):
        for i in range(3):
            a, b = int(corners[i]), int(corners[(i + 1) % 3])
            ends = unwrapped.uv[[flat[i], flat[(i + 1) % 3]]]
            by_edge.setdefault((min(a, b), max(a, b)), []).append(ends if a < b else ends[::-1])
    seams = np.array([sides for sides in by_edge.values() if not np.array_equal(sides[0], sides[1])])
    assert len(seams) > 50
    middle = seams.mean(axis=2)
    difference = bilinear(baked.albedo, middle[:, 0]) - bilinear(baked.albedo, middle[:, 1])
    assert np.abs(difference).max() <= 2.0


def test_each_texel_near_an_island_belongs_to_it_and_none_beyond_reach():
    low, high = 0.25, 0.75
    covered = cover(square(low, high).uv, square(low, high).faces, 32)
    got = np.zeros((32, 32), bool)
    got[covered.row, covered.column] = True
    centre = (np.arange(32) + 0.5) / 32
    beside = np.maximum(np.maximum(low - centre, centre - high), 0.0) * 32
    distance = np.hypot(beside[:, None], beside[None, :])
    assert np.array_equal(got, distance <= REACH_PX)
    assert len(covered.row) == got.sum()


def test_covering_in_parts_gives_what_covering_at_once_gives(monkeypatch):
    unwrapped = unwrap(*solid("torus"), 128)
    whole = cover(unwrapped.uv, unwrapped.faces, 128)
    monkeypatch.setattr("backend.export.texels.PAIRS_AT_ONCE", 500)
    for one, other in zip(whole, cover(unwrapped.uv, unwrapped.faces, 128), strict=True):
        assert np.array_equal(one, other)


def test_the_whole_texture_outside_the_islands_holds_the_nearest_island_s_colour():
    island = square(0.375, 0.625)
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])

    def red_left_blue_right(points):
        right = (points[:, 0] > 0.5).float()
        albedo = torch.stack([1 - right, torch.zeros_like(right), right], dim=1)
        return Answer(albedo, torch.ones_like(right), torch.zeros_like(right))

    baked = bake(corners, island, identity, red_left_blue_right, 64)
    assert (baked.albedo[:, :32] == (255, 0, 0)).all()
    assert (baked.albedo[:, 32:] == (0, 0, 255)).all()
    assert baked.covered.sum() < 64 * 64 / 8


def test_rows_run_downwards_as_v_does():
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])

    def y_as_red(points):
        return Answer(points[:, 1:2].expand(-1, 3).clamp(0, 1), points[:, 1], points[:, 1])

    baked = bake(corners, square(0.1, 0.9), identity, y_as_red, 64)
    assert baked.albedo[7, 32, 0] < 10 and baked.albedo[56, 32, 0] > 245


def test_a_sliver_in_the_texture_never_sends_a_point_far_from_the_surface():
    vertices, faces = solid("capsule")
    unwrapped = unwrap(vertices, faces, 128)
    squeezed = unwrapped._replace(uv=unwrapped.uv * (1.0, 1e-5) + (0.0, 0.5))
    asked: list[torch.Tensor] = []

    def remember(points):
        asked.append(points)
        return waves(points)

    bake(vertices, squeezed._replace(filled=0.5), identity, remember, 128)
    assert torch.cat(asked).abs().max() < 0.6


def test_a_field_that_answers_nan_is_our_fault_and_stops_the_export():
    island = square(0.2, 0.8)

    def broken(points):
        return Answer(points * float("nan"), points[:, 0], points[:, 0])

    with pytest.raises(AssertionError, match="finite"):
        bake(np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), island, identity, broken, 32)
