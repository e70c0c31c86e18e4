"""The surface of a slot's field: the operator that the rest of the program calls.

Two operators stand behind one interface and give the same mesh: Kaolin's FlexiCubes, used for fields on CUDA where
Kaolin is installed, and the one in flexicubes.py, used everywhere else. Grid and weights follow flexicubes.py.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from typing import Any

import torch
from torch import Tensor

from backend.scene import flexicubes
from backend.scene.flexicubes import ALPHA, GAMMA, Grid, Surface, make_grid
from backend.scene.flexicubes_tables import edges

__all__ = ["Grid", "Surface", "extract", "extract_with_kaolin", "kaolin_is_installed", "make_grid"]


def extract(
    grid: Grid,
    sdf: Tensor,
    deformation: Tensor,
    weights: Tensor,
    training: bool = True,
    features: Tensor | None = None,
) -> Surface:
    """The surface of the field by Kaolin's operator on CUDA where it is installed, by ours elsewhere.

    sdf: (G,), negative inside. deformation: (G, 3), box-local offsets of the corners, bounded by the caller. weights:
    (C, 21), raw: 12 beta, 8 alpha, 1 gamma. features: (G, K), interpolated to the vertices. In training each quad is
    four triangles around a middle vertex. An empty or full field gives no vertices, no faces, l_dev 0, and zero
    gradients.
    """
    # Kaolin cannot interpolate features to the middle vertices of training quads: its shapes do not match there (0.18).
    by_kaolin = sdf.is_cuda and kaolin_is_installed() and not (training and features is not None)
    operator = extract_with_kaolin if by_kaolin else flexicubes.extract
    return operator(grid, sdf, deformation, weights, training, features)


@cache
def kaolin_is_installed() -> bool:
    """Whether Kaolin's FlexiCubes can be imported. The empty placeholder of that name on PyPI does not count."""
    if importlib.util.find_spec("kaolin") is None:
        return False
    try:
        return hasattr(importlib.import_module("kaolin.ops.conversions"), "FlexiCubes")
    except (ImportError, OSError):  # a wheel built for another torch fails while its library loads
        return False


def extract_with_kaolin(
    grid: Grid,
    sdf: Tensor,
    deformation: Tensor,
    weights: Tensor,
    training: bool = True,
    features: Tensor | None = None,
) -> Surface:
    """The surface of the field by Kaolin's operator; as `extract`, but without features in training."""
    assert features is None or not training, "Kaolin does not take features in training"
    operator, edge_order = _kaolin_operator(sdf.device)
    vertices, faces, deviations, *rest = operator(
        grid.vertices + deformation,
        sdf,
        grid.cubes,
        list(grid.resolution),
        beta=weights[:, :ALPHA][:, edge_order],
        alpha=weights[:, ALPHA:GAMMA],
        gamma_f=weights[:, GAMMA],
        training=training,
        weight_scale=flexicubes.WEIGHT_SCALE,
        voxelgrid_features=features,
    )
    # Kaolin's empty surface hangs on no parameter; the loop may still ask for its gradient.
    nothing = (sdf.sum() + deformation.sum() + weights.sum()) * 0 if faces.shape[0] == 0 else 0
    l_dev = deviations.sum() / max(deviations.shape[0], 1) + nothing
    return Surface(vertices + nothing, faces, l_dev, rest[0] if features is not None else None)


@cache
def _kaolin_operator(device: torch.device) -> tuple[Any, Tensor]:
    """Kaolin's operator with its tables on the device, and for each of its edges the number of ours."""
    operator = importlib.import_module("kaolin.ops.conversions").FlexiCubes(device)
    pairs = operator.cube_edges.reshape(12, 2).tolist()
    order = [edges().index((min(pair), max(pair))) for pair in pairs]
    return operator, torch.tensor(order, device=device)
