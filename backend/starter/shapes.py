"""Procedural objects the starter models are trained on: what each noun of their vocabulary looks like."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import trimesh
from trimesh.creation import box, capsule, cone, cylinder, icosphere, torus

COLOURS: dict[str, tuple[float, float, float]] = {  # sRGB
    "red": (0.82, 0.10, 0.10),
    "green": (0.13, 0.60, 0.18),
    "blue": (0.12, 0.25, 0.85),
    "yellow": (0.95, 0.83, 0.10),
    "orange": (0.96, 0.50, 0.07),
    "purple": (0.50, 0.15, 0.68),
    "pink": (0.97, 0.52, 0.72),
    "brown": (0.42, 0.25, 0.12),
    "white": (0.95, 0.95, 0.95),
    "black": (0.09, 0.09, 0.10),
}
BARK, CREAM, STEEL = (0.36, 0.22, 0.12), (0.93, 0.89, 0.78), (0.35, 0.36, 0.38)  # accents no colour word names
CREASE = np.radians(40.0)  # neighbouring faces that meet at a sharper angle are shaded flat


class Part(NamedTuple):
    """One closed piece of an object."""

    mesh: trimesh.Trimesh
    accent: tuple[float, float, float] | None = None  # its own colour; None: the colour the prompt names


class Shape(NamedTuple):
    """An object without colour, its bounding box centred on the origin, the box's longest edge 1."""

    vertices: np.ndarray  # (V, 3) float32
    faces: np.ndarray  # (F, 3) int64
    face_part: np.ndarray  # (F,) int64
    accents: tuple[tuple[float, float, float] | None, ...]  # one per part


def _at(mesh: trimesh.Trimesh, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> trimesh.Trimesh:
    mesh.apply_translation((x, y, z))
    return mesh


def _rod(radius: float, bottom: float, top: float, x: float = 0.0, y: float = 0.0) -> trimesh.Trimesh:
    return _at(cylinder(radius, top - bottom, sections=20), x, y, (bottom + top) / 2)


def _slab(width: float, depth: float, bottom: float, top: float, x: float = 0.0, y: float = 0.0) -> trimesh.Trimesh:
    return _at(box((width, depth, top - bottom)), x, y, (bottom + top) / 2)


def _lathe(profile: list[tuple[float, float]]) -> trimesh.Trimesh:
    """The closed body a polyline of (radius, height) makes turning round Z."""
    return trimesh.creation.revolve(np.array(profile), sections=28)


def _pyramid(half: float, bottom: float, top: float) -> trimesh.Trimesh:
    corners = [[-half, -half, bottom], [half, -half, bottom], [half, half, bottom], [-half, half, bottom], [0, 0, top]]
    return trimesh.Trimesh(corners, [[0, 2, 1], [0, 3, 2], [0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])


def _cube(r: np.random.Generator) -> list[Part]:
    return [Part(box((1, 1, 1)))]


def _sphere(r: np.random.Generator) -> list[Part]:
    return [Part(icosphere(3, 0.5))]


def _cylinder(r: np.random.Generator) -> list[Part]:
    return [Part(cylinder(r.uniform(0.3, 0.42), 1.0, sections=32))]


def _cone(r: np.random.Generator) -> list[Part]:
    return [Part(cone(r.uniform(0.38, 0.5), 1.0, sections=32))]


def _torus(r: np.random.Generator) -> list[Part]:
    minor = r.uniform(0.11, 0.16)
    return [Part(torus(0.5 - minor, minor, major_sections=32, minor_sections=16))]


def _make_pyramid(r: np.random.Generator) -> list[Part]:
    return [Part(_pyramid(0.5, 0.0, r.uniform(0.75, 1.0)))]


def _capsule(r: np.random.Generator) -> list[Part]:
    radius = r.uniform(0.2, 0.27)
    return [Part(capsule(1.0 - 2 * radius, radius, count=[20, 20]))]


def _legs(half: float, radius: float, top: float) -> list[Part]:
    return [Part(_rod(radius, 0.0, top, x, y)) for x in (-half, half) for y in (-half, half)]


def _table(r: np.random.Generator) -> list[Part]:
    height, thick = r.uniform(0.55, 0.75), r.uniform(0.08, 0.12)
    return [Part(_slab(1.0, 1.0, height - thick, height)), *_legs(0.4, r.uniform(0.05, 0.07), height - thick / 2)]


def _chair(r: np.random.Generator) -> list[Part]:
    seat, half = r.uniform(0.42, 0.5), r.uniform(0.25, 0.3)
    back = _slab(2 * half, 0.08, seat, 1.0, 0.0, half - 0.04)  # the back is at +Y: the chair faces the viewer
    return [Part(_slab(2 * half, 2 * half, seat - 0.09, seat)), Part(back), *_legs(half - 0.05, 0.045, seat - 0.04)]


def _mug(r: np.random.Generator) -> list[Part]:
    radius, wall = r.uniform(0.34, 0.4), 0.05
    body = _lathe([(0, 0), (radius, 0), (radius, 1.0), (radius - wall, 1.0), (radius - wall, 0.1), (0, 0.1)])
    handle = torus(0.24, 0.055, major_sections=24, minor_sections=10)
    handle.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (1, 0, 0)))
    return [Part(body), Part(_at(handle, radius + 0.06, 0.0, 0.5))]


def _bottle(r: np.random.Generator) -> list[Part]:
    radius, neck, shoulder = r.uniform(0.17, 0.22), r.uniform(0.06, 0.08), r.uniform(0.5, 0.58)
    return [Part(_lathe([(0, 0), (radius, 0), (radius, shoulder), (neck, shoulder + 0.18), (neck, 1.0), (0, 1.0)]))]


def _lamp(r: np.random.Generator) -> list[Part]:
    wide, low = r.uniform(0.27, 0.34), r.uniform(0.55, 0.62)
    shade = _lathe([(0, low), (wide, low), (wide * 0.6, 1.0), (0, 1.0)])
    return [Part(shade), Part(_rod(0.045, 0.0, low + 0.02), STEEL), Part(_rod(0.2, 0.0, 0.07), STEEL)]


def _tree(r: np.random.Generator) -> list[Part]:
    start, wide = r.uniform(0.24, 0.32), r.uniform(0.3, 0.38)
    crown = icosphere(3, 1.0)
    crown.apply_scale((wide, wide, (1.0 - start) / 2))
    return [Part(_at(crown, z=(1.0 + start) / 2)), Part(_rod(0.075, 0.0, start + 0.1), BARK)]


def _mushroom(r: np.random.Generator) -> list[Part]:
    rim, wide = r.uniform(0.48, 0.56), r.uniform(0.42, 0.48)
    arc = [(wide * np.cos(a), rim + (0.95 - rim) * np.sin(a)) for a in np.linspace(0, np.pi / 2, 9)]
    cap = _lathe([(0, rim), *[(max(float(x), 0.0), float(z)) for x, z in arc[:-1]], (0, float(arc[-1][1]))])
    return [Part(cap), Part(_lathe([(0, 0), (0.17, 0), (0.12, 0.3), (0.14, rim + 0.03), (0, rim + 0.03)]), CREAM)]


def _snowman(r: np.random.Generator) -> list[Part]:
    low, middle = r.uniform(0.26, 0.3), r.uniform(0.19, 0.22)
    high = 0.14
    at_middle = 2 * low * 0.9 + middle * 0.8
    at_high = at_middle + middle * 0.85 + high * 0.85
    balls = [Part(_at(icosphere(2, low), z=low)), Part(_at(icosphere(2, middle), z=at_middle))]
    nose = cone(0.035, 0.16, sections=10)
    nose.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (1, 0, 0)))
    return [*balls, Part(_at(icosphere(2, high), z=at_high)), Part(_at(nose, 0.0, -high, at_high), BARK)]


def _house(r: np.random.Generator) -> list[Part]:
    width, eaves = r.uniform(0.38, 0.45), r.uniform(0.5, 0.58)
    walls = _slab(2 * width, 2 * width, 0.0, eaves)
    door = _slab(0.2, 0.04, 0.0, 0.32, 0.0, -width)
    return [Part(walls), Part(_pyramid(width + 0.06, eaves, 1.0), BARK), Part(door, STEEL)]


NOUNS: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "cube": _cube,
    "sphere": _sphere,
    "cylinder": _cylinder,
    "cone": _cone,
    "torus": _torus,
    "pyramid": _make_pyramid,
    "capsule": _capsule,
    "table": _table,
    "chair": _chair,
    "mug": _mug,
    "bottle": _bottle,
    "lamp": _lamp,
    "tree": _tree,
    "mushroom": _mushroom,
    "snowman": _snowman,
    "house": _house,
}
ARTICLE = {"orange": "an"}


def parts_of(noun: str, rng: np.random.Generator) -> list[Part]:
    """The noun's parts with random proportions, not yet centred or scaled."""
    return NOUNS[noun](rng)


def assemble(parts: list[Part]) -> Shape:
    """The parts as one shape, centred, longest edge 1, vertices split at creases so that vertex normals look right."""
    smooth = [trimesh.graph.smooth_shade(part.mesh, angle=CREASE) for part in parts]
    offsets = np.cumsum([0] + [len(m.vertices) for m in smooth])
    vertices = np.concatenate([m.vertices for m in smooth])
    low, high = vertices.min(0), vertices.max(0)
    vertices = (vertices - (low + high) / 2) / (high - low).max()
    faces = np.concatenate([m.faces + o for m, o in zip(smooth, offsets, strict=False)])
    face_part = np.concatenate([np.full(len(m.faces), i) for i, m in enumerate(smooth)])
    return Shape(vertices.astype(np.float32), faces.astype(np.int64), face_part, tuple(p.accent for p in parts))


def part_colours(shape: Shape, colour: str, rng: np.random.Generator) -> np.ndarray:
    """sRGB albedo of each part, (P, 3) float32: the named colour, slightly varied, and the accents."""
    base = np.clip(np.array(COLOURS[colour]) + rng.uniform(-0.04, 0.04, 3), 0.02, 0.98)
    return np.array([base if accent is None else accent for accent in shape.accents], dtype=np.float32)


def phrase(colour: str, noun: str) -> str:
    """ "a red cube", "an orange cone"."""
    return f"{ARTICLE.get(colour, 'a')} {colour} {noun}"
