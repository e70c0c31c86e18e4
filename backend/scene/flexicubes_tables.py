"""The lookup tables of dual marching cubes, derived from the cube rather than typed in.

Numbering, used by all of FlexiCubes here: axes 0, 1, 2 are x, y, z.
- corner c of a cube lies at (c & 1, c >> 1 & 1, c >> 2 & 1);
- edge 4 a + i + 2 j runs along axis a, at i on the lower and j on the higher of the two other axes;
- face 2 a + s is perpendicular to axis a, at its lower (s = 0) or upper (s = 1) end;
- case: bit c is set where corner c is inside the surface (sdf < 0).

A patch is a disk of surface inside the cube, bounded by one loop of crossing edges; it gives one dual vertex. Within a
face crossed at four edges, the inside corners are separated, which is one rule for both of the face's cubes, so that
neighbouring cubes always agree. Where the two lines in such a face belong to one patch on both its sides, the two dual
vertices would share an edge of four faces. Both cubes then use the complementary case, which joins the inside corners
of that face instead (cases C16 and C19; arXiv 2308.05371, supplement section 1.3).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor


class CubeTables(NamedTuple):
    """What a cube's case says about its surface, and which cubes meet at an edge of the grid."""

    edge_corners: Tensor  # (12, 2) int64, corners at the lower and upper end of each edge
    patch_of_edge: Tensor  # (256, 12) int64, patch that each edge belongs to; 0 also where the edge does not cross
    patch_count: Tensor  # (256,) int64, 0..4 patches
    twisted_face: Tensor  # (256,) int64, the face whose two lines belong to one patch, or -1
    crossing: Tensor  # (256, 12) bool, whether the surface crosses the edge
    owned: Tensor  # (8, 12) bool, whether a cube counts the edge as its own, if bit a is set where it is last on axis a
    ring_offsets: Tensor  # (12, 4, 3) int64, the four cubes around each edge of a cube, relative to that cube
    ring_edges: Tensor  # (12, 4) int64, number of the edge in each of these cubes


@cache
def edges() -> tuple[tuple[int, int], ...]:
    """Corners at the two ends of each of the 12 edges, the lower one first."""
    pairs = []
    for axis in range(3):
        low_axis, high_axis = other_axes(axis)
        for j in (0, 1):
            for i in (0, 1):
                corner = i << low_axis | j << high_axis
                pairs.append((corner, corner | 1 << axis))
    return tuple(pairs)


def other_axes(axis: int) -> tuple[int, int]:
    """The two axes other than `axis`, in ascending order."""
    low, high = (a for a in range(3) if a != axis)
    return low, high


@cache
def face_edges(face: int) -> tuple[int, ...]:
    """The four edges that bound a face."""
    axis, side = divmod(face, 2)
    return tuple(e for e, ends in enumerate(edges()) if all((c >> axis & 1) == side for c in ends))


def face_lines(case: int, face: int) -> list[tuple[int, int]]:
    """The surface's lines in one face, each as the two edges that it joins: 0, 1 or 2 lines."""
    crossing = [e for e in face_edges(face) if is_crossing(case, e)]
    if len(crossing) < 4:
        return [(crossing[0], crossing[1])] if crossing else []
    lines = []
    for corner in sorted({c for e in crossing for c in edges()[e] if case >> c & 1}):
        first, second = (e for e in crossing if corner in edges()[e])
        lines.append((first, second))
    return lines


def is_crossing(case: int, edge: int) -> bool:
    """Whether the surface crosses the edge: one of its ends is inside and the other outside."""
    low, high = edges()[edge]
    return (case >> low & 1) != (case >> high & 1)


def patches(case: int) -> list[int]:
    """For each edge the number of its patch, or -1 where the surface does not cross it."""
    label = [edge if is_crossing(case, edge) else -1 for edge in range(12)]
    for face in range(6):
        for first, second in face_lines(case, face):
            joined, gone = sorted((label[first], label[second]))
            label = [joined if x == gone else x for x in label]
    order = sorted(set(label) - {-1})
    return [order.index(x) if x >= 0 else -1 for x in label]


def twisted_face(case: int) -> int:
    """The face whose two lines belong to one patch, or -1. No case has two of them."""
    patch = patches(case)
    found = []
    for face in range(6):
        lines = face_lines(case, face)
        if len(lines) == 2 and patch[lines[0][0]] == patch[lines[1][0]]:
            found.append(face)
    assert len(found) <= 1, f"case {case} has several twisted faces: {found}"
    return found[0] if found else -1


@cache
def _cases() -> tuple[list[list[int]], list[int]]:
    """Patches and twisted faces of all 256 cases, worked out once."""
    return [patches(case) for case in range(256)], [twisted_face(case) for case in range(256)]


def owns(last: int, edge: int) -> bool:
    """Whether the edge is the cube's own, so that each edge of a grid has one owner.

    It lies at the lower ends of the cube, or at an upper end where the cube is the grid's last (bit a of `last`).
    """
    low, _ = edges()[edge]
    return all(last >> axis & 1 for axis in range(3) if low >> axis & 1)


def _rings() -> tuple[list[list[list[int]]], list[list[int]]]:
    """For each edge of a cube, the offsets of the four cubes around it and the edge's number in each of these.

    Their centres go counter-clockwise seen from the edge's lower end for x and z, from its upper end for y.
    """
    offsets, numbers = [], []
    for edge, (corner, _) in enumerate(edges()):
        axis = edge // 4
        low_axis, high_axis = other_axes(axis)
        ring, ring_numbers = [], []
        for i, j in ((1, 1), (1, 0), (0, 0), (0, 1)):  # where the edge lies in the cube around it
            offset = [0, 0, 0]
            offset[low_axis] = (corner >> low_axis & 1) - i
            offset[high_axis] = (corner >> high_axis & 1) - j
            ring.append(offset)
            ring_numbers.append(4 * axis + i + 2 * j)
        offsets.append(ring)
        numbers.append(ring_numbers)
    return offsets, numbers


def cube_tables(device: torch.device | str) -> CubeTables:
    """The tables as tensors on the device."""
    patch_rows, twisted = _cases()
    patch = torch.tensor(patch_rows)
    return CubeTables(
        torch.tensor(edges()).to(device),
        patch.clamp(min=0).to(device),
        (patch.amax(1) + 1).to(device),
        torch.tensor(twisted).to(device),
        (patch >= 0).to(device),
        torch.tensor([[owns(last, edge) for edge in range(12)] for last in range(8)]).to(device),
        *(torch.tensor(x).to(device) for x in _rings()),
    )
