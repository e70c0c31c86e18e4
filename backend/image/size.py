"""Which sizes of picture can be edited. Imports no torch, so that a picture is refused before it is accepted."""

from __future__ import annotations

from ..errors import RequestError

SHORTEST_PX = 32
LONGEST_PX = 8192
LONGEST_ASPECT = 4.0


def check_size(width: int, height: int, where: str) -> None:
    """Raise RequestError for a picture that is too small, too large or too long."""
    if max(height, width) > LONGEST_PX:
        remedy = f"Scale it down to {LONGEST_PX} px or less on each side"
        raise RequestError(f"is {width} x {height} px", where=where, remedy=remedy)
    if min(height, width) < SHORTEST_PX:
        raise RequestError(
            f"is {width} x {height} px", where=where, remedy=f"Give a picture of {SHORTEST_PX} px or more on each side"
        )
    if max(height, width) > LONGEST_ASPECT * min(height, width):
        raise RequestError(
            f"is {width} x {height} px: one side is more than {LONGEST_ASPECT:.0f} times the other",
            where=where,
            remedy="Crop it",
        )
