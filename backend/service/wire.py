"""What the service answers, in pydantic's words: the shapes in its OpenAPI description."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..schema import Relation, Settings, Slot
from .folder import ID_PATTERN
from .requests import AnyJob, KindName

MOST_PID = 2**31 - 1

State = Literal["queued", "running", "cancelling", "done", "failed", "cancelled", "interrupted"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled", "interrupted")


class Fault(BaseModel):
    """What is wrong, where, and what to do about it."""

    what: str
    where: str
    remedy: str


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: Fault


class Progress(BaseModel):
    """How far a running job is."""

    step: int = 0  # steps done
    steps: int  # steps in all
    losses: dict[str, float] = Field(default_factory=dict)  # unweighted
    rewards: dict[str, float] = Field(default_factory=dict)  # "what: question" -> log-odds of Yes
    seconds_left: float = 0.0  # of the optimisation; 0 while loading and exporting, where it is not known
    preview: int = 0  # changes when preview.jpg has changed
    phase: Literal["loading", "optimising", "exporting"]


class Fulfilment(BaseModel):
    """A relation, and whether it holds in the result."""

    subject: str
    relation: str
    object: str
    fulfilled: bool  # geometrically, on the final meshes
    probability: float | None  # of Yes by the vision-language model, when it was last asked


class Job(BaseModel):
    """One request and what became of it."""

    id: str
    kind: KindName
    state: State
    created: str  # ISO 8601, UTC
    started: str | None  # when it was last begun
    finished: str | None
    request: AnyJob  # as it was sent; one without a kind is a scene's
    position: int | None  # place in the queue, 1 is next; null unless queued
    progress: Progress | None
    error: Fault | None
    warnings: list[str]
    log_tail: str  # the log's end, of a failed job only
    relations: list[Fulfilment] | None
    has_result: bool
    has_preview: bool
    has_checkpoint: bool
    seconds: float | None  # of work on it, all its runs together


class JobList(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[Job]
    next: str | None  # what `before` has to be for the next page


class Health(BaseModel):
    """Whether the service is there, and whether a sent token is the right one."""

    version: str
    api: int
    state: Literal["ready"]
    device: str
    token_ok: bool | None = None  # left out when no token was sent


class Preset(BaseModel):
    """A row of the preset table."""

    name: str
    description: str
    settings: Settings


class Presets(BaseModel):
    presets: list[Preset]


class Model(BaseModel):
    """A frozen network that presets name."""

    name: str
    kind: Literal["prior", "vlm"]
    folder: str
    present: bool
    licence: str
    size_mb: float


class ModelList(BaseModel):
    models: list[Model]


class Vocabulary(BaseModel):
    """What a preset's models understand; `limited` False: any English."""

    limited: bool
    nouns: list[str]
    colours: list[str]
    relations: list[str]
    words: list[str]


class _Asked(BaseModel):
    """What comes in: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


class PageRequest(_Asked):
    limit: int = Field(default=50, ge=1, le=500)
    before: str | None = Field(default=None, pattern=ID_PATTERN)  # only jobs older than this one


class VocabularyRequest(_Asked):
    preset: str = "starter"


class ParseRequest(_Asked):
    prompt: str
    preset: str = "starter"


class Parsed(BaseModel):
    """What a prompt says, its boxes laid out."""

    slots: list[Slot]
    relations: list[Relation]
    warnings: list[str]


class ResumeRequest(_Asked):
    steps: int | None = Field(default=None, ge=1, le=100_000)  # more steps for each object of a finished job


class Freed(BaseModel):
    freed: bool


class Client(_Asked):
    """A program on the service's machine that needs it."""

    pid: int = Field(ge=1, le=MOST_PID)


class Clients(BaseModel):
    """The processes that the service is there for: it ends after the last of them, unless it was started by hand."""

    pids: list[int]
