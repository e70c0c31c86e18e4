"""The user's meshes fitted to their slots: boxes for those that have none, distances to start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..errors import RequestError
from ..schema import MOST_ELONGATED, SHORTEST_EDGE_M, Slot
from .isosurface import make_grid
from .mesh_distance import HALF_THICKNESS, grid_distance
from .placement import Placement, euler_rotation
from .shape import HEALTHY, LEAST_CELLS
from .user_mesh import Given, UserMesh
from .volume import cells_per_axis

FILL = 0.9  # share of each edge of a box made for a start mesh that the mesh spans: room to grow
WORTH_TELLING = 0.02  # share of a start body that is there only because thin parts were thickened


def with_boxes(slots: Sequence[Slot], meshes: Mapping[str, UserMesh]) -> tuple[Slot, ...]:
    """The slots, boxes put round the meshes: for context always, for a start where the slot does not say its centre.

    A box keeps the slot's rotation. One that would be too flat grows downwards, so that what stands on a floor touches
    its box and is not in it.
    """
    return tuple(
        _boxed(slot, meshes[slot.name])
        if slot.kind == "context" or (slot.kind == "start" and "centre" not in slot.model_fields_set)
        else slot
        for slot in slots
    )


def make_given(
    slots: Sequence[Slot], meshes: Mapping[str, UserMesh], resolution: int, device: torch.device
) -> tuple[Given, list[str]]:
    """What a scene of these slots is made with, and warnings.

    resolution: cubes along each box's longest edge. Raises RequestError for a start mesh of which hardly anything lies
    in its box.
    """
    starts, warnings = {}, []
    for slot in slots:
        if slot.kind == "start":
            starts[slot.name], told = starting_field(slot, meshes[slot.name], resolution, device)
            warnings += told
    contexts = {slot.name: meshes[slot.name] for slot in slots if slot.kind == "context"}
    return Given(starts, contexts), warnings


def starting_field(slot: Slot, mesh: UserMesh, resolution: int, device: torch.device) -> tuple[Tensor, list[str]]:
    """Signed distance to the mesh at the corners of the slot's grid, (G,) in the box's longest edges, and warnings."""
    cells = cells_per_axis(slot.size, resolution, LEAST_CELLS)
    edges = torch.tensor(slot.size, device=device)
    unit = edges / edges.max()
    with torch.no_grad():
        local = Placement(slot, device).to_local(mesh.vertices.to(device))
    field = grid_distance(local * unit, mesh.faces.to(device), make_grid(cells, device).vertices * unit, cells)
    if float((field.sdf < 0).float().mean()) < HEALTHY:
        raise RequestError(
            "hardly anything of its mesh lies in its box",
            where=f"slot {slot.name!r}",
            remedy="Fit the box to the mesh, or leave out centre and size",
        )
    warnings = []
    beyond = float(((local.abs() - 0.5) * edges).max())
    cell = float((unit / torch.tensor(cells, device=device)).max()) * max(slot.size)
    if beyond > cell:
        warnings.append(f"{slot.name}: its mesh reaches {beyond:.3g} m out of its box; it starts without that part")
    if field.thickened > WORTH_TELLING:
        most = f"{2 * HALF_THICKNESS * cell:.3g} m"
        warnings.append(
            f"{slot.name}: thin parts of its mesh were thickened, to {most} at most, to hold on its grid; a higher "
            "resolution or a smaller box keeps them thinner"
        )
    return field.sdf, warnings


def _boxed(slot: Slot, mesh: UserMesh) -> Slot:
    rotation = euler_rotation(torch.tensor(slot.rotation_deg, dtype=torch.float64))
    own = mesh.vertices.double() @ rotation
    low, high = own.amin(0), own.amax(0)
    if slot.kind == "start":
        room = (high - low) * (1.0 / FILL - 1.0) / 2
        low, high = low - room, high + room
    least = max(2.0 * SHORTEST_EDGE_M, 2.0 * float((high - low).max()) / MOST_ELONGATED)
    low = torch.minimum(low, high - least)
    centre, size = (rotation @ ((low + high) / 2)).tolist(), (high - low).tolist()
    return slot.model_copy(update={"centre": tuple(centre), "size": tuple(size)})
