"""FlexiCubes (arXiv 2308.05371) on a regular grid, in plain torch: a differentiable surface from a scalar field.

The surface is a dual marching cubes mesh. Every grid edge whose ends differ in sign gives a quad between the four cubes
around it; every cube on the surface gives one dual vertex for each of its surface patches. Because the grid is regular,
the cubes around an edge follow from its index, and only edges and cubes on the surface are worked on.

The flat index of corner (ix, iy, iz) is (ix (ny + 1) + iy) (nz + 1) + iz, of a cube (ix ny + iy) nz + iz.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from backend.scene.flexicubes_tables import CubeTables, cube_tables

WEIGHT_SCALE = 0.99  # keeps alpha and beta in [0.01, 1.99] and gamma in [0.005, 0.995]
ALPHA, GAMMA = 12, 20  # first column of alpha and of gamma in the 21 weights; beta comes first


class Grid(NamedTuple):
    """A box of cubes over [-1/2, 1/2]^3, with nx, ny, nz cubes on its axes."""

    resolution: tuple[int, int, int]  # nx, ny, nz
    vertices: Tensor  # (G, 3) float32, corner positions
    cubes: Tensor  # (C, 8) int64, corners of each cube, x fastest
    tables: CubeTables


class Surface(NamedTuple):
    """Triangles of the surface between sdf < 0 (inside) and sdf >= 0 (outside)."""

    vertices: Tensor  # (V, 3) float32, box-local, each axis in [-1/2, 1/2] plus the deformation
    faces: Tensor  # (F, 3) int64, counter-clockwise seen from outside
    l_dev: Tensor  # scalar, mean of L_dev (equation 8); 0 for an empty surface
    features: Tensor | None  # (V, C), interpolated like the vertices


class Crossings(NamedTuple):
    """The E grid edges whose ends differ in sign, and the cubes around them."""

    low: Tensor  # (E,) int64, corner at the lower end
    high: Tensor  # (E,) int64, corner at the upper end
    cubes: Tensor  # (E, 4) int64, the cubes around the edge in ring order; 0 where the grid ends
    cube_edges: Tensor  # (E, 4) int64, the edge's number in each of these cubes
    cube_corners: Tensor  # (E, 4, 2) int64, numbers in each cube of the corners at the lower and upper end
    valid: Tensor  # (E, 4) bool, whether there is such a cube
    forward: Tensor  # (E,) bool, whether ring order is counter-clockwise seen from outside


def make_grid(resolution: tuple[int, int, int], device: torch.device | str) -> Grid:
    """The grid with `resolution` cubes on each axis (1 or more)."""
    assert len(resolution) == 3 and min(resolution) >= 1, f"resolution {resolution}"
    nx, ny, nz = resolution
    axes = [torch.arange(n + 1, device=device) / n - 0.5 for n in resolution]
    vertices = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    flat = torch.arange(vertices.shape[0], device=device).reshape(nx + 1, ny + 1, nz + 1)
    first_cube = flat[:2, :2, :2].permute(2, 1, 0).reshape(-1)  # x fastest; the others are moved copies of it
    cubes = flat[:nx, :ny, :nz].reshape(-1, 1) + first_cube
    return Grid((nx, ny, nz), vertices, cubes, cube_tables(device))


def extract(
    grid: Grid,
    sdf: Tensor,
    deformation: Tensor,
    weights: Tensor,
    training: bool = True,
    features: Tensor | None = None,
) -> Surface:
    """The surface of the field, differentiable in sdf, deformation, weights and features.

    sdf: (G,), negative inside. deformation: (G, 3), box-local offsets of the corners. weights: (C, 21), raw: 12 beta
    in edge order, 8 alpha in corner order, 1 gamma. features: (G, K), interpolated to the vertices. In training each
    quad is four triangles around a middle vertex, so that gamma has a gradient; else it is two. Where the surface
    leaves the grid it stays open. An empty or full field gives no vertices and no faces.
    """
    inside = sdf.detach() < 0
    cases = _cases(grid, inside)
    # One comparison finds all that are neither 0 (outside) nor 255 (inside), because 255 + 1 wraps to 0.
    on_surface = (cases + 1 > 1).nonzero()[:, 0]
    cases = _resolve_twists(grid, cases, on_surface)
    crossings = _find_crossings(grid, inside, cases, on_surface)
    dual, dual_count = _number_duals(grid, cases, on_surface, crossings)
    edge_weights, gamma = _normalised_weights(weights, crossings)
    ends = _end_attributes(grid, deformation, features, crossings)
    attributes, l_dev = _dual_vertices(sdf, ends, edge_weights, crossings, dual, dual_count)
    attributes, faces = _quads(attributes, gamma, crossings, dual, training)
    return Surface(attributes[:, :3], faces, l_dev, None if features is None else attributes[:, 3:])


def _cases(grid: Grid, inside: Tensor) -> Tensor:
    """Case of each cube before twists are resolved: (C,) uint8. Corner bits are gathered one axis at a time."""
    nx, ny, nz = grid.resolution
    bits = inside.reshape(nx + 1, ny + 1, nz + 1).to(torch.uint8)
    bits = bits[:-1] | bits[1:] << 1
    bits = bits[:, :-1] | bits[:, 1:] << 2
    bits = bits[:, :, :-1] | bits[:, :, 1:] << 4
    return bits.reshape(-1)


def _resolve_twists(grid: Grid, cases: Tensor, on_surface: Tensor) -> Tensor:
    """Cases as (C,) uint8, complemented in pairs of cubes that meet at a face twisted on both sides."""
    _, ny, nz = grid.resolution
    face = grid.tables.twisted_face[cases[on_surface].long()]
    twisted = (face >= 0).nonzero()[:, 0]
    cube, face = on_surface[twisted], face[twisted]
    axis, step = face // 2, face % 2 * 2 - 1
    limit = torch.tensor(grid.resolution, device=cases.device)[axis]
    stride = torch.tensor((ny * nz, nz, 1), device=cases.device)[axis]
    place = cube // stride % limit + step
    has_neighbour = (place >= 0) & (place < limit)
    neighbour = torch.where(has_neighbour, cube + step * stride, cube)
    both = cube[has_neighbour & (grid.tables.twisted_face[cases[neighbour].long()] >= 0)]
    return cases.index_copy(0, both, 255 - cases[both])


def _find_crossings(grid: Grid, inside: Tensor, cases: Tensor, on_surface: Tensor) -> Crossings:
    """All crossing edges, each found once, through the cube that owns it."""
    _, ny, nz = grid.resolution
    tables, device = grid.tables, cases.device
    resolution = torch.tensor(grid.resolution, device=device)
    place = torch.stack((on_surface // (ny * nz), on_surface // nz % ny, on_surface % nz), -1)
    at_end = ((place == resolution - 1) * torch.tensor((1, 2, 4), device=device)).sum(1)
    owner, edge = (tables.crossing[cases[on_surface].long()] & tables.owned[at_end]).nonzero().unbind(1)
    low, high = grid.cubes[on_surface[owner, None], tables.edge_corners[edge]].unbind(1)

    around = place[owner, None] + tables.ring_offsets[edge]
    valid = ((around >= 0) & (around < resolution)).all(-1)
    x, y, z = around.unbind(-1)
    cubes = torch.where(valid, (x * ny + y) * nz + z, 0)
    ring_edges = tables.ring_edges[edge]
    # Ring order turns the other way for edges along y (see CubeTables.ring_offsets).
    forward = inside[high] ^ (edge // 4 == 1)
    return Crossings(low, high, cubes, ring_edges, tables.edge_corners[ring_edges], valid, forward)


def _number_duals(grid: Grid, cases: Tensor, on_surface: Tensor, crossings: Crossings) -> tuple[Tensor, int]:
    """Dual vertex of each cube around each crossing edge, (E, 4) int64, and the number of dual vertices.

    Numbers follow the cubes' order. Where there is no cube the number is 0 and stands for nothing.
    """
    count = grid.tables.patch_count[cases[on_surface].long()]
    first = torch.empty(cases.shape, dtype=torch.int64, device=cases.device)
    first[on_surface] = count.cumsum(0) - count
    patch = grid.tables.patch_of_edge[cases[crossings.cubes].long(), crossings.cube_edges]
    return torch.where(crossings.valid, first[crossings.cubes] + patch, 0), int(count.sum())


def _end_attributes(grid: Grid, deformation: Tensor, features: Tensor | None, crossings: Crossings) -> Tensor:
    """Position, then features, at both ends of each crossing edge: (2, E, 3 + K)."""
    ends = torch.cat((crossings.low, crossings.high))
    attributes = grid.vertices[ends] + deformation.index_select(0, ends)
    if features is not None:
        attributes = torch.cat((attributes, features.index_select(0, ends)), 1)
    return attributes.reshape(2, -1, attributes.shape[1])


def _dual_vertices(
    sdf: Tensor,
    ends: Tensor,
    edge_weights: tuple[Tensor, Tensor, Tensor],
    crossings: Crossings,
    dual: Tensor,
    dual_count: int,
) -> tuple[Tensor, Tensor]:
    """Attributes of the dual vertices, (V, 3 + K), and mean L_dev (equations 5, 6 and 8)."""
    s_low, s_high = sdf.index_select(0, torch.cat((crossings.low, crossings.high))).reshape(2, -1)
    beta, alpha_low, alpha_high = edge_weights
    scaled_low, scaled_high = s_low[:, None] * alpha_low, s_high[:, None] * alpha_high
    along = scaled_low / (scaled_low - scaled_high)  # (E, 4), one weighted crossing for each cube around the edge
    step = ends[1] - ends[0]
    crossing = ends[0][:, None] + along[:, :, None] * step[:, None]

    terms = torch.cat((crossing * beta[:, :, None], beta[:, :, None]), 2).reshape(-1, ends.shape[2] + 1)
    target = dual.reshape(-1)
    sums = terms.new_zeros(dual_count, terms.shape[1]).index_add(0, target, terms)
    attributes = sums[:, :-1] / sums[:, -1:]

    unweighted = ends[0, :, :3] + (s_low / (s_low - s_high))[:, None] * step[:, :3]
    l_dev = _mean_deviation(attributes[:, :3], unweighted, target, crossings.valid)
    return attributes, l_dev


def _normalised_weights(weights: Tensor, crossings: Crossings) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """beta and the alphas of the edge's two ends, and gamma, for each cube around each crossing edge: all (E, 4).

    beta is 0 where there is no cube.
    """
    corners = ALPHA + crossings.cube_corners
    edges = crossings.cube_edges
    columns = torch.stack((edges, corners[..., 0], corners[..., 1], torch.full_like(edges, GAMMA)))
    index = (crossings.cubes * weights.shape[1] + columns).reshape(-1)
    raw = weights.reshape(-1).index_select(0, index).reshape(columns.shape)
    beta, alpha_low, alpha_high = (torch.tanh(raw[:3]) * WEIGHT_SCALE + 1).unbind()
    gamma = torch.sigmoid(raw[3]) * WEIGHT_SCALE + (1 - WEIGHT_SCALE) / 2
    return (beta * crossings.valid, alpha_low, alpha_high), gamma


def _mean_deviation(vertices: Tensor, crossing: Tensor, dual: Tensor, valid: Tensor) -> Tensor:
    """Mean over all pairs of dual vertex and edge of | distance to the crossing - the vertex's mean distance | (eq. 8).

    vertices: (V, 3). crossing: (E, 3), without alpha. dual: (4 E,) numbers of vertices. valid: (E, 4).
    """
    counted = valid.reshape(-1).to(vertices.dtype)
    offset = crossing[:, None] - vertices.index_select(0, dual).reshape(-1, 4, 3)
    distance = torch.linalg.vector_norm(offset, dim=-1).reshape(-1)
    zero = vertices.new_zeros(vertices.shape[0])
    mean = zero.index_add(0, dual, distance * counted) / zero.index_add(0, dual, counted)
    deviation = (distance - mean.index_select(0, dual)).abs() * counted
    return deviation.sum() / counted.sum().clamp(min=1)


def _quads(
    attributes: Tensor, gamma: Tensor, crossings: Crossings, dual: Tensor, training: bool
) -> tuple[Tensor, Tensor]:
    """Attributes with the quads' middle vertices appended in training, and the faces (section 4.3).

    An edge has a quad if all four cubes around it exist.
    """
    whole = crossings.valid.all(1).nonzero()[:, 0]
    ring, gamma = dual[whole], gamma.index_select(0, whole)
    forward = crossings.forward[whole, None]
    quad = torch.where(forward, ring, ring.flip(1))
    gamma_02, gamma_13 = gamma[:, 0] * gamma[:, 2], gamma[:, 1] * gamma[:, 3]
    if not training:
        # Turning the ring round exchanges the diagonals.
        cut_02 = torch.where(forward[:, 0], gamma_02 > gamma_13, gamma_13 > gamma_02)
        faces = torch.where(cut_02[:, None], quad[:, [0, 1, 2, 0, 2, 3]], quad[:, [0, 1, 3, 3, 1, 2]])
        return attributes, faces.reshape(-1, 3)
    corners = attributes.index_select(0, ring.reshape(-1)).reshape(-1, 4, attributes.shape[1])
    share = (gamma_02 / (gamma_02 + gamma_13))[:, None]
    middle = torch.lerp(corners[:, 1] + corners[:, 3], corners[:, 0] + corners[:, 2], share) / 2
    number = torch.arange(quad.shape[0], device=quad.device) + attributes.shape[0]
    faces = torch.stack((quad, quad.roll(-1, 1), number[:, None].expand(-1, 4)), -1).reshape(-1, 3)
    return torch.cat((attributes, middle)), faces
