"""What keeps a surface smooth, closed and honest about distance. Pure functions; the weights live in the settings.

FlexiCubes' own term, L_dev, comes with the surface (`Surface.l_dev`).

Fields are corner values (nx + 1, ny + 1, nz + 1) in units of the box's longest edge, and `cell` is the spacing (3,) in
the same unit. All corners count, not only those near the surface: the pictures give a gradient to the corners next to
the surface alone, so without these terms the rest would keep its first values, and the field would tear where the
surface arrives, and lie where physics asks how deep a point is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .flexicubes import GAMMA
from .mesh import face_normals

SLIVER = 1e-12  # squared normal length, longest edge^4, under which a triangle has no direction


def laplacian_loss(field: Tensor, cell: Tensor) -> Tensor:
    """Mean squared change of the field's slope from one cell to the next: scalar.

    Second differences over the cell's length. A slope is a pure number, so the value hardly depends on the unit; a
    smooth body's falls with the square of the cell, noise of a fixed share of a cell stays as it is.
    """
    total = field.new_zeros(())
    for axis in range(3):
        total = total + (torch.diff(field, n=2, dim=axis) / cell[axis]).square().mean()
    return total / 3.0


def eikonal_loss(field: Tensor, cell: Tensor) -> Tensor:
    """Mean of (|grad| - 1)^2 over the cubes, gradients at their centres (arXiv 2002.10099): scalar."""
    squared = field.new_zeros(())
    for axis in range(3):
        slope = torch.diff(field, dim=axis) / cell[axis]
        for other in range(3):
            if other != axis:
                slope = _midpoints(slope, other)
        squared = squared + slope.square()
    length = (squared + 1e-12).sqrt()
    return (length - 1.0).square().mean()


def _midpoints(field: Tensor, axis: int) -> Tensor:
    """Means of neighbours along `axis`, one fewer than there are values."""
    steps = field.shape[axis] - 1
    return 0.5 * (field.narrow(axis, 0, steps) + field.narrow(axis, 1, steps))


def sign_entropy_loss(field: Tensor) -> Tensor:
    """Mean over sign-changing grid edges of the cross entropy between one end's value and the other's sign: scalar.

    Takes away floaters and inner walls, which the pictures cannot see (nvdiffrec, arXiv 2111.12503, equation 2, whose
    weight FlexiCubes lets fall from 0.2 to 0.01). It also pulls gently at the surface that is wanted. 0 where no edge
    changes sign.
    """
    total, count = field.new_zeros(()), field.new_zeros(())
    for axis in range(3):
        size = field.shape[axis]
        a, b = field.narrow(axis, 0, size - 1), field.narrow(axis, 1, size - 1)
        crossing = ((a > 0) != (b > 0)).to(field.dtype)
        # On such an edge the target of a is "inside" when a is outside: softplus(|value|) is that cross entropy.
        entropy = torch.nn.functional.softplus(a.abs()) + torch.nn.functional.softplus(b.abs())
        total, count = total + (entropy * crossing).sum(), count + crossing.sum()
    return total / count.clamp_min(1.0)


def normal_smoothness_loss(vertices: Tensor, faces: Tensor) -> Tensor:
    """Mean of 1 - cos of the angle between neighbouring faces, each pair weighted by its smaller area: scalar.

    vertices: (V, 3), canonical frame. faces: (F, 3). The weights carry no gradient; they keep slivers, whose direction
    means nothing and whose gradient has no bound, out of the sum. 0 for an empty surface.
    """
    if len(faces) == 0:
        return vertices.sum()  # of nothing: 0, with a graph to go backward through
    one, other = face_pairs(faces, len(vertices))
    normals = face_normals(vertices, faces)
    squared = normals.square().sum(-1)
    solid = squared > SLIVER
    unit = normals * torch.where(solid, squared, 1.0).rsqrt()[:, None]
    area = torch.where(solid, squared, 0.0).detach().sqrt()
    weight = torch.minimum(area[one], area[other])
    cosine = (unit.index_select(0, one) * unit.index_select(0, other)).sum(-1)
    return (weight * (1.0 - cosine)).sum() / weight.sum().clamp_min(1e-12)


def face_pairs(faces: Tensor, vertex_count: int) -> Tensor:
    """Pairs of faces that share an edge: (2, E) int64. An edge of one face only is in no pair."""
    start = faces.T.reshape(-1)
    end = faces.roll(-1, 1).T.reshape(-1)
    edge, order = torch.sort(torch.minimum(start, end) * vertex_count + torch.maximum(start, end), stable=True)
    first = (edge[1:] == edge[:-1]).nonzero()[:, 0]
    return torch.stack([order[first], order[first + 1]]) % len(faces)


def weights_loss(weights: Tensor) -> Tensor:
    """Mean absolute raw beta and alpha: scalar. weights: (C, 21). Keeps the dual vertices near their default places."""
    return weights[:, :GAMMA].abs().mean()
