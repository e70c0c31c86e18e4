"""Visibility: which triangle each pixel sees. A Warp kernel, one source for CPU and CUDA; no gradient passes here."""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

from .launch import kernel_device, launch

NOTHING = -1  # triangle index of a pixel that sees no triangle
EDGE_TOLERANCE = 1e-6  # in barycentric weight: a pixel centre on a shared edge is never lost to rounding
MIN_AREA = 1e-6  # twice a triangle's area over its longest side squared; thinner ones have no stable barycentrics
CUDA_LANES = 16  # threads that share a triangle's rows, so that one large triangle does not keep the others waiting


@wp.func
def corner(clip: wp.array3d(dtype=wp.float32), view: int, vertex: int) -> wp.vec4:
    return wp.vec4(clip[view, vertex, 0], clip[view, vertex, 1], clip[view, vertex, 2], clip[view, vertex, 3])


@wp.func
def seen_from(p: wp.vec4, x: float, y: float) -> wp.vec2:
    """Homogeneous picture position of `p` with the point (x, y) as origin."""
    return wp.vec2(p[0] - x * p[3], p[1] - y * p[3])


@wp.func
def cross2(a: wp.vec2, b: wp.vec2) -> float:
    return a[0] * b[1] - a[1] * b[0]


@wp.func
def areas(p0: wp.vec4, p1: wp.vec4, p2: wp.vec4, x: float, y: float) -> wp.vec3:
    """The barycentric weights at (x, y), all times one factor: positive in a triangle that looks at the camera."""
    q0 = seen_from(p0, x, y)
    q1 = seen_from(p1, x, y)
    q2 = seen_from(p2, x, y)
    return wp.vec3(cross2(q1, q2), cross2(q2, q0), cross2(q0, q1))


@wp.func
def centre_x(column: int, width: int) -> float:
    return (float(column) + 0.5) * 2.0 / float(width) - 1.0


@wp.func
def centre_y(row: int, height: int) -> float:
    return 1.0 - (float(row) + 0.5) * 2.0 / float(height)


@wp.func
def _longest(p0: wp.vec4, p1: wp.vec4, p2: wp.vec4, x: float, y: float) -> float:
    """Square of the triangle's longest side (or distance from the pixel), homogeneous, in the units of `areas`."""
    q0 = seen_from(p0, x, y)
    q1 = seen_from(p1, x, y)
    q2 = seen_from(p2, x, y)
    return wp.max(wp.dot(q0, q0), wp.max(wp.dot(q1, q1), wp.dot(q2, q2)))


@wp.func
def _pixels(low: float, high: float, count: int) -> wp.vec2i:
    """First and last pixel with a centre in [low, high], which are in pixels from the picture's edge; may be empty."""
    limit = float(count)
    first = int(wp.clamp(wp.ceil(low - 0.5 - 1.0e-3), 0.0, limit))
    last = int(wp.clamp(wp.floor(high - 0.5 + 1.0e-3), -1.0, limit - 1.0))
    return wp.vec2i(first, last)


@wp.kernel(enable_backward=False)
def _draw(
    clip: wp.array3d(dtype=wp.float32),  # (B, V, 4)
    faces: wp.array2d(dtype=wp.int32),  # (F, 3)
    lanes: int,
    nearest: wp.array3d(dtype=wp.uint64),  # (B, H, W): order of nearness in the high half, face in the low one
):
    view, face, lane = wp.tid()
    height = nearest.shape[1]
    width = nearest.shape[2]
    p0 = corner(clip, view, faces[face, 0])
    p1 = corner(clip, view, faces[face, 1])
    p2 = corner(clip, view, faces[face, 2])
    if not (wp.isfinite(p0) and wp.isfinite(p1) and wp.isfinite(p2)):
        return
    if wp.max(p0[3], wp.max(p1[3], p2[3])) <= 0.0:
        return
    columns = wp.vec2i(0, width - 1)
    rows = wp.vec2i(0, height - 1)
    # The 2D homogeneous form (Olano and Greer 1997) needs no clipping; a triangle that reaches behind the camera has
    # no box in the picture, so every pixel is tried.
    if wp.min(p0[3], wp.min(p1[3], p2[3])) > 0.0:
        a = wp.vec3(p0[0] / p0[3], p1[0] / p1[3], p2[0] / p2[3])
        b = wp.vec3(p0[1] / p0[3], p1[1] / p1[3], p2[1] / p2[3])
        w = 0.5 * float(width)
        h = 0.5 * float(height)
        columns = _pixels((wp.min(a) + 1.0) * w, (wp.max(a) + 1.0) * w, width)
        rows = _pixels((1.0 - wp.max(b)) * h, (1.0 - wp.min(b)) * h, height)
    for row in range(rows[0] + lane, rows[1] + 1, lanes):
        y = centre_y(row, height)
        for column in range(columns[0], columns[1] + 1):
            x = centre_x(column, width)
            weight = areas(p0, p1, p2, x, y)
            total = weight[0] + weight[1] + weight[2]
            if total != 0.0:
                weight = weight / total
                if wp.min(weight) >= -EDGE_TOLERANCE and wp.abs(total) > MIN_AREA * _longest(p0, p1, p2, x, y):
                    distance = weight[0] * p0[3] + weight[1] * p1[3] + weight[2] * p2[3]
                    z = weight[0] * p0[2] + weight[1] * p1[2] + weight[2] * p2[2]
                    if distance > 0.0 and z >= -distance and z <= distance:
                        # A positive float's bits grow with it, so they order distances at full precision.
                        order = wp.uint64(wp.cast(distance, wp.uint32))
                        packed = (order << wp.uint64(32)) | wp.uint64(wp.uint32(face))
                        wp.atomic_min(nearest, view, row, column, packed)


def rasterize(clip: Tensor, faces: Tensor, height: int, width: int) -> Tensor:
    """The nearest triangle at each pixel centre: (B, H, W) int64, NOTHING where there is none.

    clip: (B, V, 4) clip-space vertices. faces: (F, 3). Row 0 is the picture's top. Both sides of a triangle are seen;
    of two triangles at the same depth the one with the smaller index is taken. Triangles with a corner that is not
    finite are not seen.
    """
    device = kernel_device(clip.device)
    # int64 storage whose bits the kernel reads as uint64: all ones is farther than anything.
    nearest = torch.full((clip.shape[0], height, width), -1, dtype=torch.int64, device=device)
    if faces.shape[0] > 0:
        corners = clip.detach().to(device, torch.float32).contiguous()
        lanes = CUDA_LANES if device.type == "cuda" else 1
        launch(
            _draw,
            dim=(clip.shape[0], faces.shape[0], lanes),
            inputs=[corners, faces.to(device, torch.int32).contiguous(), lanes, nearest],
            device=device,
        )
    return torch.where(nearest == -1, NOTHING, nearest & 0xFFFFFFFF).to(clip.device)
