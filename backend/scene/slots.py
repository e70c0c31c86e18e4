"""What a scene is made of: per slot a shape, its colour and its placement, or a mesh that stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..schema import Slot
from .appearance import Appearance, Material
from .context import Context
from .initial import Start
from .isosurface import Surface
from .mesh import Mesh, merge
from .placement import Placement
from .shape import Shape
from .user_mesh import Given

SHELL = 0.01  # half the thickness of a context mesh with holes, in longest edges of the smallest generated box
VICINITY = 0.5  # how far beyond the objects context is framed, in lengths of the longest edge of their bounds


class SlotModel(nn.Module):
    """The parameters of one slot that is optimised."""

    def __init__(
        self, slot: Slot, resolution: int, device: torch.device, generator: torch.Generator, start: Start = "ellipsoid"
    ) -> None:
        """`resolution` counts cubes along the box's longest edge."""
        super().__init__()
        self.shape = Shape(slot.size, resolution, device, "given" if slot.kind == "start" else start)
        self.appearance = Appearance(slot.size, device, generator)
        self.placement = Placement(slot, device)

    def surface(self, training: bool) -> Surface:
        """The object's surface, box-local."""
        return self.shape.surface(training)

    def mesh(self, index: int, surface: Surface) -> Mesh:
        """The object where it stands: metres, world."""
        return _mesh(index, surface, self.placement.place(surface.vertices))

    def colour(self, local: Tensor) -> Tensor:
        """Albedo of points of the object: (N, 3), sRGB in [0, 1]. local: (N, 3) in [-1/2, 1/2]."""
        return self.appearance.colour(local)

    def material(self, local: Tensor) -> Material:
        """Albedo, roughness and metallic of points of the object. local: (N, 3) in [-1/2, 1/2]."""
        return self.appearance.material(local)

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
        given: Given | None = None,
    ) -> None:
        """`resolution` counts cubes along each box's longest edge; `generator` draws the first colours.

        given: what slots of the kinds start and context are made of; without it these wait for a checkpoint.
        """
        super().__init__()
        self.free = [index for index, slot in enumerate(slots) if slot.kind != "context"]  # slots that are optimised
        shell = SHELL * min((max(slots[index].size) for index in self.free), default=0.0)
        models: list[nn.Module] = []
        for slot in slots:
            if slot.kind == "context":
                models.append(Context(given.contexts[slot.name] if given else None, shell, device))
                continue
            model = SlotModel(slot, resolution, device, generator, start)
            if given and slot.kind == "start":
                model.shape.begin_with(given.starts[slot.name].to(device))
            models.append(model)
        self.slots = cast("Sequence[SlotModel | Context]", nn.ModuleList(models))

    def model(self, index: int) -> SlotModel:
        """The parameters of a slot that is optimised."""
        model = self.slots[index]
        assert isinstance(model, SlotModel), f"slot {index} is context"
        return model

    def surfaces(self, training: bool) -> list[Surface]:
        """Every slot's surface, box-local, or in the world for context. Extract once a step; all views share them."""
        return [model.surface(training) for model in self.slots]

    def keep_looks_of_others(self, index: int) -> None:
        """Drop the gradients of shape and colour of all objects but one: they may move, and look as they do.

        Else each object's Adam would step as often as there are objects, on gradients it mostly does not have, and the
        more there are the rougher they all would become.
        """
        for other in self.free:
            for part in (self.model(other).shape, self.model(other).appearance):
                if other != index:
                    part.zero_grad(set_to_none=True)

    def slot_mesh(self, index: int, surface: Surface) -> Mesh:
        """One object alone in its canonical frame: box around the origin, unturned, its longest edge 1."""
        return _mesh(index, surface, surface.vertices * self.model(index).shape.proportions)

    def scene_mesh(self, surfaces: Sequence[Surface]) -> Mesh:
        """All objects and context where they stand: metres, world."""
        return merge([model.mesh(i, s) for i, (model, s) in enumerate(zip(self.slots, surfaces, strict=True))])

    def to_world(self, index: int) -> Tensor:
        """Maps the slot's box-local [-1/2, 1/2]^3 to the world: (4, 4)."""
        return self.model(index).placement.to_world()

    def sdf_at(self, index: int, world: Tensor) -> Tensor:
        """Signed distance to one object: (P,) metres, negative inside. world: (P, 3) metres."""
        return self.slots[index].signed_distance(world)

    def surface_points(self, index: int, surface: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Points on one object: (count, 3) metres, world. surface: (V, 3), its vertices in the world."""
        model = self.slots[index]
        if isinstance(model, Context):  # a wall has four vertices, and tells nothing of what is between them
            return model.surface_points(count, generator)
        return surface[torch.randint(len(surface), (count,), generator=generator)]

    def height_below(self, points: Tensor) -> Tensor:
        """Height of the context straight below each point: (P,) metres, -inf without any. points: (P, 3) metres."""
        context = [model for model in self.slots if isinstance(model, Context)]
        nothing = torch.full_like(points[:, 2], -torch.inf)
        return torch.stack([nothing, *(model.height_below(points) for model in context)]).amax(0).detach()

    def in_view(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds for cameras to frame, (3,) each: the objects, and of the context what is near them.

        low, high: (S, 3) metres, each slot's bounds. A whole room in the picture would leave little of a cup in it.
        """
        free_low, free_high = low[self.free].amin(0), high[self.free].amax(0)
        beyond = VICINITY * (free_high - free_low).amax()
        return (
            torch.maximum(low.amin(0), free_low - beyond),
            torch.minimum(high.amax(0), free_high + beyond),
        )

    def colour(self, local: Tensor, slot: Tensor) -> Tensor:
        """Albedo of points of any slots: (N, 3), sRGB in [0, 1]. local: (N, 3) in [-1/2, 1/2]. slot: (N,) int64."""
        if len(self.slots) == 1:
            return self.slots[0].colour(local)
        albedo = torch.zeros_like(local)
        for index, model in enumerate(self.slots):
            own = (slot == index).nonzero()[:, 0]
            if len(own):
                albedo = albedo.index_copy(0, own, model.colour(local[own]))
        return albedo

    def show_detail(self, share: float) -> None:
        """Let colours vary over each object by `share` in [0, 1] of what they will; 0 is one colour an object."""
        for model in self._models():
            model.appearance.detail = share

    def material(self, index: int, local: Tensor) -> Material:
        """Albedo, roughness and metallic of one slot's points, for the export. local: (N, 3) in [-1/2, 1/2]."""
        return self.slots[index].material(local)

    def parameter_groups(self, lr_geometry: float, lr_colour: float, lr_placement: float) -> list[dict[str, Any]]:
        """Groups for Adam, named "geometry", "colour" and "placement"; a group without free parameters is left out."""
        parts: dict[str, tuple[float, list[nn.Module]]] = {
            "geometry": (lr_geometry, [model.shape for model in self._models()]),
            "colour": (lr_colour, [model.appearance for model in self._models()]),
            "placement": (lr_placement, [model.placement for model in self._models()]),
        }
        groups = []
        for name, (rate, modules) in parts.items():
            free = [p for module in modules for p in module.parameters() if p.requires_grad]
            if free:
                groups.append({"params": free, "lr": rate, "name": name})
        return groups

    def refine(self, resolution: int) -> None:
        """Put every shape on another grid, keeping colour and placement. Make a new optimiser afterwards."""
        for model in self._models():
            model.shape.refine(resolution)

    def recover(self, surfaces: Sequence[Surface]) -> list[int]:
        """Slots that had vanished and were brought back; the others' state is remembered.

        To be called with the surfaces just extracted, before the parameters change. For revived slots the surfaces
        are to be extracted again, and the optimiser's state of their shapes cleared.
        """
        revived = []
        for index in self.free:
            model, surface = self.model(index), surfaces[index]
            if model.vanished(surface):
                model.revive()
                revived.append(index)
            else:
                model.shape.remember(surface)
        return revived

    def _models(self) -> list[SlotModel]:
        """Those that are optimised."""
        return [self.model(index) for index in self.free]


def _mesh(index: int, surface: Surface, vertices: Tensor) -> Mesh:
    face_slot = torch.full((len(surface.faces),), index, dtype=torch.int64, device=surface.faces.device)
    return Mesh(vertices, surface.faces, face_slot, surface.vertices)
