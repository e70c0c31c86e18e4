"""The relation vocabulary: question, words, hinge loss and check of each relation, one row each.

A relation is a list of conditions on two axis-aligned boxes. The check asks that they hold; the loss is the sum of what
is missing until they hold with a margin to spare. Both come from the same numbers, so a loss of zero implies the check.
Left is -X and front is -Y, as seen in Blender's front view.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..schema import RelationName

CONTACT = 0.12  # of the smaller height: how far from touching still counts as standing on
COVERED = 0.6  # of the smaller extent: how much of it two stacked bodies share along x and along y
INTERLOCK = 0.1  # of the smaller extent: how far two bodies side by side may reach into each other
SPREAD = 0.6  # sideways offset per offset in the relation's direction: a cone of 31 degrees
LEVEL = 0.5  # of the smaller height: how much of it two bodies side by side share
REACH = 0.6  # of the mean extent: the widest gap that is still "next to"
MARGIN = 0.04  # of the smaller extent: what the loss asks for beyond the check
THIN = 0.05  # of the pair's mean size: flat bodies are taken to be at least this thick where tolerances are set


class Bounds(NamedTuple):
    """Axis-aligned bounds in the world; leading dimensions of a pair broadcast."""

    low: Tensor  # (..., 3) metres
    high: Tensor  # (..., 3) metres


class Excess(NamedTuple):
    """How far conditions are from holding: A alternatives (one must hold) of K conditions (all must hold)."""

    value: Tensor  # (..., A, K) metres; not above zero where the condition holds
    margin: Tensor  # (..., A, K) metres; how far below zero the loss pushes it


class RelationRule(NamedTuple):
    """One row of the vocabulary."""

    name: RelationName
    question: str  # for the vision-language model; {subject} and {object} are nouns without article
    phrases: tuple[str, ...]  # the words of a prompt that mean it
    conditions: Callable[[Bounds, Bounds], Excess]

    def loss(self, subject: Bounds, object: Bounds) -> Tensor:
        """What is missing until the relation holds with a margin, over the pair's mean size: (...), zero when it does.

        Sizes that only set tolerances carry no gradient: nothing grows in order to be tolerated.
        """
        subject, object = _together(subject, object)
        excess = self.conditions(subject, object)
        missing = torch.relu(excess.value + excess.margin).sum(-1)
        # min(dim) sends the gradient to one alternative; amin would split it and opposite sides would cancel.
        return missing.min(-1).values / _mean_size(subject, object)

    def check(self, subject: Bounds, object: Bounds) -> Tensor:
        """Whether the relation holds: (...) bool."""
        value = self.conditions(*_together(subject, object)).value
        return (value <= 0.0).all(-1).any(-1)

    def ask(self, subject: str, object: str) -> str:
        """The question about two noun phrases; their articles are dropped."""
        return self.question.format(subject=without_article(subject), object=without_article(object))


def bounds_of(vertices: Tensor) -> Bounds:
    """Bounds of the vertices (..., V, 3), differentiable."""
    return Bounds(vertices.amin(-2), vertices.amax(-2))


def box_bounds(centre: Tensor, size: Tensor) -> Bounds:
    """Bounds of axis-aligned boxes given centre and edge lengths, each (..., 3)."""
    return Bounds(centre - size / 2, centre + size / 2)


def without_article(phrase: str) -> str:
    """The noun phrase without a leading a, an, the."""
    first, _, rest = phrase.strip().partition(" ")
    return rest.strip() if rest and first.lower() in ("a", "an", "the") else phrase.strip()


def _together(subject: Bounds, object: Bounds) -> tuple[Bounds, Bounds]:
    shape = torch.broadcast_shapes(subject.low.shape, object.low.shape)
    return Bounds(*(t.expand(shape) for t in subject)), Bounds(*(t.expand(shape) for t in object))


def _extents(subject: Bounds, object: Bounds) -> Tensor:
    """Edge lengths of both boxes, without gradient: (2, ..., 3)."""
    return torch.stack([subject.high - subject.low, object.high - object.low]).detach()


def _mean_size(subject: Bounds, object: Bounds) -> Tensor:
    return _extents(subject, object).mean(-1).mean(0).clamp_min(1e-6)


def _overlap(subject: Bounds, object: Bounds) -> Tensor:
    """Length both boxes share along each axis, negative across a gap: (..., 3)."""
    return torch.minimum(subject.high, object.high) - torch.maximum(subject.low, object.low)


def _offset(subject: Bounds, object: Bounds) -> Tensor:
    """From the object's centre to the subject's: (..., 3)."""
    return (subject.low + subject.high - object.low - object.high) / 2


def _standing_on(subject: Bounds, object: Bounds) -> Excess:
    """Touching from above, centre over the object's footprint, most of the smaller one covered."""
    extents = _extents(subject, object)
    smaller = extents.amin(0)
    height = smaller[..., 2].maximum(THIN * _mean_size(subject, object))
    contact = (subject.low[..., 2] - object.high[..., 2]).abs() - CONTACT * height
    outside = _offset(subject, object)[..., :2].abs() - extents[1, ..., :2] / 2
    uncovered = (COVERED * smaller - _overlap(subject, object))[..., :2]
    value = torch.cat([contact[..., None], outside, uncovered], -1)
    scale = torch.cat([height[..., None], smaller[..., :2], smaller[..., :2]], -1)
    return Excess(value[..., None, :], MARGIN * scale[..., None, :])


def _standing_under(subject: Bounds, object: Bounds) -> Excess:
    return _standing_on(object, subject)


def _beside(subject: Bounds, object: Bounds, axis: int, sign: int) -> Excess:
    """Apart along a horizontal axis (x 0, y 1) on its negative or positive side, roughly in line, roughly level."""
    smaller = _extents(subject, object).amin(0)
    gap = subject.low - object.high if sign > 0 else object.low - subject.high
    offset = _offset(subject, object)
    interlocked = -gap[..., axis] - INTERLOCK * smaller[..., axis]
    astray = offset[..., 1 - axis].abs() - SPREAD * sign * offset[..., axis]
    unlevel = LEVEL * smaller[..., 2] - _overlap(subject, object)[..., 2]
    value = torch.stack([interlocked, astray, unlevel], -1)
    scale = torch.stack([smaller[..., axis], smaller[..., axis], smaller[..., 2]], -1)
    return Excess(value[..., None, :], MARGIN * scale[..., None, :])


def _left_of(subject: Bounds, object: Bounds) -> Excess:
    return _beside(subject, object, axis=0, sign=-1)


def _right_of(subject: Bounds, object: Bounds) -> Excess:
    return _beside(subject, object, axis=0, sign=1)


def _in_front_of(subject: Bounds, object: Bounds) -> Excess:
    return _beside(subject, object, axis=1, sign=-1)


def _behind(subject: Bounds, object: Bounds) -> Excess:
    return _beside(subject, object, axis=1, sign=1)


def _next_to(subject: Bounds, object: Bounds) -> Excess:
    """Left, right, in front or behind, at a short distance."""
    mean = _extents(subject, object).mean(0)
    far = -_overlap(subject, object) - REACH * mean  # between boxes that are apart, the overlap is minus the gap
    sides = [(axis, sign, _beside(subject, object, axis, sign)) for axis in (0, 1) for sign in (1, -1)]
    value = [torch.cat([side.value, far[..., axis, None, None]], -1) for axis, _, side in sides]
    margin = [torch.cat([side.margin, MARGIN * mean[..., axis, None, None]], -1) for axis, _, side in sides]
    return Excess(torch.cat(value, -2), torch.cat(margin, -2))


_RULES = (
    RelationRule(
        "on top of",
        "Is the {subject} on top of the {object}?",
        ("on top of", "on the top of", "on", "atop", "upon", "above"),
        _standing_on,
    ),
    RelationRule(
        "under", "Is the {subject} under the {object}?", ("under", "underneath", "beneath", "below"), _standing_under
    ),
    RelationRule(
        "left of",
        "Is the {subject} to the left of the {object}?",
        ("left of", "to the left of", "on the left of", "on the left side of", "to the left side of"),
        _left_of,
    ),
    RelationRule(
        "right of",
        "Is the {subject} to the right of the {object}?",
        ("right of", "to the right of", "on the right of", "on the right side of", "to the right side of"),
        _right_of,
    ),
    RelationRule(
        "in front of", "Is the {subject} in front of the {object}?", ("in front of", "in the front of"), _in_front_of
    ),
    RelationRule(
        "behind",
        "Is the {subject} behind the {object}?",
        ("behind", "in back of", "in the back of", "at the back of", "to the rear of"),
        _behind,
    ),
    RelationRule(
        "next to",
        "Is the {subject} next to the {object}?",
        ("next to", "beside", "near", "near to", "close to", "alongside", "adjacent to", "by the side of"),
        _next_to,
    ),
)
RELATIONS: dict[str, RelationRule] = {rule.name: rule for rule in _RULES}
