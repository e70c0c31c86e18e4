"""Bodies do not pass through each other and do not float: losses for the optimisation, checks for the result.

The losses are dimensionless. Gradient reaches whatever the caller's points, distances and bounds were made from; locked
parameters are the caller's to detach.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..scene.mesh import Mesh
from ..schema import Relation
from .relations import RELATIONS, Bounds, bounds_of

Distance = Callable[[Tensor], Tensor]  # (P, 3) world, metres -> (P,) metres, negative inside
GROUND_M = 0.0  # height of the ground
INNER = (0.5, 0.1)  # of the way from a body's middle to its surface: where penetration is looked for inside


class Report(NamedTuple):
    """What the final meshes were found to be."""

    relations: list[tuple[Relation, bool]]  # each asked-for relation and whether it holds
    penetration_m3: dict[tuple[str, str], float]  # volume that two slots share, where it is above zero
    gap_m: dict[str, float]  # from each slot's lowest point down to what it should rest on; negative when sunk in


def penetration_loss(points: Tensor, sdf: Distance, size: Tensor | float) -> Tensor:
    """Mean depth of the points inside the other body, over size (metres, the pair's mean): a scalar.

    points: (P, 3) on one body's surface, world, metres. sdf: signed distance of the other body.
    """
    if points.shape[0] == 0:
        return points.sum()
    return torch.relu(-sdf(points)).mean() / size


def total_penetration_loss(
    points: Sequence[Tensor], sdfs: Sequence[Distance], sizes: Tensor, free: Sequence[int] | None = None
) -> Tensor:
    """Sum of penetration_loss over all ordered pairs of bodies whose bounds meet: a scalar.

    points: per body (P, 3) on its surface, world, metres. sdfs: per body. sizes: (S,) mean edge of each body, metres.
    free: bodies that can move, all if not given. Two others are no pair, and in a pair with one only the free body's
    size counts: a cup in the floor is in it as deep as the cup is high, however large the floor.
    Points inside each body count as well: by surface points alone two equal bodies in one place would not touch, and
    bodies deep in each other would be drawn together.
    """
    total = torch.zeros((), dtype=sizes.dtype, device=sizes.device)
    bounds = [bounds_of(p.detach()) if p.shape[0] else None for p in points]
    for a, b in itertools.permutations(range(len(points)), 2):
        movable = [n for n in (a, b) if free is None or n in free]
        if movable and _meet(bounds[a], bounds[b]):
            size = sizes[movable].detach().mean()
            total = total + penetration_loss(_with_inner_points(points[a], sdfs[a]), sdfs[b], size)
    return total


def _with_inner_points(points: Tensor, sdf: Distance) -> Tensor:
    """The surface points (P, 3), and those of them that are still in the body when drawn towards its middle."""
    middle = points.mean(0)
    inner = torch.cat([middle + depth * (points - middle) for depth in INNER])
    with torch.no_grad():
        inside = sdf(inner) < 0.0
    return torch.cat([points, inner[inside]])


def standing_on(names: Sequence[str], relations: Sequence[Relation]) -> Tensor:
    """Which slot is to stand on which: (S, S) bool, [s, o] where s stands on o. A row without any: on the ground."""
    matrix = torch.zeros(len(names), len(names), dtype=torch.bool)
    for relation in relations:
        pair = names.index(relation.subject), names.index(relation.object)
        if relation.relation == "on top of":
            matrix[pair] = True
        elif relation.relation == "under":
            matrix[pair[::-1]] = True
    return matrix


def support_gaps(bounds: Bounds, on: Tensor, ground: Tensor | float = GROUND_M) -> Tensor:
    """Height of each body's lowest point above what it should rest on: (..., S) metres, negative when sunk in.

    bounds: (..., S, 3). on: (S, S) bool from standing_on. ground: metres, or (..., S) where it differs from body to
    body. The support's height carries no gradient: a body falls onto what is below it, nothing rises to meet what hangs
    above. On several supports a body rests on the highest.
    """
    tops = bounds.high[..., 2].detach()[..., None, :].expand(*bounds.high.shape[:-1], on.shape[0])
    base = torch.where(on, tops, -torch.inf).amax(-1)
    base = torch.where(on.any(-1), base, torch.zeros_like(base) + ground)
    return bounds.low[..., 2] - base


def support_loss(
    bounds: Bounds, on: Tensor, free: Sequence[int] | None = None, ground: Tensor | float = GROUND_M
) -> Tensor:
    """Mean over the bodies of |gap below| plus depth below the ground, over the body's height: (...).

    bounds, on, ground: as in support_gaps. free: bodies that can fall, all if not given.
    """
    height = (bounds.high - bounds.low)[..., 2].detach().clamp_min(1e-6)
    buried = torch.relu(ground - bounds.low[..., 2])
    falls = (support_gaps(bounds, on, ground).abs() + buried) / height
    return (falls if free is None else falls[..., list(free)]).mean(-1)


def check_relations(bounds: Mapping[str, Bounds], relations: Sequence[Relation]) -> list[tuple[Relation, bool]]:
    """Each relation and whether it holds for the bounds (3,) of each slot; without bounds (no surface) it does not."""
    found = []
    for relation in relations:
        subject, object = bounds.get(relation.subject), bounds.get(relation.object)
        holds = False
        if subject is not None and object is not None:
            holds = bool(RELATIONS[relation.relation].check(subject, object))
        found.append((relation, holds))
    return found


def check_scene(
    meshes: Mapping[str, Mesh],
    relations: Sequence[Relation],
    fixed: Collection[str] = (),
    ground: Mapping[str, float] | None = None,
) -> Report:
    """The report on the final meshes, by slot name. Slots without faces satisfy nothing and touch nothing.

    fixed: slots that cannot move, whose gaps and penetrations among themselves are the user's own. ground: metres, by
    slot name where it is not GROUND_M.
    """
    solid = {name: mesh for name, mesh in meshes.items() if mesh.faces.shape[0] > 0}
    bounds = {name: bounds_of(mesh.vertices[mesh.faces.reshape(-1)].detach()) for name, mesh in solid.items()}
    pairs = [(a, b) for a, b in itertools.combinations(solid, 2) if not (a in fixed and b in fixed)]
    shared = {(a, b): penetration_volume(solid[a], solid[b]) for a, b in pairs}
    gaps: dict[str, float] = {}
    if solid:
        known = [r for r in relations if r.subject in solid and r.object in solid]
        stacked = Bounds(*(torch.stack(ends) for ends in zip(*bounds.values(), strict=True)))
        heights = torch.tensor([(ground or {}).get(name, GROUND_M) for name in solid]).to(stacked.low)
        gaps = dict(zip(solid, support_gaps(stacked, standing_on(list(solid), known), heights).tolist(), strict=True))
    gaps = {name: gap for name, gap in gaps.items() if name not in fixed}
    return Report(check_relations(bounds, relations), {pair: v for pair, v in shared.items() if v > 0.0}, gaps)


def penetration_volume(mesh_a: Mesh, mesh_b: Mesh, resolution: int = 48) -> float:
    """Volume that two closed meshes share, in cubic metres.

    Counted on a grid over the region where their bounds meet: resolution columns along x and y, four times as many
    samples along each column. A sample is inside a mesh when its winding number along the column is above zero, so
    bodies of several pieces that pass through themselves are right. (trimesh's `contains` needs rtree or embree.)
    """
    one, other = bounds_of(mesh_a.vertices.detach()), bounds_of(mesh_b.vertices.detach())
    region = Bounds(torch.maximum(one.low, other.low).double(), torch.minimum(one.high, other.high).double())
    extent = region.high - region.low
    if (extent <= 0.0).any():
        return 0.0
    counts = torch.tensor([resolution, resolution, 4 * resolution], device=extent.device)
    inside = _inside(mesh_a, region, resolution) & _inside(mesh_b, region, resolution)
    return float(inside.sum() * (extent / counts).prod())


def _inside(mesh: Mesh, region: Bounds, resolution: int) -> Tensor:
    """Whether the mesh encloses each sample of the region: (resolution**2, 4 * resolution) bool."""
    extent, levels = region.high - region.low, 4 * resolution
    # Heights in samples; columns in cells, off their middles by irrational amounts, so that no column meets an edge of
    # a regular mesh.
    scale = torch.tensor([resolution, resolution, levels], device=extent.device) / extent
    shift = torch.tensor([0.5141421356, 0.4826794919, 0.5], dtype=torch.float64, device=extent.device)
    triangles = ((mesh.vertices.detach().double() - region.low) * scale - shift)[mesh.faces]
    column, height, sign = _crossings(triangles, resolution)
    winding = torch.zeros(resolution**2, levels + 1, dtype=torch.int64, device=extent.device)
    # A crossing counts for all samples below it, that is, for the first ones.
    below = (height + 1.0).floor().long().clamp(0, levels)
    winding.index_put_((column, below), sign, accumulate=True)
    return winding.flip(-1).cumsum(-1).flip(-1)[:, 1:] > 0


def _crossings(triangles: Tensor, resolution: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where the vertical lines at integers 0 .. resolution - 1 pass triangles (F, 3, 3): line index, height, sign.

    The sign is +1 where the face looks up, -1 where it looks down.
    """
    first = triangles[..., :2].amin(1).ceil().long().clamp_min(0)
    last = triangles[..., :2].amax(1).floor().long().clamp_max(resolution - 1)
    counts = (last - first + 1).clamp_min(0)  # (F, 2) lines in the triangle's bounds
    lines = counts.prod(-1)
    face = torch.repeat_interleave(lines)
    number = torch.arange(face.shape[0], device=face.device) - (lines.cumsum(0) - lines)[face]
    x, y = first[face, 0] + number % counts[face, 0], first[face, 1] + number // counts[face, 0]
    a, b, c = (triangles[face, :, :2] - torch.stack([x, y], -1)[:, None]).unbind(1)
    weights = torch.stack([_cross(b, c), _cross(c, a), _cross(a, b)], -1)  # areas opposite each corner
    hit = ((weights > 0.0).all(-1) | (weights < 0.0).all(-1)).nonzero()[:, 0]
    weights, total = weights[hit], weights[hit].sum(-1)
    height = (weights * triangles[face[hit], :, 2]).sum(-1) / total
    return (x * resolution + y)[hit], height, total.sign().long()


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _meet(one: Bounds | None, other: Bounds | None) -> bool:
    return one is not None and other is not None and bool(((one.low <= other.high) & (other.low <= one.high)).all())
