"""An object's noun by geometry: which basic shape its horizontal sections are those of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from .things import Match

HEIGHTS = np.array([0.03, 0.08, 0.16, 0.27, 0.4, 0.5, 0.6, 0.73, 0.84, 0.92, 0.97])  # of the bounding box
REFUSED = 0.22  # root mean square distance of the sections beyond which a shape is none of the basic ones
WEIGHTS = np.array([1.0, 2.0, 0.25])  # of the sections' relative area, spread and squareness
BASIC = ("cube", "sphere", "cylinder", "cone", "torus", "pyramid", "capsule")  # the nouns that can be told so


def noun_by_shape(vertices: NDArray, faces: NDArray) -> Match:
    """Which basic shape the horizontal sections over the bounding box are nearest to, and how far from it they are.

    vertices: (V, 3), upright. Compared are each section's area over the largest one's, its spread (larger for a ring
    than for a disc) and its squareness, with the proportions' own freedom taken out.
    """
    found = _sections(_in_unit_box(vertices), faces)
    distances = {noun: min(_distance(found, ideal) for ideal in ideals) for noun, ideals in _ideal_sections().items()}
    best = min(distances, key=distances.__getitem__)
    return Match(best if distances[best] <= REFUSED else None, distances[best])


def _distance(found: NDArray, ideal: NDArray) -> float:
    """Root mean square over the heights; (K, 3). Spread and squareness count as far as both sections have area."""
    difference = (found - ideal) * WEIGHTS
    difference[:, 1:] *= np.minimum(found[:, :1], ideal[:, :1])
    return float(np.sqrt((difference**2).sum(1).mean()))


def _ideal_sections() -> dict[str, list[NDArray]]:
    """For each basic shape (K, 3), one for each of its proportions: areas, spreads and squarenesses at HEIGHTS."""
    h, one = HEIGHTS, np.ones_like(HEIGHTS)
    disc = 1 / (2 * np.pi)
    capsules = []
    for r in np.linspace(0.15, 0.35, 11):  # radius over length
        into_cap = np.clip(1 - np.minimum(h, 1 - h) / r, 0, 1)
        capsules.append(_profile(1 - into_cap**2, disc * one, 0))
    tori = []
    for m in np.linspace(0.08, 0.2, 9):  # minor radius; the outer one is 1/2
        half = m * np.sqrt(1 - (2 * h - 1) ** 2)
        outer, inner = (0.5 - m + half) ** 2, (0.5 - m - half) ** 2
        tori.append(_profile(outer - inner, (outer + inner) / (2 * np.pi * (outer - inner)), 0))
    return {
        "cube": [_profile(one, one / 6, 1)],
        "sphere": [_profile(h * (1 - h), disc * one, 0)],
        "cylinder": [_profile(one, disc * one, 0)],
        "cone": [_profile((1 - h) ** 2, disc * one, 0)],
        "pyramid": [_profile((1 - h) ** 2, one / 6, 1)],
        "torus": tori,
        "capsule": capsules,
    }


def _profile(area: NDArray, spread: NDArray, squareness: float) -> NDArray:
    """(K, 3)."""
    return np.stack([area / area.max(), spread, np.full_like(area, squareness)], 1)


def _in_unit_box(vertices: NDArray) -> NDArray:
    """The vertices turned round Z so that their bounding rectangle is smallest, and stretched into [0, 1]^3."""
    flat = vertices[:, :2]
    hull = flat[ConvexHull(flat).vertices]

    def turned(points: NDArray, angle: float) -> NDArray:
        return points @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    angles = np.radians(np.arange(0, 90, 2.0))
    best = min(angles, key=lambda a: np.ptp(turned(hull, a), axis=0).prod())
    upright = np.column_stack([turned(flat, best), vertices[:, 2]])
    return (upright - upright.min(0)) / np.ptp(upright, axis=0)


def _sections(vertices: NDArray, faces: NDArray) -> NDArray:
    """Area over the largest, spread and squareness of the section at each of HEIGHTS: (K, 3).

    Spread is the polar moment over the area squared; squareness is the fourth complex moment over the area cubed,
    times 60: 1 for a square however it is turned, 0 for a disc and a ring. Summed over the triangles that the middle
    makes with the faces' cuts.
    """
    rows = []
    for height in HEIGHTS:
        a, b = (end @ (1, 1j) for end in _cuts(vertices[faces], height + 1e-7))  # beside a regular mesh's vertices
        cross = (a.conj() * b).imag
        area = cross.sum() / 2
        if area < 1e-4:
            rows.append((max(area, 0.0), 0.0, 0.0))
            continue
        middle = ((a + b) * cross).sum() / (6 * area)
        a, b = a - middle, b - middle
        cross = (a.conj() * b).imag
        spread = (cross * (abs(a) ** 2 + (a * b.conj()).real + abs(b) ** 2)).sum() / 12 / area**2
        fourth = (cross * (a**4 + a**3 * b + a**2 * b**2 + a * b**3 + b**4)).sum() / 30
        rows.append((area, spread, min(60 * abs(fourth) / area**3, 2.0)))
    found = np.array(rows)
    found[:, 0] /= max(found[:, 0].max(), 1e-9)
    return found


def _cuts(corners: NDArray, height: float) -> tuple[NDArray, NDArray]:
    """Ends (N, 2) of the segments in which triangles (F, 3, 3) cut the plane, the inside on their left."""
    above = corners[:, :, 2] > height
    crossing = corners[above.any(1) & ~above.all(1)]
    above = crossing[:, :, 2] > height
    lone = np.where(above.sum(1) == 1, above.argmax(1), (~above).argmax(1))  # the corner that is alone on its side
    index, up = np.arange(len(lone)), above.sum(1) == 1
    p, q, r = (crossing[index, (lone + k) % 3] for k in range(3))

    def at(start: NDArray, end: NDArray) -> NDArray:
        share = (height - start[:, 2]) / (end[:, 2] - start[:, 2])
        return start[:, :2] + share[:, None] * (end - start)[:, :2]

    first, second = at(p, q), at(p, r)
    return np.where(up[:, None], first, second), np.where(up[:, None], second, first)
