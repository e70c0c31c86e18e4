"""The shape of one object: a signed distance on a regular grid over its box, and what FlexiCubes makes of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .initial import Start, starting_distance
from .isosurface import Grid, Surface, extract, make_grid
from .volume import Resolution, border, cells_per_axis, sample

LEAST_CELLS = 8  # cubes along an edge of the box, however short
WEIGHTS = 21  # FlexiCubes' weights of a cube
RIM = 0.25  # least distance outside at the grid's outermost corners, in shortest cells: closes every surface
LIMIT = 0.95  # largest move of a corner that refining keeps, in half cells; 1 is out of tanh's reach
INVERSIONS = 2  # steps that undo the deformation; they halve the error of one step, more bring nothing
GONE = 0.001  # share of the box's volume under which an object has vanished
HEALTHY = 0.004  # and from which its state is worth going back to


class Shape(nn.Module):
    """Signed distances and FlexiCubes parameters over a box, all box-local: placement and colour are kept elsewhere."""

    sdf: Tensor  # (G,) signed distance in units of the box's longest edge, positive outside
    deformation: Tensor  # (G, 3) raw; half a cell times its tanh is how far a corner is moved
    weights: Tensor  # (C, 21) raw weights of FlexiCubes
    last_good: Tensor  # (G,) the sdf that last had a healthy surface
    given: Tensor  # (G,) the sdf it started from; only where `start` is "given"
    rim: Tensor  # (G,) bool, True at the grid's outermost corners
    cells: Tensor  # (3,) int64, cubes along x, y, z; a tensor, so that a checkpoint carries it
    grid: Grid  # of this resolution
    proportions: Tensor  # (3,) edges of the box over the longest; local times this is in the unit of `sdf`

    def __init__(
        self, size: tuple[float, float, float], resolution: int, device: torch.device, start: Start = "ellipsoid"
    ) -> None:
        """`resolution` counts cubes along the longest edge of a box of `size`; the others follow in proportion.

        With the start "given" there is no body before `begin_with` or a checkpoint.
        """
        super().__init__()
        self.size, self.start, self.device = size, start, device
        edges = torch.tensor(size, dtype=torch.float64)
        self.register_buffer("proportions", (edges / edges.max()).float().to(device), persistent=False)
        self._allocate(cells_per_axis(size, resolution, LEAST_CELLS))
        with torch.no_grad():
            self.sdf.copy_(self._starting_sdf())
            self.last_good.copy_(self.sdf)

    @torch.no_grad()
    def begin_with(self, sdf: Tensor) -> None:
        """Begin with the body of these distances (G,), in longest edges, and go back to it when it vanishes."""
        assert self.start == "given" and sdf.shape == self.sdf.shape, sdf.shape
        for values in (self.given, self.sdf, self.last_good):
            values.copy_(sdf)

    @property
    def resolution(self) -> Resolution:
        """Cubes along x, y, z."""
        return self.grid.resolution

    @property
    def cell(self) -> Tensor:
        """Spacing of the grid: (3,) in units of the longest edge."""
        return self.proportions / self.cells

    def field(self) -> Tensor:
        """Signed distance at the corners, outside at the outermost: (nx + 1, ny + 1, nz + 1), longest edges."""
        return self._volume(self._closed(self.sdf))[0]

    def offsets(self) -> Tensor:
        """How far each corner is moved: (G, 3) box-local, less than half a cell; 0 at the outermost corners."""
        return torch.tanh(self.deformation) * (0.5 / self.cells) * ~self.rim[:, None]

    def surface(self, training: bool) -> Surface:
        """The closed surface where the signed distance is 0."""
        return extract(self.grid, self._closed(self.sdf), self.offsets(), self.weights, training)

    def distance(self, local: Tensor) -> Tensor:
        """Signed distance at points of the box: (P,), in longest edges. local: (P, 3) in [-1/2, 1/2]."""
        return self._read(self._closed(self.sdf), local)

    def vanished(self, surface: Surface) -> bool:
        """True if hardly anything is left of the object."""
        return enclosed_volume(surface) < GONE

    def remember(self, surface: Surface) -> None:
        """Keep the present sdf to go back to, if it has a healthy surface."""
        if enclosed_volume(surface) >= HEALTHY:
            self.last_good.copy_(self.sdf.detach())

    @torch.no_grad()
    def revive(self) -> None:
        """Bring a vanished object back, halfway between its last healthy state and the starting body.

        The optimiser's momentum, which drove it away, is the caller's to clear.
        """
        start = self._starting_sdf()
        blend = 0.5 * (self.last_good + start)
        inside = (self._closed(blend) < 0).float().mean()
        self.sdf.copy_(blend if inside >= HEALTHY else start)
        self.deformation.zero_()
        self.weights.zero_()

    @torch.no_grad()
    def refine(self, resolution: int) -> None:
        """Go to another, usually finer, grid with the same surface. The parameters are new: make a new optimiser."""
        cells = cells_per_axis(self.size, resolution, LEAST_CELLS)
        if cells == self.resolution:
            return
        finer = make_grid(cells, self.device)
        half_cell = 0.5 / torch.tensor(cells, device=self.device)
        move = sample(self._volume(self.offsets()), finer.vertices).clamp(-LIMIT * half_cell, LIMIT * half_cell)
        move = move * ~border(cells, self.device).flatten()[:, None]
        sdf = self._read(self._closed(self.sdf), finer.vertices + move)
        last_good = self._read(self._closed(self.last_good), finer.vertices + move)
        given = sample(self._volume(self.given), finer.vertices)[:, 0] if self.start == "given" else None
        weights = self.weights.T.view(1, WEIGHTS, *self.resolution)
        weights = nn.functional.interpolate(weights, size=cells, mode="trilinear")
        self._allocate(cells)
        self.sdf.copy_(sdf)
        self.last_good.copy_(last_good)
        if given is not None:
            self.given.copy_(given)
        self.deformation.copy_(torch.atanh(move / half_cell))
        self.weights.copy_(weights.view(WEIGHTS, -1).T)

    def _allocate(self, cells: Resolution) -> None:
        """Make the grid and zero parameters for it."""
        self.grid = make_grid(cells, self.device)
        corners, cubes = len(self.grid.vertices), len(self.grid.cubes)
        self.register_buffer("rim", border(cells, self.device).flatten(), persistent=False)
        self.register_buffer("cells", torch.tensor(cells, device=self.device))
        self.register_buffer("last_good", torch.zeros(corners, device=self.device))
        if self.start == "given":
            self.register_buffer("given", torch.zeros(corners, device=self.device))
        self.sdf = nn.Parameter(torch.zeros(corners, device=self.device))
        self.deformation = nn.Parameter(torch.zeros(corners, 3, device=self.device))
        self.weights = nn.Parameter(torch.zeros(cubes, WEIGHTS, device=self.device))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take on the resolution of the checkpoint before torch copies its tensors in."""
        stored = state_dict.get(prefix + "cells")
        if stored is not None and tuple(stored.tolist()) != self.resolution:
            nx, ny, nz = stored.tolist()
            self._allocate((nx, ny, nz))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _starting_sdf(self) -> Tensor:
        if self.start == "given":
            return self.given.clone()
        return starting_distance(self.start, self.grid.vertices * self.proportions, self.proportions)

    def _closed(self, sdf: Tensor) -> Tensor:
        """The sdf with its outermost corners outside: (G,)."""
        return torch.where(self.rim, sdf.clamp_min(RIM * self.cell.min()), sdf)

    def _volume(self, values: Tensor) -> Tensor:
        """Corner values (G,) or (G, C) as (C, nx + 1, ny + 1, nz + 1)."""
        nx, ny, nz = self.resolution
        return values.reshape(len(values), -1).T.reshape(-1, nx + 1, ny + 1, nz + 1)

    def _read(self, values: Tensor, local: Tensor) -> Tensor:
        """Corner values (G,) between the corners: (P,).

        A corner's value belongs to where the corner was moved, so the undeformed grid is read at the point u with
        u + move(u) = local, found by a fixed-point iteration.
        """
        moves = self._volume(self.offsets())
        undeformed = local
        for _ in range(INVERSIONS):
            undeformed = local - sample(moves, undeformed)
        return sample(self._volume(values), undeformed)[:, 0]


def enclosed_volume(surface: Surface) -> float:
    """Share of the box inside the surface; 0 for an empty one (divergence theorem)."""
    a, b, c = surface.vertices.detach()[surface.faces].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6.0)
