"""Visibility: which triangle each pixel sees. A Warp kernel, one source for CPU and CUDA; no gradient passes here."""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

wp.config.quiet = True

NOTHING = -1  # triangle index of a pixel that sees no triangle


@wp.kernel
def _draw(
    clip: wp.array3d(dtype=wp.float32),  # (B, V, 4)
    faces: wp.array2d(dtype=wp.int32),  # (F, 3)
    depth_and_face: wp.array3d(dtype=wp.uint64),  # (B, H, W): depth in the high half, face in the low one
):
    view, face = wp.tid()
    height = depth_and_face.shape[1]
    width = depth_and_face.shape[2]
    i0 = faces[face, 0]
    i1 = faces[face, 1]
    i2 = faces[face, 2]
    # 2D homogeneous rasterisation (Olano and Greer 1997): edge functions on (x, y, w) need no clipping.
    p0 = wp.vec3(clip[view, i0, 0], clip[view, i0, 1], clip[view, i0, 3])
    p1 = wp.vec3(clip[view, i1, 0], clip[view, i1, 1], clip[view, i1, 3])
    p2 = wp.vec3(clip[view, i2, 0], clip[view, i2, 1], clip[view, i2, 3])
    z = wp.vec3(clip[view, i0, 2], clip[view, i1, 2], clip[view, i2, 2])
    e0 = wp.cross(p1, p2)
    e1 = wp.cross(p2, p0)
    e2 = wp.cross(p0, p1)
    volume = wp.dot(p0, e0)
    if volume == 0.0 or not wp.isfinite(volume):
        return
    nearest_w = wp.min(p0[2], wp.min(p1[2], p2[2]))
    farthest_w = wp.max(p0[2], wp.max(p1[2], p2[2]))
    if farthest_w <= 0.0:
        return
    x_from = int(0)
    x_to = width - 1
    y_from = int(0)
    y_to = height - 1
    if nearest_w > 0.0:  # wholly in front of the camera: only the box around its picture need be visited
        a = wp.vec3(p0[0] / p0[2], p1[0] / p1[2], p2[0] / p2[2])
        b = wp.vec3(p0[1] / p0[2], p1[1] / p1[2], p2[1] / p2[2])
        w = float(width)
        h = float(height)
        x_from = int(wp.clamp(wp.ceil((wp.min(a) * 0.5 + 0.5) * w - 0.5), 0.0, w))
        x_to = int(wp.clamp(wp.floor((wp.max(a) * 0.5 + 0.5) * w - 0.5), -1.0, w - 1.0))
        y_from = int(wp.clamp(wp.ceil((0.5 - wp.max(b) * 0.5) * h - 0.5), 0.0, h))
        y_to = int(wp.clamp(wp.floor((0.5 - wp.min(b) * 0.5) * h - 0.5), -1.0, h - 1.0))
    for row in range(y_from, y_to + 1):
        y = 1.0 - (float(row) + 0.5) * 2.0 / float(height)
        for column in range(x_from, x_to + 1):
            x = (float(column) + 0.5) * 2.0 / float(width) - 1.0
            pixel = wp.vec3(x, y, 1.0)
            weight = wp.vec3(wp.dot(e0, pixel), wp.dot(e1, pixel), wp.dot(e2, pixel)) / volume  # b_i / w
            if weight[0] >= 0.0 and weight[1] >= 0.0 and weight[2] >= 0.0:
                inverse_w = weight[0] + weight[1] + weight[2]
                depth = wp.dot(weight, z)  # z / w, in [-1, 1] between the near and the far plane
                if inverse_w > 0.0 and depth >= -1.0 and depth <= 1.0:
                    key = wp.uint64(wp.uint32((depth * 0.5 + 0.5) * 4294967040.0))
                    packed = (key << wp.uint64(32)) | wp.uint64(wp.uint32(face))
                    wp.atomic_min(depth_and_face, view, row, column, packed)


def rasterize(clip: Tensor, faces: Tensor, height: int, width: int) -> Tensor:
    """The nearest triangle at each pixel centre: (B, H, W) int64, NOTHING where there is none.

    clip: (B, V, 4) float32 clip-space vertices. faces: (F, 3). Row 0 is the picture's top. Both sides of a triangle are
    seen; of two triangles at the same depth the one with the smaller index is taken.
    """
    wp.init()
    views = clip.shape[0]
    if faces.shape[0] == 0:
        return torch.full((views, height, width), NOTHING, dtype=torch.int64, device=clip.device)
    # int64 storage whose bits are read as uint64: all ones is the farthest depth.
    buffer = torch.full((views, height, width), -1, dtype=torch.int64, device=clip.device)
    wp.launch(
        _draw,
        dim=(views, faces.shape[0]),
        inputs=[
            wp.from_torch(clip.detach().float().contiguous(), requires_grad=False),
            wp.from_torch(faces.to(torch.int32).contiguous(), requires_grad=False),
            wp.from_torch(buffer, dtype=wp.uint64, requires_grad=False),
        ],
        device=wp.device_from_torch(clip.device),
        stream=wp.stream_from_torch() if clip.is_cuda else None,
    )
    return torch.where(buffer == -1, NOTHING, buffer & 0xFFFFFFFF)
