from __future__ import annotations

import sys

import pytest
import torch

from backend.scene import isosurface
from backend.scene.isosurface import extract, extract_with_kaolin, kaolin_is_installed, make_grid
from tests.mesh_checks import assert_same_mesh, matching
from tests.test_flexicubes import random_field, sphere

needs_kaolin = pytest.mark.skipif(not kaolin_is_installed(), reason="no Kaolin; see requirements/cuda.txt")
RESOLUTIONS = [(6, 6, 6), (5, 8, 3), (1, 4, 2), (12, 12, 12)]


@needs_kaolin
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_both_operators_give_the_same_mesh_l_dev_and_gradients_for_random_fields(resolution, training):
    for seed in range(4):
        grid, *inputs = random_field(resolution, seed)
        inputs = [x.requires_grad_() for x in inputs]
        ours, theirs = (operator(grid, *inputs, training) for operator in (extract, extract_with_kaolin))
        assert_same_mesh(ours.vertices, ours.faces, theirs.vertices, theirs.faces, 1e-5)
        torch.testing.assert_close(ours.l_dev, theirs.l_dev)
        # Fixed functions of position, so that the order of vertices does not matter.
        wanted, given = (torch.autograd.grad(s.vertices.sin().square().sum() + s.l_dev, inputs) for s in (theirs, ours))
        for a, b in zip(wanted, given, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-3 * float(a.abs().max()))


@needs_kaolin
@pytest.mark.parametrize("training", [True, False])
def test_both_operators_cut_quads_alike_where_gammas_are_equal(training):
    ours, theirs = (operator(*sphere((9, 10, 11)), training) for operator in (extract, extract_with_kaolin))
    assert_same_mesh(ours.vertices, ours.faces, theirs.vertices, theirs.faces, 1e-5)


@needs_kaolin
def test_both_operators_interpolate_features_alike():
    grid, *inputs = random_field((6, 5, 4), 0)
    features = torch.rand(grid.vertices.shape[0], 3, generator=torch.Generator().manual_seed(1))
    ours, theirs = (operator(grid, *inputs, False, features) for operator in (extract, extract_with_kaolin))
    twin = matching(ours.vertices, theirs.vertices, 1e-5)
    torch.testing.assert_close(ours.features, theirs.features[twin], rtol=1e-4, atol=1e-4)


@needs_kaolin
@pytest.mark.parametrize("value", [1.0, -1.0])
def test_empty_and_full_fields_give_zero_gradients_with_kaolin_too(value):
    grid = make_grid((3, 3, 3), "cpu")
    inputs = [torch.full((64,), value), torch.zeros(64, 3), torch.zeros(27, 21)]
    surface = extract_with_kaolin(grid, *(x.requires_grad_() for x in inputs))
    assert surface.vertices.shape == (0, 3) and surface.faces.shape == (0, 3) and surface.l_dev == 0
    (surface.vertices.sum() + surface.l_dev).backward()
    assert all(not x.grad.any() for x in inputs)


def test_placeholder_package_named_kaolin_does_not_count_as_installed(tmp_path, monkeypatch):
    (tmp_path / "kaolin").mkdir()
    (tmp_path / "kaolin" / "__init__.py").write_text("")
    for name in [m for m in sys.modules if m.split(".")[0] == "kaolin"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    assert not kaolin_is_installed.__wrapped__()


def test_field_on_the_cpu_is_extracted_without_kaolin(monkeypatch):
    monkeypatch.setattr(isosurface, "extract_with_kaolin", None)
    assert extract(*sphere((6, 6, 6))).faces.shape[0] > 0
