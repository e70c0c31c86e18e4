"""Errors that only the service knows, and the HTTP status of each kind of error."""

from __future__ import annotations

from ..errors import OutputError, RequestError, UserError


class NotFound(UserError):
    """There is no such job, file or route."""


class WrongState(UserError):
    """The state of the job, or of the service, does not allow what was asked for."""


class TooLarge(UserError):
    """The body is larger than the service takes."""


class Unauthorised(UserError):
    """No token was sent, or a wrong one."""


class WrongHost(UserError):
    """The Host header names somebody else."""


class Unavailable(UserError):
    """The worker process does not answer; not the caller's fault, though often the machine's."""


_STATUS: dict[type[UserError], int] = {
    RequestError: 400,
    Unauthorised: 401,
    NotFound: 404,
    WrongState: 409,
    TooLarge: 413,
    WrongHost: 421,
    Unavailable: 500,
    OutputError: 500,
}


def status_of(error: UserError) -> int:
    """The HTTP status the error is answered with: 400 for the user's faults that have none of their own."""
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 400)


def as_body(error: UserError) -> dict[str, dict[str, str]]:
    """The JSON body of every answer that is not a success."""
    return {"error": {"what": error.what, "where": error.where, "remedy": error.remedy}}
