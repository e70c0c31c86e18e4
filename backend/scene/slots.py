"""All that the optimisation changes: per slot a shape, its colour and its placement; and the meshes that come of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..schema import Slot
from .appearance import Appearance, Material
from .initial import Start
from .isosurface import Surface
from .mesh import Mesh, merge
from .placement import Placement
from .shape import Shape


class SlotModel(nn.Module):
    """One slot's parameters."""

    def __init__(
        self, slot: Slot, resolution: int, device: torch.device, generator: torch.Generator, start: Start = "ellipsoid"
    ) -> None:
        """`resolution` counts cubes along the box's longest edge."""
        super().__init__()
        self.shape = Shape(slot.size, resolution, device, start)
        self.appearance = Appearance(slot.size, device, generator)
        self.placement = Placement(slot, device)

    def signed_distance(self, world: Tensor) -> Tensor:
        """Signed distance to the object: (P,) metres, negative inside. world: (P, 3) metres.

        Differentiable in the points, the placement and the shape. As true a distance as the eikonal loss has kept the
        field. Outside the box the distance to the box is added to the value at its nearest point.
        """
        local = self.placement.to_local(world)
        nearest = local.clamp(-0.5, 0.5)
        extent = self.placement.extent()
        gap = torch.linalg.vector_norm((local - nearest) * extent, dim=-1)
        return self.shape.distance(nearest) * extent.max() + gap

    def vanished(self, surface: Surface) -> bool:
        """True if hardly anything is left of the object."""
        return self.shape.vanished(surface)

    def revive(self) -> None:
        """Bring a vanished object back; clear the optimiser's momentum for `shape` afterwards."""
        self.shape.revive()


class Scene(nn.Module):
    """The slots of a request, in its order."""

    def __init__(
        self,
        slots: Sequence[Slot],
        resolution: int,
        device: torch.device,
        generator: torch.Generator,
        start: Start = "ellipsoid",
    ) -> None:
        """`resolution` counts cubes along each box's longest edge; `generator` draws the first colours."""
        super().__init__()
        models = nn.ModuleList(SlotModel(slot, resolution, device, generator, start) for slot in slots)
        self.slots = cast("Sequence[SlotModel]", models)

    def surfaces(self, training: bool) -> list[Surface]:
        """Every slot's surface, box-local. Extract once a step; all views share them."""
        return [model.shape.surface(training) for model in self.slots]

    def slot_mesh(self, index: int, surface: Surface) -> Mesh:
        """One object alone in its canonical frame: box around the origin, unturned, its longest edge 1."""
        return _mesh(index, surface, surface.vertices * self.slots[index].shape.proportions)

    def scene_mesh(self, surfaces: Sequence[Surface]) -> Mesh:
        """All objects where they stand: metres, world."""
        placed = zip(self.slots, surfaces, strict=True)
        return merge([_mesh(i, s, model.placement.place(s.vertices)) for i, (model, s) in enumerate(placed)])

    def to_world(self, index: int) -> Tensor:
        """Maps the slot's box-local [-1/2, 1/2]^3 to the world: (4, 4)."""
        return self.slots[index].placement.to_world()

    def sdf_at(self, index: int, world: Tensor) -> Tensor:
        """Signed distance to one object: (P,) metres, negative inside. world: (P, 3) metres."""
        return self.slots[index].signed_distance(world)

    def colour(self, local: Tensor, slot: Tensor) -> Tensor:
        """Albedo of points of any slots: (N, 3), sRGB in [0, 1]. local: (N, 3) in [-1/2, 1/2]. slot: (N,) int64."""
        if len(self.slots) == 1:
            return self.slots[0].appearance.colour(local)
        albedo = torch.zeros_like(local)
        for index, model in enumerate(self.slots):
            own = (slot == index).nonzero()[:, 0]
            if len(own):
                albedo = albedo.index_copy(0, own, model.appearance.colour(local[own]))
        return albedo

    def show_detail(self, share: float) -> None:
        """Let colours vary over each object by `share` in [0, 1] of what they will; 0 is one colour an object."""
        for model in self.slots:
            model.appearance.detail = share

    def material(self, index: int, local: Tensor) -> Material:
        """Albedo, roughness and metallic of one slot's points, for the export. local: (N, 3) in [-1/2, 1/2]."""
        return self.slots[index].appearance.material(local)

    def parameter_groups(self, lr_geometry: float, lr_colour: float, lr_placement: float) -> list[dict[str, Any]]:
        """Groups for Adam, named "geometry", "colour" and "placement"; a group without free parameters is left out."""
        parts: dict[str, tuple[float, list[nn.Module]]] = {
            "geometry": (lr_geometry, [model.shape for model in self.slots]),
            "colour": (lr_colour, [model.appearance for model in self.slots]),
            "placement": (lr_placement, [model.placement for model in self.slots]),
        }
        groups = []
        for name, (rate, modules) in parts.items():
            free = [p for module in modules for p in module.parameters() if p.requires_grad]
            if free:
                groups.append({"params": free, "lr": rate, "name": name})
        return groups

    def refine(self, resolution: int) -> None:
        """Put every shape on another grid, keeping colour and placement. Make a new optimiser afterwards."""
        for model in self.slots:
            model.shape.refine(resolution)

    def recover(self, surfaces: Sequence[Surface]) -> list[int]:
        """Slots that had vanished and were brought back; the others' state is remembered.

        To be called with the surfaces just extracted, before the parameters change. For revived slots the surfaces
        are to be extracted again, and the optimiser's state of their shapes cleared.
        """
        revived = []
        for index, (model, surface) in enumerate(zip(self.slots, surfaces, strict=True)):
            if model.vanished(surface):
                model.revive()
                revived.append(index)
            else:
                model.shape.remember(surface)
        return revived


def _mesh(index: int, surface: Surface, vertices: Tensor) -> Mesh:
    face_slot = torch.full((len(surface.faces),), index, dtype=torch.int64, device=surface.faces.device)
    return Mesh(vertices, surface.faces, face_slot, surface.vertices)
