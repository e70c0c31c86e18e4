"""The colour field starts grey, is continuous, learns, and is the same for the same seed."""

import time

import pytest
import torch
from torch import Tensor

from backend.scene import appearance, volume
from backend.scene.appearance import Appearance

CPU = torch.device("cpu")


def make(seed: int = 0, size: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Appearance:
    return Appearance(size, CPU, torch.Generator().manual_seed(seed))


def points(count: int = 500) -> Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(1)) - 0.5


def test_colour_starts_near_mid_grey_with_gradients_to_every_level() -> None:
    model = make()
    albedo = model.colour(points())
    assert (albedo - 0.5).abs().max() < 0.1
    albedo.sum().backward()
    for level in model.levels:
        assert level.grad is not None and (level.grad != 0).float().mean() > 0.01


def test_same_seed_gives_the_same_field_whatever_the_global_generator_did() -> None:
    first = make().colour(points())
    torch.rand(7)
    assert torch.equal(first, make().colour(points()))
    assert not torch.equal(first, make(seed=1).colour(points()))


def test_making_a_field_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    make()
    assert torch.equal(before, torch.get_rng_state())


def test_colour_is_continuous_also_across_cell_borders() -> None:
    model = make()
    with torch.no_grad():
        for level in model.levels:
            level.mul_(20.0)
    border = torch.arange(-8, 9)[:, None] / 32 + torch.zeros(1, 3)  # corners of the finest grid
    step = 1e-4 * torch.nn.functional.normalize(points(17), dim=-1)
    jump = (model.colour(border + step) - model.colour(border - step)).abs().max()
    assert 0 < jump < 5e-3


def test_colour_gradient_to_the_point_matches_finite_differences() -> None:
    model = make().double()
    with torch.no_grad():
        for level in model.levels:
            level.mul_(20.0)
    inner = 0.8 * points(6).double()
    torch.autograd.gradcheck(model.colour, (inner.requires_grad_(),), eps=1e-6, atol=1e-5)


def test_a_two_coloured_target_is_learnt() -> None:
    model = make()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    at = points(600)
    red, blue = torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9])
    target = torch.where(at[:, :1] > 0, red, blue)
    for _ in range(60):
        optimiser.zero_grad()
        loss = (model.colour(at) - target).abs().mean()
        loss.backward()
        optimiser.step()
    assert loss < 0.08


def test_roughness_and_metallic_are_constant_at_first_and_within_their_range_always() -> None:
    model = make()
    material = model.material(points())
    assert torch.allclose(material.roughness, torch.tensor(0.5))
    assert (material.metallic < 1 / 510).all()  # 0 in 8 bits
    with torch.no_grad():
        model.surface.weight.fill_(1e3)
        model.surface.bias.copy_(torch.tensor([1e3, 1e3]))
    material = model.material(points())
    assert material.roughness.max() <= appearance.ROUGHNESS[1] and material.metallic.max() <= appearance.METALLIC[1]


def test_material_has_the_colour_of_the_pictures() -> None:
    model = make()
    assert torch.equal(model.material(points()).albedo, model.colour(points()))


def varied(seed: int) -> Appearance:
    model = make(seed)
    with torch.no_grad():
        for level in model.levels:
            level.mul_(20.0)
    return model


def test_without_detail_an_object_has_one_colour_and_every_level_still_learns() -> None:
    model = varied(0)
    full = model.colour(points())
    assert full.std(0).max() > 1e-3
    model.detail = 0.0
    flat = model.colour(points())
    assert (flat - flat[0]).abs().max() < 1e-6
    flat.sum().backward()
    assert all(level.grad is not None and level.grad.abs().sum() > 0 for level in model.levels)
    model.detail = 1.0
    torch.testing.assert_close(model.colour(points()), full)


def test_detail_between_leaves_less_variation() -> None:
    model, spreads = varied(0), []
    for detail in (0.0, 0.3, 0.6, 1.0):
        model.detail = detail
        spreads.append(model.colour(points()).std(0).sum().item())
    assert spreads == sorted(spreads) and spreads[1] < 0.6 * spreads[3]


def test_no_points_give_no_colours() -> None:
    assert make().colour(torch.zeros(0, 3)).shape == (0, 3)


def test_grids_follow_the_box() -> None:
    shapes = [tuple(level.shape[1:]) for level in make(size=(2.0, 1.0, 0.01)).levels]
    assert shapes == [(5, 3, 2), (9, 5, 2), (17, 9, 2), (33, 17, 2)]


@pytest.mark.parametrize("resolution", [(8, 6, 4), (7, 5, 9)])
def test_resize_equals_torch_interpolation(resolution: volume.Resolution) -> None:
    coarse = torch.rand(2, 5, 4, 3, generator=torch.Generator().manual_seed(0))
    size = [n + 1 for n in resolution]
    expected = torch.nn.functional.interpolate(coarse[None], size=size, mode="trilinear", align_corners=True)[0]
    assert torch.allclose(volume.resize(coarse, resolution), expected, atol=1e-6)


def test_sample_reads_x_first_and_holds_the_boundary() -> None:
    x, y, z = torch.meshgrid(torch.arange(3.0), torch.arange(5.0), torch.arange(4.0), indexing="ij")
    grid = torch.stack([x / 2 - 0.5, y / 4 - 0.5, z / 3 - 0.5])
    at = points(50)
    assert torch.allclose(volume.sample(grid, at), at, atol=1e-6)
    assert torch.allclose(volume.sample(grid, 3 * at), (3 * at).clamp(-0.5, 0.5), atol=1e-6)


def test_colour_of_8192_points_is_fast() -> None:
    """Meant: 8 ms forward and backward on one thread; the bound leaves room for a busy machine."""
    model, at = make(), points(8192).requires_grad_()
    times = []
    for _ in range(10):
        start = time.thread_time()
        model.colour(at).sum().backward()
        times.append(time.thread_time() - start)
    assert min(times) < 0.04
