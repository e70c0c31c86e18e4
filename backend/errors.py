"""Errors that are the caller's to mend: each says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


class UserError(Exception):
    """The request, the machine's set-up or a file is wrong in a way the user can mend.

    `where` names the place (`slots[2].prompt`, a path, an option), `what` the fault, `remedy` the way out.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(f"{where + ': ' if where else ''}{what}{'. ' + remedy if remedy else ''}")


class RequestError(UserError):
    """The scene request does not describe something that can be generated."""


class ModelError(UserError):
    """Model weights are missing, damaged or of the wrong kind."""


class OutputError(UserError):
    """The result could not be written where it was asked for."""


class OptimisationError(UserError):
    """The optimisation cannot go on: a loss is not finite, or a surface vanished for good."""


class Interrupted(UserError):
    """The user stopped the run; the message says which checkpoint resumes it."""


def check_setting_names(given: Iterable[str], names: Collection[str]) -> None:
    """Raise RequestError for the first setting that there is not. It names the nearest one, or all."""
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            remedy = f"Did you mean {near[0]}?" if near else f"Settings are: {', '.join(names)}"
            raise RequestError("unknown setting", where=f"settings.{name}", remedy=remedy)
