"""FlexiCubes from the paper's equations, one cube and one edge at a time in float64, without tables.

A cube's corners fall into regions: inside corners hang together along the cube's edges, outside corners along edges and
face diagonals. Each pair of touching regions is parted by one patch of surface, so a crossing edge's patch is the pair
of its ends' regions. In a twisted pair of cubes the two kinds of corners change places.
"""

from __future__ import annotations

from itertools import product

import numpy as np

CORNERS = [np.array((c & 1, c >> 1 & 1, c >> 2 & 1)) for c in range(8)]


def slow_flexicubes(resolution, sdf, positions, weights):
    """Vertices (V, 3), faces (F, 3) and mean L_dev of the training mesh.

    sdf: (nx + 1, ny + 1, nz + 1). positions: that + (3,). weights: (nx, ny, nz, 21) raw.
    """
    cubes = list(product(*(range(n) for n in resolution)))
    joined = {cube: _joined_side(cube, resolution, sdf) for cube in cubes}
    vertices, deviations, dual_at = [], [], {}
    for cube in cubes:
        for edges in _patches(cube, sdf, joined[cube]):
            vertex, deviation = _dual_vertex(cube, edges, sdf, positions, weights[cube])
            dual_at.update({(cube, _grid_edge(cube, edge)): len(vertices) for edge in edges})
            vertices.append(vertex)
            deviations += deviation
    faces = []
    for axis, low in product(range(3), product(*(range(n + 1) for n in resolution))):
        high = tuple(np.array(low) + np.eye(3, dtype=int)[axis])
        ring = _ring(low, axis)
        if high[axis] > resolution[axis] or not set(ring) <= set(cubes) or (sdf[low] < 0) == (sdf[high] < 0):
            continue
        if sdf[low] < 0:
            ring = ring[::-1]
        quad = [dual_at[cube, (low, high)] for cube in ring]
        faces += [(quad[k], quad[(k + 1) % 4], len(vertices)) for k in range(4)]
        vertices.append(_middle([vertices[k] for k in quad], [weights[cube][20] for cube in ring]))
    shape = (-1, 3)
    return np.array(vertices).reshape(shape), np.array(faces, int).reshape(shape), float(np.mean(deviations or 0))


def _edges():
    return [(a, b) for a, b in product(range(8), range(8)) if a < b and abs(CORNERS[a] - CORNERS[b]).sum() == 1]


def _weight_order(edge):
    """Number of an edge among the beta: by axis, then by its place on the lower, then the higher other axis."""
    low, high = (CORNERS[c] for c in edge)
    axis = int((high - low).argmax())
    i, j = (low[a] for a in range(3) if a != axis)
    return 4 * axis + i + 2 * j


def _grid_edge(cube, edge):
    return tuple(tuple((np.array(cube) + CORNERS[c]).tolist()) for c in edge)


def _inside(cube, sdf):
    return [bool(sdf[tuple(np.array(cube) + c)] < 0) for c in CORNERS]


def _regions(inside, joined):
    """For each corner a name of its region; corners of the side `joined` also hang together along face diagonals."""
    region = list(range(8))
    for a, b in product(range(8), range(8)):
        steps = abs(CORNERS[a] - CORNERS[b]).sum()
        if inside[a] == inside[b] and (steps == 1 or (steps == 2 and inside[a] == joined)):
            region = [region[a] if r == region[b] else r for r in region]
    return region


def _patches(cube, sdf, joined):
    """Lists of the cube's crossing edges, one list a patch."""
    inside = _inside(cube, sdf)
    region = _regions(inside, joined)
    found = {}
    for a, b in _edges():
        if inside[a] != inside[b]:
            found.setdefault(frozenset((region[a], region[b])), []).append((a, b))
    return list(found.values())


def _twisted_neighbour(cube, sdf):
    """The cube beyond the face in which all four corners alternate and both inside ones are of one region, or None."""
    inside = _inside(cube, sdf)
    region = _regions(inside, joined=False)
    for axis, side in product(range(3), (0, 1)):
        face = [c for c in range(8) if CORNERS[c][axis] == side]  # first and last are diagonal
        ins = [c for c in face if inside[c]]
        alternates = len(ins) == 2 and abs(CORNERS[ins[0]] - CORNERS[ins[1]]).sum() == 2
        if alternates and region[ins[0]] == region[ins[1]]:
            return tuple((np.array(cube) + (2 * side - 1) * np.eye(3, dtype=int)[axis]).tolist())
    return None


def _joined_side(cube, resolution, sdf):
    """Whether in this cube inside corners (True) hang together along diagonals, or outside ones (False)."""
    other = _twisted_neighbour(cube, sdf)
    if other is None or any(not 0 <= x < n for x, n in zip(other, resolution, strict=True)):
        return False
    return _twisted_neighbour(other, sdf) is not None


def _dual_vertex(cube, edges, sdf, positions, weights):
    """Equation 6's vertex over equation 5's crossings, and the deviations of its edges (equation 8)."""
    beta, alpha = np.tanh(weights[:12]) * 0.99 + 1, np.tanh(weights[12:20]) * 0.99 + 1
    total, share, plain = 0, 0, []
    for edge in edges:
        (x_a, x_b), (s_a, s_b) = ([field[end] for end in _grid_edge(cube, edge)] for field in (positions, sdf))
        w_a, w_b = s_a * alpha[edge[0]], s_b * alpha[edge[1]]
        total = total + beta[_weight_order(edge)] * (x_a * w_b - x_b * w_a) / (w_b - w_a)
        share = share + beta[_weight_order(edge)]
        plain.append((x_a * s_b - x_b * s_a) / (s_b - s_a))
    vertex = total / share
    distances = [np.linalg.norm(vertex - x) for x in plain]
    return vertex, [abs(d - np.mean(distances)) for d in distances]


def _ring(low, axis):
    """The four cubes around an edge, counter-clockwise seen from its lower end."""
    b, c = (axis + 1) % 3, (axis + 2) % 3
    ring = []
    for i, j in ((1, 1), (1, 0), (0, 0), (0, 1)):
        cube = list(low)
        cube[b] -= i
        cube[c] -= j
        ring.append(tuple(cube))
    return ring


def _middle(corners, raw):
    gamma = 0.99 / (1 + np.exp(-np.array(raw))) + 0.005
    g02, g13 = gamma[0] * gamma[2], gamma[1] * gamma[3]
    return (g02 * (corners[0] + corners[2]) + g13 * (corners[1] + corners[3])) / 2 / (g02 + g13)
