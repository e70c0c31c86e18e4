"""Silhouette antialiasing: blends pixel pairs that straddle an outline, which carries gradient to shape and placement.

The idea is nvdiffrast's (arXiv 2011.03277, section 3.6), written from the paper, with one addition: where triangles are
smaller than a pixel the outline rarely borders the triangle the pixel sees, so the segment between the two pixel centres
is followed over the mesh, triangle by triangle, until it meets an outline or reaches the other pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .barycentric import edge_functions, is_front, pixel_centres
from .rasterize import NOTHING

MAX_HOPS = 8  # triangles crossed between two neighbouring pixel centres before the search for an outline is given up


class Outlines(NamedTuple):
    """What the search for outlines needs to know of the mesh; edge i of a face lies opposite its corner i."""

    neighbour: Tensor  # (F, 3) int64, the face across each edge, NOTHING where there is none or more than one
    outline: Tensor  # (B, F, 3) bool, no neighbour, or one that looks to the other side of the picture


def find_outlines(faces: Tensor, clip: Tensor) -> Outlines:
    """Neighbours of each face, and which edges are outlines in each view. faces: (F, 3). clip: (B, V, 4)."""
    with torch.no_grad():
        neighbour = neighbours(faces, clip.shape[1])
        front = is_front(clip[:, faces])
        differs = front[:, neighbour] != front[:, :, None]
        return Outlines(neighbour, differs | (neighbour == NOTHING))


def neighbours(faces: Tensor, vertex_count: int) -> Tensor:
    """The face on the other side of each edge: (F, 3), NOTHING where an edge has not exactly two faces."""
    table = torch.full((faces.shape[0] * 3,), NOTHING, dtype=torch.int64, device=faces.device)
    if len(table) == 0:
        return table.view(-1, 3)
    ends = torch.stack([faces[:, [1, 2]], faces[:, [2, 0]], faces[:, [0, 1]]], dim=1).reshape(-1, 2)
    key, order = torch.sort(ends.min(1).values * vertex_count + ends.max(1).values)
    no = key.new_zeros(1, dtype=torch.bool)
    same = torch.cat([no, key[1:] == key[:-1], no])  # same[i]: entry i has the edge of entry i - 1
    third = torch.cat([same[2:], no])
    first = (~same[:-1] & same[1:] & ~third).nonzero()[:, 0]
    a, b = order[first], order[first + 1]
    table[a], table[b] = b // 3, a // 3
    return table.view(-1, 3)


def antialias(picture: Tensor, triangle: Tensor, depth: Tensor, clip: Tensor, faces: Tensor) -> Tensor:
    """`picture` with outlines blended by where they cut the segment between two pixel centres: (B, H, W, C).

    picture: (B, H, W, C). triangle: (B, H, W), NOTHING on the background. depth: (B, H, W) metres. clip: (B, V, 4).
    """
    outlines = find_outlines(faces, clip)
    blended = picture
    for step_row, step_column in ((0, 1), (1, 0)):
        pairs = _differing_pairs(triangle, depth, step_row, step_column)
        blended = _blend(blended, picture, pairs, triangle, clip, faces, outlines)
    return blended


def _differing_pairs(triangle: Tensor, depth: Tensor, step_row: int, step_column: int) -> Tensor:
    """Pixel pairs that see different triangles, the one that sees nearer first: (N, 5) view, row, column, row, column."""
    _, height, width = triangle.shape
    here = triangle[:, : height - step_row, : width - step_column]
    there = triangle[:, step_row:, step_column:]
    view, row, column = (here != there).nonzero(as_tuple=True)
    row2, column2 = row + step_row, column + step_column
    distance = torch.where(triangle == NOTHING, torch.inf, depth.detach())
    swap = distance[view, row2, column2] < distance[view, row, column]
    first_row, second_row = torch.where(swap, row2, row), torch.where(swap, row, row2)
    first_column, second_column = torch.where(swap, column2, column), torch.where(swap, column, column2)
    return torch.stack([view, first_row, first_column, second_row, second_column], dim=1)


def _blend(
    blended: Tensor, picture: Tensor, pairs: Tensor, triangle: Tensor, clip: Tensor, faces: Tensor, outlines: Outlines
) -> Tensor:
    _, height, width, _ = picture.shape
    view, row, column, row2, column2 = pairs.unbind(1)
    start = pixel_centres(row.float(), column.float(), height, width)
    end = pixel_centres(row2.float(), column2.float(), height, width)
    with torch.no_grad():
        index, face, edge = _walk(triangle[view, row, column], view, start, end, clip, faces, outlines)
    if len(index) == 0:
        return blended
    view, row, column, row2, column2 = pairs[index].unbind(1)
    cut = _cut(clip, faces, view, face, edge, start[index], end[index])
    here, there = picture[view, row, column], picture[view, row2, column2]
    share = cut[:, None].clamp(0.0, 1.0) - 0.5  # > 0: the near surface reaches into the other pixel
    to_here = (-share).clamp_min(0.0) * (there - here)
    to_there = share.clamp_min(0.0) * (here - there)
    blended = blended.index_put((view, row, column), to_here, accumulate=True)
    return blended.index_put((view, row2, column2), to_there, accumulate=True)


def _walk(
    face: Tensor, view: Tensor, start: Tensor, end: Tensor, clip: Tensor, faces: Tensor, outlines: Outlines
) -> tuple[Tensor, Tensor, Tensor]:
    """The outline each segment meets first: indices (M,) of the segments that meet one, its face (M,) and edge (M,)."""
    index = torch.arange(len(face), device=face.device)
    found = []
    for _ in range(MAX_HOPS):
        functions = edge_functions(clip[view[index][:, None], faces[face]])
        at_start = (functions @ start[index][:, :, None])[:, :, 0]
        at_end = (functions @ end[index][:, :, None])[:, :, 0]
        leaving = at_end < at_start
        leaves_at, edge = torch.where(leaving, at_start / (at_start - at_end), torch.inf).min(1)
        inside = leaves_at < 1.0  # else the segment ends in this triangle
        index, face, edge = index[inside], face[inside], edge[inside]
        meets = outlines.outline[view[index], face, edge]
        found.append((index[meets], face[meets], edge[meets]))
        index, face = index[~meets], outlines.neighbour[face, edge][~meets]
        if len(index) == 0:
            break
    columns = list(zip(*found, strict=True))
    return torch.cat(columns[0]), torch.cat(columns[1]), torch.cat(columns[2])


def _cut(
    clip: Tensor, faces: Tensor, view: Tensor, face: Tensor, edge: Tensor, start: Tensor, end: Tensor
) -> Tensor:
    """Where the edge cuts the segment, 0 at its start and 1 at its end: (M,), differentiable in the edge's ends."""
    a = clip[view, faces[face, (edge + 1) % 3]][:, [0, 1, 3]]
    b = clip[view, faces[face, (edge + 2) % 3]][:, [0, 1, 3]]
    line = torch.linalg.cross(a, b)
    at_start, at_end = (line * start).sum(-1), (line * end).sum(-1)
    return at_start / (at_start - at_end)
