"""Where an object stands: the slot's box, moved, turned and scaled by what the optimisation may change."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..schema import Slot

FREEDOM = math.log(1.25)  # an object fills the box that was drawn: it grows or shrinks by a quarter at most


class Placement(nn.Module):
    """Translation, turn and scale of one slot's box, each learnt unless the slot locks it.

    A point `local` in [-1/2, 1/2]^3 stands in the world at centre + translation + R(turn) R_slot (local * extent).
    """

    translation: Tensor  # (3,) metres, world axes, from the slot's centre
    turn: Tensor  # (3,) rotation vector, radians, world axes, applied after the slot's own rotation
    log_scale: Tensor  # () natural logarithm of the factor on the slot's size, before it is held within bounds
    centre: Tensor  # (3,) metres, of the slot
    size: Tensor  # (3,) metres, of the slot
    slot_rotation: Tensor  # (3, 3)

    def __init__(self, slot: Slot, device: torch.device) -> None:
        super().__init__()
        self.translation = nn.Parameter(torch.zeros(3, device=device), requires_grad=not slot.lock_position)
        self.turn = nn.Parameter(torch.zeros(3, device=device), requires_grad=not slot.lock_rotation)
        if self.turn.requires_grad:  # an object may turn round, but what stands upright does not learn to lean
            upright = torch.tensor([0.0, 0.0, 1.0], device=device)
            self.turn.register_hook(lambda gradient: gradient * upright.to(gradient.dtype))
        self.log_scale = nn.Parameter(torch.zeros((), device=device), requires_grad=not slot.lock_size)
        self.register_buffer("centre", torch.tensor(slot.centre, device=device), persistent=False)
        self.register_buffer("size", torch.tensor(slot.size, device=device), persistent=False)
        rotation = euler_rotation(torch.tensor(slot.rotation_deg, dtype=torch.float64)).float()
        self.register_buffer("slot_rotation", rotation.to(device), persistent=False)

    def position(self) -> Tensor:
        """Centre of the box: (3,) metres."""
        return self.centre + self.translation

    def rotation(self) -> Tensor:
        """Columns are the box's axes in the world: (3, 3)."""
        return turn_rotation(self.turn) @ self.slot_rotation

    def extent(self) -> Tensor:
        """Edges of the box: (3,) metres."""
        return self.size * (FREEDOM * torch.tanh(self.log_scale / FREEDOM)).exp()

    def to_world(self) -> Tensor:
        """Maps box-local [-1/2, 1/2]^3 to the world: (4, 4)."""
        linear = self.rotation() * self.extent()
        top = torch.cat([linear, self.position()[:, None]], dim=1)
        return torch.cat([top, top.new_tensor([[0.0, 0.0, 0.0, 1.0]])])

    def place(self, local: Tensor) -> Tensor:
        """World positions of box-local points: (N, 3) metres."""
        return (local * self.extent()) @ self.rotation().T + self.position()

    def to_local(self, world: Tensor) -> Tensor:
        """Box-local positions of world points: (N, 3); the inverse of `place`."""
        return ((world - self.position()) @ self.rotation()) / self.extent()


def turn_rotation(turn: Tensor) -> Tensor:
    """Rotation by |turn| radians about `turn` (Rodrigues): (3, 3). Differentiable at 0 too."""
    angle = torch.linalg.vector_norm(turn)
    x, y, z = turn.unbind()
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3)
    first = torch.sinc(angle / torch.pi)  # sin(angle) / angle
    second = 0.5 * torch.sinc(angle / (2 * torch.pi)).square()  # (1 - cos(angle)) / angle^2
    return torch.eye(3, device=turn.device, dtype=turn.dtype) + first * cross + second * (cross @ cross)


def euler_rotation(angles_deg: Tensor) -> Tensor:
    """R = Rz Ry Rx, as Blender's Euler XYZ: (3, 3). angles_deg: (3,)."""
    axes = torch.eye(3, dtype=angles_deg.dtype, device=angles_deg.device)
    x, y, z = (turn_rotation(angle * axis) for angle, axis in zip(torch.deg2rad(angles_deg), axes, strict=True))
    return z @ y @ x
