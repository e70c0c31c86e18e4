"""Relations that cannot all hold are refused before anything is optimised."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import RequestError
from ..schema import Relation

_AXES = {"left of": "x", "right of": "x", "in front of": "y", "behind": "y", "on top of": "z", "under": "z"}
_FORWARD = ("left of", "in front of", "on top of")  # the edge goes from subject to object; the other names reverse it


def check_consistent(relations: Sequence[Relation]) -> None:
    """Raise RequestError naming the relations, by index and text, that cannot all hold.

    Found are: two relations of one pair that exclude each other, cycles along an axis (A on B, B on C, C on A), and
    bodies of one stack that are asked to stand side by side. Next to has no direction, so its cycles are fine.
    """
    for index, relation in enumerate(relations):
        if relation.subject == relation.object:
            raise _contradiction(relations, [index])
        earlier = relations[:index]
        for other, rival in enumerate(earlier):
            same_pair = {rival.subject, rival.object} == {relation.subject, relation.object}
            if same_pair and not _compatible(relation, rival):
                raise _contradiction(relations, [other, index])
        for axis in "xyz":
            cycle = _way(earlier, axis, *_directed(relation, axis))
            if cycle:
                raise _contradiction(relations, sorted([*cycle, index]))
    for index, relation in enumerate(relations):
        others = [other for other in range(len(relations)) if other != index]
        ends = [(relation.subject, relation.object), (relation.object, relation.subject)]
        for start, end in ends:
            stack = _way([relations[other] for other in others], "z", start, end)
            if len(stack) > 1:
                raise _contradiction(relations, sorted([*(others[step] for step in stack), index]))


def _directed(relation: Relation, axis: str) -> tuple[str, str]:
    """(object, subject) of the edge that runs along the axis: the ends between which a way would close a cycle."""
    if _AXES.get(relation.relation) != axis:
        return "", ""
    pair = (relation.object, relation.subject)
    return pair if relation.relation in _FORWARD else pair[::-1]


def _way(relations: Sequence[Relation], axis: str, start: str, end: str) -> list[int]:
    """Indices of the relations on a shortest way from start to end along the axis; empty where there is none."""
    ways: dict[str, list[int]] = {start: []}
    front = [start]
    while front and start and end not in ways:
        reached = []
        for index, relation in enumerate(relations):
            to, source = _directed(relation, axis)
            if source in front and to not in ways:
                ways[to] = [*ways[source], index]
                reached.append(to)
        front = reached
    return ways.get(end, [])


def _compatible(one: Relation, other: Relation) -> bool:
    """Whether two relations of the same pair can hold together."""
    axes = {_AXES.get(one.relation), _AXES.get(other.relation)}
    if None in axes:  # next to goes with every side, not with a stack
        return "z" not in axes
    return len(axes) == 1 and _directed(one, str(_AXES[one.relation])) == _directed(other, str(_AXES[one.relation]))


def _contradiction(relations: Sequence[Relation], indices: list[int]) -> RequestError:
    texts = [f"relations[{i}] ({relations[i].subject} {relations[i].relation} {relations[i].object})" for i in indices]
    what = f"{texts[0]} contradicts itself" if len(texts) == 1 else f"{' and '.join(texts)} contradict each other"
    return RequestError(what, where=f"relations[{indices[-1]}]", remedy="Remove or change one of them")
