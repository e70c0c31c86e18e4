"""The routes: reading what came, asking the part that knows, answering. Each route is a few lines."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from .. import __version__
from ..presets import settings_for
from . import catalogue, events
from .clients import add_clients
from .dispatcher import Dispatcher
from .errors import NotFound, Unauthorised
from .faults import add_handlers
from .files import FILES, File
from .folder import ID_PATTERN, new_id
from .guard import Guard
from .jobs import Jobs
from .kinds import KINDS, PARTS
from .lifetime import Lifetime
from .uploads import read_upload
from .wire import (
    ErrorBody,
    Freed,
    Health,
    Job,
    JobList,
    ModelList,
    PageRequest,
    Parsed,
    ParseRequest,
    Presets,
    ResumeRequest,
    Vocabulary,
    VocabularyRequest,
)

API = 1
ANSWER_S = 25.0  # for questions to the worker; a client waits for about 30
_REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "Refused; the body says what is wrong, where, and what to do"},
    "5XX": {"model": ErrorBody, "description": "The service's fault, or the machine's"},
}
_ANY_JOB = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("SceneJob", "ImageJob", "EditJob")]}
_NEW_JOB = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _ANY_JOB},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["request"],
                    "additionalProperties": False,
                    "properties": {
                        "request": _ANY_JOB,
                        **{
                            part.name: {"type": "string", "format": "binary", "description": part.about}
                            for part in PARTS
                        },
                    },
                },
                "encoding": {
                    "request": {"contentType": "application/json"},
                    **{part.name: {"contentType": part.media_type} for part in PARTS},
                },
            },
        },
    }
}

_bearer = HTTPBearer(auto_error=False, description="The text of the file `token` in the data folder")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
JobId = Annotated[str, Path(alias="id", pattern=ID_PATTERN, description="As the service gave it")]


class Parts(NamedTuple):
    """What the routes ask."""

    jobs: Jobs
    dispatcher: Dispatcher
    token: str
    host: str  # as configured
    lifetime: Lifetime
    ending: Callable[[], bool]  # whether the service ends


def create_app(parts: Parts) -> FastAPI:
    """The service as an ASGI application."""
    app = FastAPI(
        title="Diorama",
        version=__version__,
        openapi_url=None,  # below, with the token
        separate_input_output_schemas=False,
        redirect_slashes=False,
    )

    def is_ours(credentials: HTTPAuthorizationCredentials | None) -> bool:
        sent = credentials.credentials if credentials else ""
        return secrets.compare_digest(sent.encode(), parts.token.encode())

    def require_token(credentials: Credentials) -> None:
        if not is_ours(credentials):
            remedy = "Send `Authorization: Bearer TOKEN`; the token stands in the data folder's file `token`"
            raise Unauthorised("no valid token", where="Authorization", remedy=remedy)

    # {}: the token may be left out.
    @app.get("/v1/health", responses=_REFUSALS, response_model_exclude_unset=True, openapi_extra={"security": [{}]})
    def health(credentials: Credentials) -> Health:
        known = Health(version=__version__, api=API, state="ready", device=parts.dispatcher.device)
        return Health(**known.model_dump(exclude_unset=True), token_ok=is_ours(credentials)) if credentials else known

    guarded = APIRouter(prefix="/v1", dependencies=[Depends(require_token)], responses=_REFUSALS)
    _add_questions(guarded, parts)
    _add_jobs(guarded, parts)
    _add_files(guarded, parts)
    add_clients(guarded, parts.lifetime)
    guarded.add_api_route("/openapi.json", app.openapi, include_in_schema=False, response_model=None)
    app.include_router(guarded)
    add_handlers(app)
    app.add_middleware(Guard, host=parts.host, seen=parts.lifetime.seen)
    return app


def _add_questions(router: APIRouter, parts: Parts) -> None:
    @router.get("/presets")
    def presets() -> Presets:
        return catalogue.presets()

    @router.get("/models")
    def models() -> ModelList:
        return catalogue.models()

    @router.get("/vocabulary")
    def vocabulary(asked: Annotated[VocabularyRequest, Query()]) -> Vocabulary:
        settings_for(asked.preset, {})
        return Vocabulary.model_validate(parts.dispatcher.ask("vocabulary", asked.model_dump(), ANSWER_S))

    @router.post("/parse")
    def parse(body: ParseRequest) -> Parsed:
        settings_for(body.preset, {})
        return Parsed.model_validate(parts.dispatcher.ask("parse", body.model_dump(), ANSWER_S))

    @router.post("/unload")
    def unload() -> Freed:
        return Freed(freed=parts.dispatcher.unload())

    @router.post("/shutdown", status_code=202)
    def shutdown() -> dict[str, str]:
        parts.lifetime.end()
        return {}


def _add_jobs(router: APIRouter, parts: Parts) -> None:
    jobs, dispatcher = parts.jobs, parts.dispatcher

    @router.post("/jobs", status_code=201, openapi_extra=_NEW_JOB, response_model_exclude_unset=True)
    async def accept(request: Request) -> Job:
        inbox = jobs.data.inbox / new_id()
        try:
            asked, upload = await read_upload(request, inbox)
            await run_in_threadpool(KINDS[asked.kind].check, asked, upload, dispatcher.ask)
            return await run_in_threadpool(jobs.accept, asked, upload)
        finally:
            inbox.unlink(missing_ok=True)

    @router.get("/jobs", response_model_exclude_unset=True)
    def page(asked: Annotated[PageRequest, Query()]) -> JobList:
        return jobs.page(asked.limit, asked.before)

    @router.get("/jobs/{id}", response_model_exclude_unset=True)
    def show(job_id: JobId) -> Job:
        return jobs.get(job_id)

    @router.delete("/jobs/{id}", status_code=204)
    def delete(job_id: JobId) -> None:
        jobs.delete(job_id)

    @router.post("/jobs/{id}/cancel", response_model_exclude_unset=True)
    def cancel(job_id: JobId) -> Job:
        job = jobs.cancel(job_id)
        dispatcher.cancel(job_id)
        return job

    @router.post("/jobs/{id}/resume", response_model_exclude_unset=True)
    def resume(job_id: JobId, body: ResumeRequest | None = None) -> Job:
        return jobs.resume(job_id, body.steps if body else None)

    @router.get(
        "/jobs/{id}/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": events.SCHEMA}}}},
    )
    def follow(job_id: JobId, last_event_id: Annotated[int, Header(ge=0, le=2**62)] = 0) -> StreamingResponse:
        jobs.find(job_id)
        told = events.stream(jobs, job_id, last_event_id, parts.ending)
        return StreamingResponse(told, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _add_files(router: APIRouter, parts: Parts) -> None:
    for name, about in FILES.items():
        body = {"schema": {} if about.media_type == "application/json" else {"type": "string"}}
        router.add_api_route(
            f"/jobs/{{id}}/{name}",
            _fetching(parts.jobs, name, about),
            name=f"fetch_{name}",
            response_class=FileResponse,
            responses={200: {"content": {about.media_type: body}, "description": name}},
        )


def _fetching(jobs: Jobs, name: str, about: File) -> Callable[[str], Response]:
    """The route that sends this file of a job. It raises NotFound where there is none, and says what there is."""

    def fetch(job_id: JobId) -> Response:
        job = jobs.get(job_id)
        if job.kind not in about.kinds:
            remedy = f"Its result is {KINDS[job.kind].result}"
            raise NotFound(f"a job of kind {job.kind!r} has no {name}", where=name, remedy=remedy)
        path = jobs.data.job(job.id) / about.file
        if not path.is_file():
            raise NotFound(f"there is no {name} yet", where=name, remedy=f"It is written at {about.awaits}")
        return FileResponse(path, media_type=about.media_type, headers={"Cache-Control": "no-store"})

    return fetch
