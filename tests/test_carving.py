"""Carving opens what a picture's own gradient can only paint over, and leaves alone what is wanted."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from backend.carving import carving_loss
from backend.render.cameras import Cameras, fit_distance, orbit, unproject
from backend.render.lighting import studio_lighting
from backend.render.shade import Frames, Lighting, render
from backend.scene.slots import Scene
from backend.schema import Slot

PX = 48
ORANGE = torch.tensor([0.9, 0.4, 0.05])


class Sitting(NamedTuple):
    """One body from four sides and from above."""

    scene: Scene
    cameras: Cameras
    lighting: Lighting

    def photograph(self) -> Frames:
        mesh = self.scene.slot_mesh(0, self.scene.surfaces(training=True)[0])
        return render(mesh, lambda at, _: ORANGE.expand(len(at), 3), self.cameras, self.lighting, PX, PX)

    def distance(self, at: Tensor) -> Tensor:
        return self.scene.model(0).shape.distance(at)


def sit(body: str, resolution: int = 20) -> Sitting:
    scene = Scene((Slot(name="body", prompt="a body"),), resolution, torch.device("cpu"), torch.Generator())
    shape = scene.model(0).shape
    ring, height = shape.grid.vertices[:, :2].norm(dim=1), shape.grid.vertices[:, 2]
    torus = torch.stack([ring - 0.3, height], 1).norm(dim=1) - 0.12
    skin = torch.maximum(ring - 0.3, height.abs() - 0.05)  # over the torus's hole
    with torch.no_grad():
        shape.sdf.copy_(torus if body == "torus" else torch.minimum(torus, skin))
    azimuth_deg = torch.tensor([0.0, 90.0, 180.0, 270.0])
    elevation_deg = torch.tensor([10.0, 35.0, 60.0, 80.0])
    fov_deg = torch.full((4,), 40.0)
    distance = fit_distance(fov_deg, torch.tensor(0.72))
    cameras = orbit(azimuth_deg, elevation_deg, distance, fov_deg, torch.zeros(3))
    return Sitting(scene, cameras, studio_lighting(cameras, torch.zeros(3)))


def test_unprojected_pixels_lie_on_the_surface() -> None:
    sitting = sit("torus", 40)
    with torch.no_grad():
        frames = sitting.photograph()
        seen = frames.alpha[..., 0] > 0.99
        points = unproject(sitting.cameras, frames.depth)[seen]
        assert len(points) > 1000
        assert sitting.distance(points).abs().max() < 0.02  # less than a cell, 1/40
        assert sitting.distance(points).abs().mean() < 0.003


def test_only_what_is_wanted_to_be_background_gives_way() -> None:
    sitting = sit("skinned")
    frames = sitting.photograph()
    wanted = frames.rgb.detach().clone()
    wanted[3, PX // 2 - 4 : PX // 2 + 4, PX // 2 - 4 : PX // 2 + 4] = sitting.lighting.background[3]
    sdf = sitting.scene.model(0).shape.sdf

    def slope(wanted: Tensor, background: Tensor) -> Tensor:
        loss = carving_loss(frames, wanted, background, sitting.cameras, sitting.distance)
        return torch.autograd.grad(loss, sdf)[0] if loss.requires_grad else torch.zeros_like(sdf)

    pushed = slope(wanted, sitting.lighting.background)
    corners = sitting.scene.model(0).shape.grid.vertices
    assert pushed.max() <= 0 and pushed.min() < 0  # descending raises the distance: the surface recedes
    moved = corners[pushed < 0]
    assert len(moved) > 10 and moved[:, :2].abs().max() < 0.2 and moved[:, 2].min() > -0.05
    assert not slope(frames.rgb.detach(), sitting.lighting.background).any()  # the picture is as it should be
    darker = frames.rgb.detach() * 0.8
    assert not slope(darker, sitting.lighting.background).any()  # another colour is no background
    assert not slope(wanted, ORANGE.expand(4, 3) * 0.9).any()  # a background like the body tells nothing


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_skin_over_a_hole_opens_only_with_it(weight) -> None:
    with torch.no_grad():
        wanted = sit("torus").photograph().rgb
    sitting = sit("skinned")
    sdf = sitting.scene.model(0).shape.sdf
    optimizer = torch.optim.Adam([sdf], lr=8e-3, betas=(0.9, 0.99))
    for _ in range(40):
        frames = sitting.photograph()
        loss = 0.5 * (frames.rgb - wanted).square().sum() / len(wanted)
        background = sitting.lighting.background
        loss = loss + weight * carving_loss(frames, wanted, background, sitting.cameras, sitting.distance)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        middle = sitting.distance(torch.zeros(1, 3)).item()
        body = sitting.distance(torch.tensor([[0.3, 0.0, 0.0], [0.0, -0.3, 0.0]]))
    assert (body < 0).all()
    assert middle > 0 if weight else middle < 0
