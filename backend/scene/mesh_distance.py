"""A triangle mesh of any kind as signed distances on a grid, thick enough everywhere for the grid to hold it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from .mesh_query import MeshQuery
from .volume import Resolution

HALF_THICKNESS = 0.75  # in cells: below 0.71 a wall that lies across the grid's diagonals can tear
SOLID = 0.55  # winding number from which there is certainly something behind a surface; beside a sheet it is 0.5
BESIDE = 1e-3  # in cells: how far from a corner and from the surface questions are asked, so that both have a side
JUMP = 1.01  # of an edge: ends of different sign whose distances add up to more have no surface between them


class GridDistance(NamedTuple):
    """What was made of the mesh."""

    sdf: Tensor  # (G,), negative inside, in the unit of the corners
    thickened: float  # share of the corners inside that are so only because thin parts were thickened


def grid_distance(vertices: Tensor, faces: Tensor, corners: Tensor, resolution: Resolution) -> GridDistance:
    """Signed distance to the mesh at the corners of a grid.

    vertices: (V, 3), in the corners' unit. faces: (F, 3). corners: (G, 3), in the order of flexicubes.make_grid, the
    grid's edges about 1 long. Inside is decided by the winding number, so neither holes nor crossing or reversed parts
    do harm: a body with an opening is closed by a film, and only what has no inside becomes a wall. What is
    thinner than 2 HALF_THICKNESS cells becomes that thick: thinner, the signs at the corners would not show it.
    """
    query = MeshQuery(vertices, faces)
    cell = (corners[-1] - corners[0]) / torch.tensor(resolution, device=corners.device)
    # A corner on the surface has no direction to it; none of the directions of the grid is this one.
    asked = corners + BESIDE * cell * torch.tensor([0.62, 0.55, 0.56], device=corners.device)
    found = query.nearest(asked)
    distance = torch.linalg.vector_norm(asked - found.point, dim=-1)
    sdf = torch.where(found.inside, -distance, distance)
    # From a point outside towards the body, from one inside away from the nearest surface: straight across the body.
    across = torch.where(found.inside[:, None], asked - found.point, found.point - asked)
    across = across / distance.clamp_min(1e-12)[:, None]
    half = HALF_THICKNESS * torch.linalg.vector_norm(across * cell, dim=-1)
    thick = _thickness(query, found.point, across, BESIDE * float(cell.min()))
    sdf = _with_films(sdf, corners, resolution)
    thickened = sdf - (half - thick / 2).clamp_min(0.0)
    inside = int((thickened < 0).sum())
    added = int(((thickened < 0) & (sdf >= 0)).sum())
    return GridDistance(thickened, added / max(inside, 1))


def _thickness(query: MeshQuery, surface: Tensor, across: Tensor, beside: float) -> Tensor:
    """How thick the body is at points of its surface, straight across it: (G,), 0 for a wall without an inside.

    surface: (G, 3). across: (G, 3), unit, into the body. beside: how far from the surface a side is surely one.
    """
    start = surface + beside * across
    length = query.ray_length(start, across) + beside
    return torch.where(query.nearest(start, SOLID).inside, length, 0.0)


def _with_films(sdf: Tensor, corners: Tensor, resolution: Resolution) -> Tensor:
    """The distances with openings of the mesh counted as surface, where the sign changes far from any triangle."""
    nx, ny, nz = resolution
    values, places = sdf.view(nx + 1, ny + 1, nz + 1), corners.view(nx + 1, ny + 1, nz + 1, 3)
    films = []
    for axis in range(3):
        low, high = values.narrow(axis, 0, resolution[axis]), values.narrow(axis, 1, resolution[axis])
        ends = places.narrow(axis, 0, resolution[axis]), places.narrow(axis, 1, resolution[axis])
        length = torch.linalg.vector_norm(ends[1] - ends[0], dim=-1)
        jump = ((low < 0) != (high < 0)) & (low.abs() + high.abs() > JUMP * length + 2 * BESIDE * length)
        films.append((0.5 * (ends[0] + ends[1]))[jump])
    film = torch.cat(films)
    if len(film) == 0:
        return sdf
    way, _ = cKDTree(film.cpu().numpy()).query(corners.cpu().numpy())
    size = torch.minimum(sdf.abs(), torch.from_numpy(way).to(sdf))
    return torch.where(sdf < 0, -size, size)
