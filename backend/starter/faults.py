"""Ways an object goes wrong while it is optimised: the negatives that teach the reward what whole means."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import trimesh

from .shapes import Part, parts_of

FINE = 0.08  # longest edge after subdivision, in units of the part; displacement needs vertices to move


def _finely(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    vertices, faces = trimesh.remesh.subdivide_to_size(mesh.vertices, mesh.faces, FINE, max_iter=6)
    fine = trimesh.Trimesh(vertices, faces)
    fine.merge_vertices()
    return fine


def _smooth_noise(points: np.ndarray, rng: np.random.Generator, frequency: float) -> np.ndarray:
    """A smooth random field in about [-1, 1]: (N,)."""
    waves = rng.normal(size=(6, 3)) * frequency
    return np.sin(points @ waves.T + rng.uniform(0, 2 * np.pi, 6)).sum(1) / np.sqrt(6.0)


def bumpy(parts: list[Part], rng: np.random.Generator) -> list[Part]:
    """The surface covered with bumps and dents."""
    amount, frequency = rng.uniform(0.06, 0.12), rng.uniform(6.0, 14.0)
    result = []
    for part in parts:
        mesh = _finely(part.mesh)
        shift = amount * _smooth_noise(mesh.vertices, rng, frequency)
        mesh.vertices = mesh.vertices + mesh.vertex_normals * shift[:, None]
        result.append(Part(mesh, part.accent))
    return result


def torn(parts: list[Part], rng: np.random.Generator) -> list[Part]:
    """One side missing, the inside visible."""
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    fine = [Part(_finely(part.mesh), part.accent) for part in parts]
    reach = np.concatenate([part.mesh.triangles_center @ direction for part in fine])
    limit = np.quantile(reach, rng.uniform(0.5, 0.75))
    for part in fine:
        wave = 0.06 * _smooth_noise(part.mesh.triangles_center, rng, 12.0)
        part.mesh.update_faces(part.mesh.triangles_center @ direction + wave < limit)
    return [part for part in fine if len(part.mesh.faces)]


def with_floaters(parts: list[Part], rng: np.random.Generator) -> list[Part]:
    """Loose lumps in the air around the object, each outside its bounds."""
    low, high = _bounds(parts)
    longest = (high - low).max()
    lumps = []
    for _ in range(rng.integers(3, 9)):
        lump = trimesh.creation.icosphere(1, 1.0)
        lump.apply_scale(rng.uniform(0.04, 0.11, 3) * longest)
        where, axis, beyond = rng.uniform(low, high), rng.integers(3), rng.uniform(0.08, 0.2) * longest
        where[axis] = low[axis] - beyond if rng.random() < 0.5 else high[axis] + beyond
        lump.apply_translation(where)
        lumps.append(Part(lump))
    return parts + lumps


def fallen_apart(parts: list[Part], rng: np.random.Generator) -> list[Part]:
    """Cut through, the pieces apart from each other."""
    low, high = _bounds(parts)
    axis = int(rng.integers(3))
    cut = low[axis] + (high - low)[axis] * rng.uniform(0.35, 0.65)
    apart = rng.uniform(-0.08, 0.08, 3) * (high - low).max()
    apart[axis] = rng.uniform(0.1, 0.2) * (high - low).max()
    result = []
    for part in parts:
        fine = _finely(part.mesh)
        above = fine.triangles_center[:, axis] > cut
        for sign, side in ((1.0, above), (-1.0, ~above)):
            if side.any():
                half = fine.submesh([np.nonzero(side)[0]], append=True)
                half.apply_translation(sign * apart)
                result.append(Part(half, part.accent))
    return result


def blob(parts: list[Part], rng: np.random.Generator) -> list[Part]:
    """A heap of lumps that is no object at all."""
    lumps = []
    centre = np.zeros(3)
    for _ in range(rng.integers(4, 9)):
        lump = _finely(trimesh.creation.icosphere(2, rng.uniform(0.15, 0.35)))
        lump.vertices = lump.vertices * (1 + 0.25 * _smooth_noise(lump.vertices, rng, 8.0))[:, None]
        lump.apply_translation(centre)
        centre = np.clip(centre + rng.normal(0, 0.22, 3), -0.4, 0.4)
        lumps.append(Part(lump))
    return lumps


def half_made(parts: list[Part], rng: np.random.Generator) -> list[Part]:
    """On the way from the starting ellipsoid to the object, and rough."""
    low, high = _bounds(parts)
    centre, half = (low + high) / 2, (high - low) / 2 * 0.95
    part_way, frequency = rng.uniform(0.45, 0.85), rng.uniform(5.0, 12.0)
    result = []
    for part in parts:
        mesh = _finely(part.mesh)
        relative = (mesh.vertices - centre) / half
        on_ellipsoid = relative / np.linalg.norm(relative, axis=1, keepdims=True).clip(1e-6) * half + centre
        moved = mesh.vertices + part_way * (on_ellipsoid - mesh.vertices)
        mesh.vertices = moved * (1 + rng.uniform(0.04, 0.1) * _smooth_noise(moved, rng, frequency))[:, None]
        result.append(Part(mesh, part.accent))
    return result


FAULTS: dict[str, Callable[[list[Part], np.random.Generator], list[Part]]] = {
    "bumpy": bumpy,
    "torn": torn,
    "floaters": with_floaters,
    "fallen apart": fallen_apart,
    "blob": blob,
    "half made": half_made,
}
NO_NOUN = ("blob", "half made")  # faults after which the noun can no longer be told


def broken_parts(noun: str, fault: str, rng: np.random.Generator) -> list[Part]:
    """The noun's parts after the fault; never empty."""
    return FAULTS[fault](parts_of(noun, rng), rng) or parts_of(noun, rng)


def _bounds(parts: list[Part]) -> tuple[np.ndarray, np.ndarray]:
    corners = np.concatenate([part.mesh.bounds for part in parts])
    return corners.min(0), corners.max(0)
