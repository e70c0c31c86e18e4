"""Whatever goes wrong on a route becomes the one shape of error that the wire has."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ..errors import RequestError, UserError
from .errors import NotFound, as_body, status_of

logger = logging.getLogger(__name__)


def add_handlers(app: FastAPI) -> None:
    """Have the app answer every kind of exception in our own shape."""
    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_framework)
    app.add_exception_handler(Exception, _unforeseen)


async def _user_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, UserError)
    status = status_of(error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if status == 500:
        logger.error("%s %s: %s", request.method, request.url.path, error)
    return JSONResponse(as_body(error), status, headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """What FastAPI itself found wrong with parameters or body."""
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    source, *place = fault["loc"]
    if source == "path":  # an id that the service never gave
        return await _user_error(
            request, NotFound("there is no such job", where="id", remedy="GET /v1/jobs lists them")
        )
    where = ".".join(str(part) for part in place if not isinstance(part, int)) or str(source)
    what = "is not JSON" if fault["type"] == "json_invalid" else fault["msg"].removeprefix("Value error, ")
    return await _user_error(request, RequestError(what, where=where, remedy="Correct the value"))


async def _of_framework(request: Request, error: Exception) -> JSONResponse:
    """Unknown routes, wrong methods and bodies that cannot be taken apart."""
    assert isinstance(error, HTTPException)
    status, headers = error.status_code, dict(error.headers or {})
    remedies = {404: "See the README's list of routes", 405: f"Allowed: {headers.get('Allow', 'another method')}"}
    remedy = remedies.get(status, "Correct the request")
    if isinstance(error.__cause__, UserError) or isinstance(error.__context__, UserError):
        found: Any = error.__cause__ or error.__context__
        return await _user_error(request, found)
    fault = UserError(str(error.detail), where=f"{request.method} {request.url.path}", remedy=remedy)
    return JSONResponse(as_body(fault), status, headers)


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    """Our own fault; the traceback goes to the log."""
    fault = UserError("the service has a fault", where=request.url.path, remedy="The service's log says more")
    return JSONResponse(as_body(fault), 500)
