"""What an exported scene shows, measured on the GLB alone: colours, nouns by shape and by the vision-language model.

The quality benchmark is made of these. Geometry: Blender's axes, metres.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from backend.guidance.questions import CONTENT
from backend.guidance.vlm import VisionLanguageModel
from backend.render.lighting import sample_lighting
from backend.render.shade import render
from backend.render.views import object_views
from backend.scene.mesh import Mesh
from backend.starter.shapes import COLOURS, NOUNS, parts_of, phrase

BLENDER_FROM_GLTF = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # (x, y, z) -> (x, -z, y)
LIGHTNESS = 0.5  # how much a difference in lightness counts beside one in hue: a dark red is a red
SHOWN_EDGE = 0.9  # longest edge of an object on the pictures for the vision-language model; its box has edge 1
HEIGHTS = np.array([0.03, 0.08, 0.16, 0.27, 0.4, 0.5, 0.6, 0.73, 0.84, 0.92, 0.97])  # of the bounding box
REFUSED = 0.22  # root mean square distance of the sections beyond which a shape is none of the basic ones
WEIGHTS = np.array([1.0, 2.0, 0.25])  # of the sections' relative area, spread and squareness


class Thing(NamedTuple):
    """One object of an exported scene. Vertices lie at one place only once, whatever the texture's seams."""

    name: str
    vertices: NDArray[np.float64]  # (V, 3), metres, along the object's own axes
    to_world: NDArray[np.float64]  # (4, 4)
    faces: NDArray[np.int64]  # (F, 3)
    uv: NDArray[np.float64]  # (F, 3, 2), v upwards from the texture's bottom
    texture: NDArray[np.uint8]  # (H, W, 3) sRGB

    @property
    def world(self) -> NDArray[np.float64]:
        """(V, 3), metres."""
        return self.vertices @ self.to_world[:3, :3].T + self.to_world[:3, 3]


class Match(NamedTuple):
    """The best answer, and how good it was."""

    name: str | None  # None: none of them
    score: float


def read_things(glb: Path) -> dict[str, Thing]:
    """The objects in a GLB by their nodes' names."""
    scene = trimesh.load(glb, force="scene", process=False)
    things = {}
    for node in scene.graph.nodes_geometry:
        transform, geometry = scene.graph[node]
        mesh = scene.geometry[geometry]
        turn = np.eye(4)
        turn[:3, :3] = BLENDER_FROM_GLTF
        positions, source = np.unique(mesh.vertices @ BLENDER_FROM_GLTF.T, axis=0, return_inverse=True)
        texture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"))
        to_world = turn @ transform @ turn.T
        faces = np.asarray(mesh.faces)
        things[node] = Thing(node, positions, to_world, source.reshape(-1)[faces], mesh.visual.uv[faces], texture)
    return things


def dominant_colour(thing: Thing, noun: str | None = None, samples: int = 4000) -> Match:
    """The colour word that most of the surface is nearest to, and its share of the surface.

    The noun's accents (a tree's trunk) compete for the surface but cannot win.
    """
    corners = thing.vertices[thing.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    rng = np.random.default_rng(0)
    face = rng.choice(len(area), samples, p=area / area.sum())
    uv = (rng.dirichlet((1, 1, 1), samples)[:, :, None] * thing.uv[face]).sum(1)
    names = nearest_colours(_texels(thing.texture, uv) / 255.0, noun)
    counts = {name: names.count(name) for name in COLOURS}
    best = max(counts, key=counts.__getitem__)
    return Match(best, counts[best] / samples) if counts[best] else Match(None, 0.0)


def nearest_colours(srgb: NDArray, noun: str | None = None) -> list[str]:
    """The nearest colour word of each row of (N, 3) in [0, 1], by CIELAB with lightness halved; "" for an accent."""
    accents = [part.accent for part in parts_of(noun, np.random.default_rng(0)) if part.accent] if noun else []
    table = _lab(np.array([*COLOURS.values(), *accents])) * (LIGHTNESS, 1, 1)
    distance = np.linalg.norm(_lab(srgb)[:, None] * (LIGHTNESS, 1, 1) - table, axis=-1)
    words = [*COLOURS, *[""] * len(accents)]
    return [words[i] for i in distance.argmin(1)]


def _lab(srgb: NDArray) -> NDArray:
    """CIELAB (CIE 15, D65 white) of sRGB in [0, 1]: (..., 3)."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ (to_xyz / to_xyz.sum(1, keepdims=True)).T
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def _texels(texture: NDArray[np.uint8], uv: NDArray) -> NDArray:
    """The texels at (..., 2) coordinates: (..., 3)."""
    height, width = texture.shape[:2]
    column = np.clip((uv[..., 0] * width).astype(int), 0, width - 1)
    row = np.clip(((1 - uv[..., 1]) * height).astype(int), 0, height - 1)
    return texture[row, column].astype(np.float64)


def coloured_mesh(thing: Thing, vertices: NDArray) -> Mesh:
    """A mesh whose `local` holds each vertex's sRGB colour: render it with `own_colour`. vertices: (V, 3)."""
    total, count = np.zeros((len(vertices), 3)), np.zeros(len(vertices))
    np.add.at(total, thing.faces, _texels(thing.texture, thing.uv) / 255.0)
    np.add.at(count, thing.faces, 1)
    colours = total / np.maximum(count, 1)[:, None]
    faces = torch.from_numpy(thing.faces)
    slot = torch.zeros(len(faces), dtype=torch.int64)
    return Mesh(torch.from_numpy(vertices).float(), faces, slot, torch.from_numpy(colours).float())


def own_colour(local: torch.Tensor, slot: torch.Tensor) -> torch.Tensor:
    """The colour field of a `coloured_mesh`."""
    return local


def noun_by_sight(vlm: VisionLanguageModel, thing: Thing, colour: str, pairs: int = 4, seed: int = 1000) -> Match:
    """The noun with the highest log-odds of "Do these pictures show a COLOUR NOUN?", averaged over fresh view pairs.

    Its score is the mean log-odds.
    """
    low, high = thing.vertices.min(0), thing.vertices.max(0)
    mesh = coloured_mesh(thing, (thing.vertices - (low + high) / 2) * (SHOWN_EDGE / (high - low).max()))
    asked = [CONTENT.format(prompt=phrase(colour, noun)) for noun in NOUNS]
    generator, total = torch.Generator().manual_seed(seed), torch.zeros(len(asked))
    for _ in range(pairs):
        cameras = object_views(4, generator, torch.device("cpu"))
        lighting = sample_lighting(cameras, torch.zeros(3), generator)
        with torch.no_grad():
            total += vlm.log_odds(render(mesh, own_colour, cameras, lighting, 64, 64).rgb[:2], asked)
    best = int(total.argmax())
    return Match(list(NOUNS)[best], float(total[best]) / pairs)


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
