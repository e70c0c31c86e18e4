"""First boxes for slots that nobody placed: apart, standing on something, about where their relations want them.

It is a start for the optimisation, not the result: objects do not fill their boxes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..scene.placement import euler_rotation
from ..schema import Relation, Slot
from .physics import GROUND_M, standing_on
from .relations import LEVEL, RELATIONS, box_bounds

GAP = 0.1  # of the mean edge: free space kept between neighbours
CROWDED = 1.1  # a support's edge over the sum of the edges of what stands on it, where there are several
TRIES = 24  # random starts, solved together
STEPS = 120  # of gradient descent
PULL = 0.02  # weight of the mean squared distance from the middle, or from the support, over the mean edge squared
_STACKING = ("on top of", "under")


class _Problem(NamedTuple):
    """What is fixed while the boxes are moved about on their floor."""

    start: Tensor  # (S, 3) centres, metres; z is final
    extent: Tensor  # (S, 3) edges of the axis-aligned bounds, metres
    placed: Tensor  # (S,) bool, boxes that stay
    on: Tensor  # (S, S) bool, what stands on what
    related: dict[str, Tensor]  # by relation name (R, 2) subject and object
    pairs: Tensor  # (P, 2) boxes at overlapping heights, which must not meet


def lay_out(slots: Sequence[Slot], relations: Sequence[Relation]) -> tuple[Slot, ...]:
    """The slots with centres: no two boxes overlap, each rests on the ground or its support, relations hold roughly.

    A slot whose centre was given, or whose position is locked, stays where it is. Sizes that were given stay as well;
    the default size grows where a support carries several bodies, and where a body on the ground is to stand beside one
    that is raised and they would not share any height. The same slots give the same layout.
    """
    if not slots:
        return ()
    on = standing_on([slot.name for slot in slots], relations)
    slots = _wide_enough(list(slots), on, relations)
    slots, extent, height = _tall_enough(slots, on, relations)
    placed = torch.tensor([_is_placed(slot) for slot in slots])
    start = torch.tensor([slot.centre for slot in slots], dtype=torch.float32)
    start[:, 2] = torch.where(placed, start[:, 2], height)
    low, high = start[:, 2] - extent[:, 2] / 2, start[:, 2] + extent[:, 2] / 2
    tolerance = 0.02 * extent[:, 2].min()
    pairs = [
        (a, b)
        for a, b in itertools.combinations(range(len(slots)), 2)
        if min(high[a], high[b]) - max(low[a], low[b]) > tolerance and not (placed[a] and placed[b])
    ]
    related: dict[str, list[tuple[int, int]]] = {}
    for subject, name, object in (_indices(relation, slots) for relation in relations):
        related.setdefault(name, []).append((subject, object))
    tensors = {name: torch.tensor(ends) for name, ends in related.items()}
    meeting = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    problem = _Problem(start, extent, placed, on, tensors, meeting)
    centres = _solve(problem)
    return tuple(_moved(slot, centre) for slot, centre in zip(slots, centres, strict=True))


def _is_placed(slot: Slot) -> bool:
    return slot.lock_position or "centre" in slot.model_fields_set


def _may_grow(slot: Slot) -> bool:
    return not (_is_placed(slot) or slot.lock_size or "size" in slot.model_fields_set)


def _moved(slot: Slot, centre: Tensor) -> Slot:
    if _is_placed(slot):
        return slot
    x, y, z = (round(value, 4) for value in centre.tolist())
    return slot.model_copy(update={"centre": (x, y, z)})


def _indices(relation: Relation, slots: Sequence[Slot]) -> tuple[int, str, int]:
    names = [slot.name for slot in slots]
    return names.index(relation.subject), relation.relation, names.index(relation.object)


def _extents(slots: Sequence[Slot]) -> Tensor:
    """Edges of the bounds of the turned boxes: (S, 3) metres."""
    turns = torch.stack([euler_rotation(torch.tensor(s.rotation_deg, dtype=torch.float64)) for s in slots])
    sizes = torch.tensor([slot.size for slot in slots], dtype=torch.float64)
    return (turns.abs() @ sizes[..., None])[..., 0].float()


def _wide_enough(slots: list[Slot], on: Tensor, relations: Sequence[Relation]) -> list[Slot]:
    """The slots, supports of several bodies grown: along y where those stand one behind the other, else along x."""
    triples = [_indices(relation, slots) for relation in relations]
    for below in _from_top(on):
        loads = on[:, below].nonzero()[:, 0].tolist()
        if len(loads) < 2 or not _may_grow(slots[below]):
            continue
        among = {name for subject, name, object in triples if subject in loads and object in loads}
        need = CROWDED * _extents([slots[load] for load in loads]).sum(0)
        size = list(slots[below].size)
        for axis, names in ((0, {"left of", "right of"}), (1, {"in front of", "behind"})):
            if among & names or (axis == 0 and not among & {"in front of", "behind"}):
                size[axis] = round(max(size[axis], float(need[axis])), 4)
        slots[below] = slots[below].model_copy(update={"size": tuple(size)})
    return slots


def _from_top(on: Tensor) -> list[int]:
    """Slots in an order in which each comes after everything that stands on it, as far as there are no cycles."""
    order: list[int] = []
    while len(order) < on.shape[0]:
        rest = [n for n in range(on.shape[0]) if n not in order]
        free = [n for n in rest if not on[rest, n].any()]
        order += free or rest
    return order


def _tall_enough(slots: list[Slot], on: Tensor, relations: Sequence[Relation]) -> tuple[list[Slot], Tensor, Tensor]:
    """The slots, low ones grown up to raised neighbours; their extents (S, 3) and heights of their centres (S,)."""
    sides = [_indices(relation, slots) for relation in relations if relation.relation not in _STACKING]
    for _ in slots:
        extent = _extents(slots)
        low = _floors(slots, extent, on)
        grown = False
        for subject, _name, object in sides:
            short, raised = sorted((subject, object), key=lambda n: float(low[n]))
            # Twice the share that the relation asks for, or as much as there is.
            goal = low[raised] + min(1.0, 2 * LEVEL) * extent[raised, 2] - low[short]
            asked = low[raised] + LEVEL * extent[[short, raised], 2].min() - low[short]
            if extent[short, 2] < asked and _may_grow(slots[short]) and slots[short].rotation_deg == (0.0, 0.0, 0.0):
                size = (*slots[short].size[:2], round(float(goal), 4))
                slots[short] = slots[short].model_copy(update={"size": size})
                grown = True
                break  # the floors of what stands on it have risen
        if not grown:
            break
    return slots, extent, low + extent[:, 2] / 2


def _floors(slots: Sequence[Slot], extent: Tensor, on: Tensor) -> Tensor:
    """Height of what each box rests on, or of a placed box's own lower side: (S,) metres."""
    low = torch.full((len(slots),), GROUND_M)
    for n in reversed(_from_top(on)):
        below = on[n].nonzero()[:, 0]
        if _is_placed(slots[n]):
            low[n] = slots[n].centre[2] - extent[n, 2] / 2
        elif below.numel() > 0:
            low[n] = (low[below] + extent[below, 2]).max()
    return low


def _solve(problem: _Problem) -> Tensor:
    """Centres (S, 3) of the best of many descents from random places."""
    scale = problem.extent.mean()
    generator = torch.Generator().manual_seed(0)
    spread = scale * (1.0 + problem.start.shape[0] ** 0.5 / 2)
    noise = torch.randn(TRIES, problem.start.shape[0], 2, generator=generator) * spread
    middle = problem.start[problem.placed, :2].mean(0) if problem.placed.any() else torch.zeros(2)
    offset = (middle - problem.start[:, :2] + noise).requires_grad_()
    adam = torch.optim.Adam([offset], lr=0.0)
    for step in range(STEPS):
        adam.param_groups[0]["lr"] = 0.1 * float(scale) * (1.0 - step / STEPS)
        adam.zero_grad()
        _cost(problem, _centres(problem, offset), middle).sum().backward()
        adam.step()
    with torch.no_grad():
        centres = _centres(problem, offset)
        best = centres[_cost(problem, centres, middle).argmin()]
        if not problem.placed.any():
            best[:, :2] -= best[:, :2].mean(0)
    return best


def _centres(problem: _Problem, offset: Tensor) -> Tensor:
    """Centres (N, S, 3) moved by the offset (N, S, 2) along x and y; placed boxes stay."""
    moved = offset * ~problem.placed[:, None]
    return problem.start + torch.nn.functional.pad(moved, (0, 1))


def _cost(problem: _Problem, centres: Tensor, middle: Tensor) -> Tensor:
    """Relations that do not hold, boxes that meet, and a little for distance: (N,), dimensionless."""
    places = centres[..., :2]
    share = problem.on / problem.on.sum(-1, keepdim=True).clamp_min(1)
    anchor = torch.where(problem.on.any(-1)[:, None], share @ places, middle)
    total = PULL * ((places - anchor) / problem.extent.mean()).square().sum(-1).mean(-1)
    for name, ends in problem.related.items():
        subject, object = (box_bounds(centres[:, end], problem.extent[end]) for end in ends.unbind(-1))
        total = total + RELATIONS[name].loss(subject, object).sum(-1)
    one, other = problem.pairs.unbind(-1)
    edges = (problem.extent[one] + problem.extent[other])[:, :2] / 2
    apart = (centres[:, one, :2] - centres[:, other, :2]).abs() - edges
    missing = torch.relu(GAP * edges.mean(-1) - apart.max(-1).values) / edges.mean(-1)
    return total + missing.sum(-1)
