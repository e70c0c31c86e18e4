"""Questions to a triangle mesh of any kind: what is nearest, what is inside, how thick it is. Warp kernels."""

# mypy: disable-error-code="valid-type, misc, no-untyped-def"
# (Warp kernels: arrays in annotations and wp.tid() are Warp's own language.)

from __future__ import annotations

from typing import NamedTuple

import torch
import warp as wp
from torch import Tensor

from ..render.launch import kernel_device, launch, query_mesh

FAR = 1.0e6  # beyond this nothing is looked for; meshes are to be given in units of about their own size
ACCURACY = 2.0  # of the fast winding number: nodes farther than so many of their radii count as one dipole


class Nearest(NamedTuple):
    """What was found at N points."""

    point: Tensor  # (N, 3), the nearest point of the mesh
    inside: Tensor  # (N,) bool


@wp.kernel(enable_backward=False)
def _find_nearest(
    mesh: wp.uint64,
    points: wp.array2d(dtype=wp.float32),  # (N, 3)
    winding: wp.float32,
    nearest: wp.array2d(dtype=wp.float32),  # (N, 3)
    inside: wp.array(dtype=wp.int32),  # (N,)
):
    i = wp.tid()
    p = wp.vec3(points[i, 0], points[i, 1], points[i, 2])
    found = wp.mesh_query_point_sign_winding_number(mesh, p, FAR, ACCURACY, winding)
    if found.result:
        q = wp.mesh_eval_position(mesh, found.face, found.u, found.v)
        nearest[i, 0] = q[0]
        nearest[i, 1] = q[1]
        nearest[i, 2] = q[2]
        inside[i] = wp.where(found.sign < 0.0, 1, 0)
        if found.sign > 0.0:  # turned inside out it may be inside as well: a winding number below 0
            reach = wp.length(p - q) * 1.01 + 1.0e-6
            below = wp.mesh_query_point_sign_winding_number(mesh, p, reach, ACCURACY, -winding)
            inside[i] = wp.where(below.result and below.sign > 0.0, 1, 0)


@wp.kernel(enable_backward=False)
def _shoot(
    mesh: wp.uint64,
    starts: wp.array2d(dtype=wp.float32),  # (N, 3)
    directions: wp.array2d(dtype=wp.float32),  # (N, 3), unit
    way: wp.array(dtype=wp.float32),  # (N,)
):
    i = wp.tid()
    start = wp.vec3(starts[i, 0], starts[i, 1], starts[i, 2])
    direction = wp.vec3(directions[i, 0], directions[i, 1], directions[i, 2])
    hit = wp.mesh_query_ray(mesh, start, direction, FAR)
    if hit.result:
        way[i] = hit.t


class MeshQuery:
    """A mesh that does not change, made ready for many questions. Triangles may cross, leave holes or face anywhere."""

    def __init__(self, vertices: Tensor, faces: Tensor) -> None:
        """vertices: (V, 3), in units of about the mesh's size, near the origin. faces: (F, 3), F > 0, area above 0."""
        assert len(faces) > 0
        self._device = kernel_device(vertices.device)
        corners = vertices.detach().to(self._device, torch.float32).contiguous()
        self._mesh = query_mesh(corners, faces.to(self._device, torch.int32).contiguous())

    def nearest(self, points: Tensor, winding: float = 0.5) -> Nearest:
        """The mesh's nearest point to each of the points (N, 3), and whether that lies inside. No gradient.

        Inside is where the generalised winding number (Jacobson et al. 2013) is above `winding` in size, so a mesh with
        holes is closed where they are narrow, and one turned inside out has the same inside. Right beside a sheet it is
        1/2; who asks there takes a higher bound.
        """
        asked = points.detach().to(self._device, torch.float32).contiguous()
        nearest = torch.full_like(asked, FAR)
        inside = torch.zeros(len(asked), dtype=torch.int32, device=self._device)
        if len(asked):
            launch(_find_nearest, (len(asked),), [self._mesh.id, asked, winding, nearest, inside], self._device)
        return Nearest(nearest.to(points), inside.to(points.device).bool())

    def ray_length(self, starts: Tensor, directions: Tensor) -> Tensor:
        """How far each ray goes until it meets the mesh: (N,), FAR where it never does. directions: (N, 3), unit."""
        asked = [t.detach().to(self._device, torch.float32).contiguous() for t in (starts, directions)]
        way = torch.full((len(starts),), FAR, device=self._device)
        if len(starts):
            launch(_shoot, (len(starts),), [self._mesh.id, *asked, way], self._device)
        return way.to(starts)
