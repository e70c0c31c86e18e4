"""What an import makes is there as a whole, or not at all."""

import contextlib
import re
import traceback
from collections.abc import Iterator
from typing import Any, NamedTuple

import bpy

MADE = ("objects", "collections", "meshes", "materials", "images")  # kinds of data that an import makes


class PlaceError(Exception):
    """The result could not be put into the file; nothing of it was left there."""


class Before(NamedTuple):
    """Which data-blocks there were, by kind."""

    pointers: dict[str, set[int]]

    def added(self, kind: str) -> list[Any]:
        """Those of a kind that are there now and were not."""
        return [block for block in getattr(bpy.data, kind) if block.as_pointer() not in self.pointers[kind]]


@contextlib.contextmanager
def whole_or_nothing() -> Iterator[Before]:
    """What there was before. An exception inside takes away what was added, and comes out as a PlaceError."""
    before = Before({kind: {block.as_pointer() for block in getattr(bpy.data, kind)} for kind in MADE})
    try:
        yield before
    except Exception as error:  # the importer's own faults have every type
        for kind in MADE:
            bpy.data.batch_remove(before.added(kind))
        if not isinstance(error, PlaceError | RuntimeError | OSError):
            traceback.print_exc()
        raise PlaceError(_plain(error)) from error


def _plain(error: Exception) -> str:
    """What is told of an error; of an operator's report the last line, without its label."""
    if isinstance(error, OSError) and error.strerror:
        return f"The result cannot be read: {error.strerror}"
    lines = str(error).strip().splitlines()
    said = re.sub(r"^(Error: )+", "", lines[-1]) if lines else "Blender could not import the result"
    expected = isinstance(error, PlaceError | RuntimeError)
    return said if expected else f"The result could not be imported ({type(error).__name__}: {said})"
