"""Clean-up: floaters go, the budget holds, the mesh stays closed."""

from __future__ import annotations

import numpy as np
import pytest

from backend.export.clean import clean
from backend.export.topology import face_cross, face_volumes, is_closed, piece_count

from .solids import KINDS, joined, solid


def moved(mesh, scale, offset):
    return mesh[0] * scale + np.asarray(offset), mesh[1]


def test_the_largest_piece_is_kept_and_floaters_are_dropped():
    floater = moved(solid("sphere"), 0.3, (1.0, 0, 0))
    cleaned = clean(*joined(floater, solid("box"), floater), max_faces=100_000)
    assert (cleaned.pieces_before, cleaned.pieces, len(cleaned.faces)) == (3, 1, len(solid("box")[1]))
    assert np.allclose(np.abs(cleaned.vertices).max(axis=0), 0.5)
    assert 0.05 < cleaned.dropped_share < 0.2


def test_a_hidden_inner_wall_is_dropped():
    vertices, faces = solid("sphere")
    cleaned = clean(*joined((vertices * 0.8, faces[:, ::-1]), (vertices, faces)), 100_000)
    assert cleaned.pieces == 1
    assert np.allclose(np.linalg.norm(cleaned.vertices, axis=1), 0.5, atol=1e-6)


def test_smoothing_takes_bumps_away_and_neither_size_nor_place():
    vertices, faces = solid("sphere")
    noise = np.random.default_rng(0).normal(0, 0.01, len(vertices))
    bumpy = vertices * (1 + noise)[:, None] + 3.0
    radii = [np.linalg.norm(clean(bumpy, faces, 100_000, steps).vertices - 3.0, axis=1) for steps in (0, 20)]
    assert radii[1].std() < 0.5 * radii[0].std()
    assert radii[1].mean() == pytest.approx(radii[0].mean(), rel=0.01)


def test_without_smoothing_vertices_stay_where_they_are():
    vertices, faces = solid("blob")
    assert np.array_equal(clean(vertices, faces, 100_000).vertices, vertices)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.8, 0.3, 0.1])
def test_the_budget_holds_and_the_mesh_stays_closed_in_one_piece_and_in_shape(kind, share):
    vertices, faces = solid(kind)
    budget = int(share * len(faces))
    cleaned = clean(vertices, faces, budget)
    assert budget * 0.8 <= len(cleaned.faces) <= budget
    assert cleaned.closed and is_closed(cleaned.faces)
    assert cleaned.pieces == piece_count(cleaned.faces) == 1
    before, after = face_volumes(vertices, faces).sum(), face_volumes(cleaned.vertices, cleaned.faces).sum()
    assert after == pytest.approx(before, rel=0.05)
    assert not cleaned.notes


@pytest.mark.parametrize("budget", [2000, 1000, 300])
def test_simplified_corners_have_no_two_vertices_in_one_place(budget):
    cleaned = clean(*solid("box"), budget)
    assert cleaned.closed
    assert len(np.unique(cleaned.vertices.round(6), axis=0)) == len(cleaned.vertices)
    assert np.linalg.norm(face_cross(cleaned.vertices, cleaned.faces), axis=1).min() > 0


def test_simplification_does_not_depend_on_the_scale():
    vertices, faces = solid("blob")
    small, large = clean(vertices * 0.001, faces, 800), clean(vertices * 1000, faces, 800)
    assert len(small.faces) == pytest.approx(len(large.faces), abs=20)
    assert small.closed and large.closed


def test_the_mesh_stays_as_it_is_and_says_so_when_nothing_simpler_is_whole():
    vertices, faces = solid("torus")
    cleaned = clean(vertices, faces, 8)  # a torus needs at least 14 triangles
    assert len(cleaned.faces) == len(faces)
    assert cleaned.closed
    assert any("over the budget of 8" in note for note in cleaned.notes)


def test_faces_without_area_vanish_and_leave_no_hole():
    vertices, faces = solid("sphere")
    a, b = int(faces[0, 0]), int(faces[0, 1])
    vertices = vertices.copy()
    vertices[b] = vertices[a]  # the two faces of this edge are now points in a line
    cleaned = clean(vertices, faces, 100_000)
    assert len(cleaned.faces) == len(faces) - 2
    assert cleaned.closed


def test_an_open_mesh_is_reported_as_open():
    vertices, faces = solid("sphere")
    cleaned = clean(vertices, faces[1:], 100_000)
    assert not cleaned.closed
    assert "the surface is not closed" in cleaned.notes


def test_the_same_mesh_is_cleaned_the_same_way_twice():
    first, second = (clean(*solid("blob"), 700) for _ in range(2))
    assert np.array_equal(first.vertices, second.vertices) and np.array_equal(first.faces, second.faces)


@pytest.mark.parametrize(
    ("faces", "closed"),
    [
        ([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], True),
        ([[0, 1, 2], [0, 1, 3], [1, 2, 3], [2, 0, 3]], False),  # one face turned round
        ([[0, 2, 1], [0, 1, 3], [1, 2, 3]], False),  # one face missing
        ([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3], [2, 0, 3]], False),  # one face twice
        (np.zeros((0, 3), int), False),
    ],
)
def test_closed_means_each_edge_once_in_each_direction(faces, closed):
    assert is_closed(np.array(faces)) is closed


def test_a_large_piece_that_is_left_out_is_told_of():
    alike = joined(solid("box"), moved(solid("box"), 1.0, (3, 0, 0)))
    assert clean(*alike, 100_000).notes == (
        "50% of the surface was left out: pieces apart from the largest, or inside it",
    )
