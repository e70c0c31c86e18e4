"""Outlines between pixels: where the surface that one pixel sees ends before the next pixel's centre. No gradient here.

Where triangles are smaller than a pixel an outline rarely borders the triangle the pixel sees, so the segment between
two neighbouring pixel centres is followed over the mesh, triangle by triangle, until it meets an outline or ends.
"""

# mypy: disable-error-code="valid-type, misc, no-untyped-def"
# (Warp kernels: arrays in annotations and wp.tid() are Warp's own language.)

from __future__ import annotations

from typing import NamedTuple

import torch
import warp as wp
from torch import Tensor

from .launch import kernel_device, launch
from .rasterize import NOTHING, areas, centre_x, centre_y, corner

MAX_HOPS = 64  # triangles crossed between two neighbouring pixel centres before the search is given up
TOUCHING = 1.001  # factor on a distance within which two surfaces count as touching


class Outlines(NamedTuple):
    """Pairs of neighbouring pixels with an outline between their centres."""

    view: Tensor  # (N,) int64
    row: Tensor  # (N,) int64, the pixel that sees the surface that ends
    column: Tensor  # (N,) int64
    step_row: Tensor  # (N,) int64, from that pixel to the other one: one of the two steps is 0, the other 1 or -1
    step_column: Tensor  # (N,) int64
    ends: Tensor  # (N, 2) int64, vertices of the outline's edge


@wp.func
def _outline_ahead(
    clip: wp.array3d(dtype=wp.float32),
    faces: wp.array2d(dtype=wp.int32),
    neighbour: wp.array2d(dtype=wp.int32),
    view: int,
    first_face: int,
    start: wp.vec2,
    end: wp.vec2,
):
    """The first outline ahead, as 3 face + edge (edge i is opposite corner i) or -1; where, 0 to 1; the last face."""
    facing = wp.float32(0.0)
    face = int(first_face)
    came_from = wp.int32(-1)
    edge_met = wp.int32(-1)
    leaves_at = wp.float32(0.0)
    for hop in range(MAX_HOPS):
        p0 = corner(clip, view, faces[face, 0])
        p1 = corner(clip, view, faces[face, 1])
        p2 = corner(clip, view, faces[face, 2])
        at_start = areas(p0, p1, p2, start[0], start[1])
        at_end = areas(p0, p1, p2, end[0], end[1])
        volume = at_start[0] * p0[3] + at_start[1] * p1[3] + at_start[2] * p2[3]  # > 0 where it looks at the camera
        if hop == 0:
            facing = wp.sign(volume)
        if hop > 0 and volume * facing <= 0.0:
            return edge_met, leaves_at, face  # the surface turns away here
        next_cut = wp.float32(1.0)
        edge = wp.int32(-1)
        for i in range(3):
            s = at_start[i] * facing
            e = at_end[i] * facing
            if e < s and (hop == 0 or neighbour[face, i] != came_from) and s < next_cut * (s - e):
                next_cut = s / (s - e)
                edge = i
        if edge < 0:
            return -1, leaves_at, face  # the segment ends in this triangle
        leaves_at = next_cut
        edge_met = face * 3 + edge
        came_from = face
        face = neighbour[face, edge]
        if face < 0:
            return edge_met, leaves_at, came_from
    return -1, leaves_at, face


@wp.func
def _distance(
    clip: wp.array3d(dtype=wp.float32), faces: wp.array2d(dtype=wp.int32), view: int, face: int, at: wp.vec2
) -> float:
    """Distance along the viewing axis to the face's plane at a point of the picture; infinite where it has none."""
    if face < 0:
        return wp.inf
    p0 = corner(clip, view, faces[face, 0])
    p1 = corner(clip, view, faces[face, 1])
    p2 = corner(clip, view, faces[face, 2])
    weight = areas(p0, p1, p2, at[0], at[1])
    inverse = (weight[0] + weight[1] + weight[2]) / (weight[0] * p0[3] + weight[1] * p1[3] + weight[2] * p2[3])
    return wp.where(inverse > 0.0, 1.0 / inverse, wp.inf)  # beyond the plane's horizon there is nothing


@wp.kernel(enable_backward=False)
def _search(
    clip: wp.array3d(dtype=wp.float32),  # (B, V, 4)
    faces: wp.array2d(dtype=wp.int32),  # (F, 3)
    neighbour: wp.array2d(dtype=wp.int32),  # (F, 3)
    triangle: wp.array3d(dtype=wp.int32),  # (B, H, W)
    found: wp.array4d(dtype=wp.int32),  # (B, H, W, 2), for the pixels to the right and below: 2 (3 face + edge) + which
):
    view, row, column, down = wp.tid()
    height = triangle.shape[1]
    width = triangle.shape[2]
    row2 = row + down
    column2 = column + 1 - down
    if row2 >= height or column2 >= width:
        return
    here = triangle[view, row, column]
    there = triangle[view, row2, column2]
    if here == there:
        return
    at_here = wp.vec2(centre_x(column, width), centre_y(row, height))
    at_there = wp.vec2(centre_x(column2, width), centre_y(row2, height))
    second_is_near = wp.int32(0)
    near = here
    far = there
    at_near = at_here
    at_far = at_there
    if _distance(clip, faces, view, there, at_there) < _distance(clip, faces, view, here, at_here):
        second_is_near = 1
        near = there
        far = here
        at_near = at_there
        at_far = at_here
    edge, cut, last = _outline_ahead(clip, faces, neighbour, view, near, at_near, at_far)
    if edge >= 0:
        found[view, row, column, down] = 2 * edge + second_is_near
    elif far >= 0 and last != far:
        # The nearer surface goes on, so it must be behind where the farther one ends (a body that stands on it).
        edge, cut, last = _outline_ahead(clip, faces, neighbour, view, far, at_far, at_near)
        if edge >= 0:
            at_edge = at_far + cut * (at_near - at_far)
            end = _distance(clip, faces, view, edge // 3, at_edge)
            if end <= TOUCHING * _distance(clip, faces, view, near, at_edge):
                found[view, row, column, down] = 2 * edge + 1 - second_is_near


def find_outlines(triangle: Tensor, clip: Tensor, faces: Tensor) -> Outlines:
    """The outlines between pixels. triangle: (B, H, W) from `rasterize`. clip: (B, V, 4). faces: (F, 3)."""
    device = kernel_device(clip.device)
    found = torch.full((*triangle.shape, 2), NOTHING, dtype=torch.int32, device=device)
    if faces.shape[0] > 0:
        corners = faces.to(device, torch.int32).contiguous()
        inputs = [
            clip.detach().to(device, torch.float32).contiguous(),
            corners,
            neighbours(corners, clip.shape[1]),
            triangle.to(device, torch.int32).contiguous(),
            found,
        ]
        launch(_search, dim=tuple(found.shape), inputs=inputs, device=device)
    found = found.to(clip.device)
    view, row, column, down = (found != NOTHING).nonzero(as_tuple=True)
    code = found[view, row, column, down].long()
    second, edge, face = code % 2, code // 2 % 3, code // 6
    ends = torch.stack([faces[face, (edge + 1) % 3], faces[face, (edge + 2) % 3]], dim=1)
    sign = 1 - 2 * second
    step_row, step_column = down * sign, (1 - down) * sign
    return Outlines(view, row + second * down, column + second * (1 - down), step_row, step_column, ends)


@wp.kernel(enable_backward=False)
def _list_edges(
    faces: wp.array2d(dtype=wp.int32),
    cursor: wp.array(dtype=wp.int32),  # (V,), where the next edge with this lower vertex goes in `listed`
    listed: wp.array(dtype=wp.int32),  # (3 F,), edges grouped by their lower vertex
):
    face, i = wp.tid()
    low = wp.min(faces[face, (i + 1) % 3], faces[face, (i + 2) % 3])
    listed[wp.atomic_add(cursor, low, 1)] = face * 3 + i


@wp.kernel(enable_backward=False)
def _match_edges(
    faces: wp.array2d(dtype=wp.int32),
    group_end: wp.array(dtype=wp.int32),  # (V,)
    listed: wp.array(dtype=wp.int32),  # (3 F,)
    neighbour: wp.array2d(dtype=wp.int32),  # (F, 3)
):
    face, i = wp.tid()
    a = faces[face, (i + 1) % 3]
    b = faces[face, (i + 2) % 3]
    low = wp.min(a, b)
    high = wp.max(a, b)
    group_start = wp.int32(0)
    if low > 0:
        group_start = group_end[low - 1]
    others = wp.int32(0)
    other = wp.int32(-1)
    for k in range(group_start, group_end[low]):
        other_face = listed[k] // 3
        j = listed[k] % 3
        if wp.max(faces[other_face, (j + 1) % 3], faces[other_face, (j + 2) % 3]) == high and listed[k] != face * 3 + i:
            others += 1
            other = other_face
    if others == 1:
        neighbour[face, i] = other


def neighbours(faces: Tensor, vertex_count: int) -> Tensor:
    """The face across the edge opposite each corner: (F, 3) int32, NOTHING where an edge has not exactly two faces.

    faces: (F, 3) int32. Grouping the edges by their lower vertex is several times faster than sorting them.
    """
    lower = torch.minimum(faces[:, [1, 2, 0]], faces[:, [2, 0, 1]]).flatten()
    count = torch.zeros(vertex_count, dtype=torch.int32, device=faces.device)
    group_end = count.index_add(0, lower, torch.ones_like(lower)).cumsum(0, dtype=torch.int32)
    cursor = torch.cat([count[:1], group_end[:-1]])
    listed = torch.empty_like(lower)
    table = torch.full_like(faces, NOTHING)
    launch(_list_edges, dim=tuple(faces.shape), inputs=[faces, cursor, listed], device=faces.device)
    launch(_match_edges, dim=tuple(faces.shape), inputs=[faces, group_end, listed, table], device=faces.device)
    return table
