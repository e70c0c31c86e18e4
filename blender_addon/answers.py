"""What the backend says, checked and typed, so that nothing behind this file meets garbage. Never imports bpy."""

import math
import re
from typing import Any, NamedTuple

from .messages import BackendError
from .results import RESULTS, Result

STATES = ("queued", "running", "cancelling", "done", "failed", "cancelled", "interrupted")
ENDED = ("done", "failed", "cancelled", "interrupted")
RESUMABLE = ("failed", "cancelled", "interrupted")
ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # ids name files of ours, so they are never paths


class Progress(NamedTuple):
    """How far a running job is."""

    step: int
    steps: int
    seconds_left: float
    preview: int  # changes when there is a new preview picture
    phase: str  # loading, optimising, exporting
    rewards: dict[str, float]  # "what: question", or the candidates' name -> log-odds of "Yes", or the reward's score

    @property
    def factor(self) -> float:
        """Share of the steps done, in [0, 1]."""
        return min(max(self.step / self.steps, 0.0), 1.0) if self.steps > 0 else 0.0


class RelationResult(NamedTuple):
    """What became of a relation that was asked for."""

    subject: str
    relation: str
    object: str
    fulfilled: bool
    probability: float | None  # the vision-language model's, in [0, 1]


class Job(NamedTuple):
    """One generation in the backend's store."""

    id: str
    kind: str  # a key of RESULTS
    state: str  # one of STATES
    created: str  # ISO 8601, UTC
    request: dict[str, Any]  # as it was sent
    position: int | None  # place in the queue
    progress: Progress | None
    fault: tuple[str, str, str] | None  # what, where, remedy
    warnings: tuple[str, ...]
    log_tail: str
    relations: tuple[RelationResult, ...]
    has_result: bool
    has_preview: bool
    has_checkpoint: bool
    seconds: float | None

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def result(self) -> Result:
        """What it makes."""
        return RESULTS[self.kind]

    @property
    def prompt(self) -> str:
        """The scene's prompt, or the slots' prompts where it has none."""
        given = text(self.request.get("prompt"))
        slots = [slot for slot in as_list(self.request.get("slots")) if isinstance(slot, dict)]
        return given or ", ".join(text(slot.get("prompt")) for slot in slots)


def read_job(data: Any) -> Job:
    """The Job in a parsed answer. Raises BackendError where it is none."""
    if not isinstance(data, dict) or not ID_PATTERN.fullmatch(text(data.get("id"))) or data.get("state") not in STATES:
        raise BackendError(
            "The backend sent a job that cannot be read", "", "Another version may be running: restart it", "restart"
        )
    request = data.get("request")
    seconds = data.get("seconds")
    return Job(
        id=data["id"],
        kind=data["kind"] if text(data.get("kind")) in RESULTS else "scene",
        state=data["state"],
        created=text(data.get("created")),
        request=request if isinstance(request, dict) else {},
        position=whole(data.get("position")) if data.get("position") is not None else None,
        progress=read_progress(data["progress"]) if isinstance(data.get("progress"), dict) else None,
        fault=_fault(data.get("error")),
        warnings=tuple(text(line) for line in as_list(data.get("warnings"))),
        log_tail=text(data.get("log_tail")),
        relations=tuple(_relation(row) for row in as_list(data.get("relations")) if isinstance(row, dict)),
        has_result=data.get("has_result") is True,
        has_preview=data.get("has_preview") is True,
        has_checkpoint=data.get("has_checkpoint") is True,
        seconds=number(seconds) if seconds is not None else None,
    )


def read_progress(data: dict[str, Any]) -> Progress:
    """The Progress in a parsed answer; what is missing or of the wrong kind is nought."""
    rewards = data.get("rewards")
    return Progress(
        step=whole(data.get("step")),
        steps=whole(data.get("steps")),
        seconds_left=number(data.get("seconds_left")),
        preview=whole(data.get("preview")),
        phase=text(data.get("phase")),
        rewards={text(key): number(value) for key, value in rewards.items()} if isinstance(rewards, dict) else {},
    )


def unknown_words(prompt: str, vocabulary: dict[str, Any] | None) -> list[str]:
    """Words of the prompt that the models have never seen, each once; none where the vocabulary is not limited."""
    if not vocabulary or vocabulary.get("limited") is not True:
        return []
    phrases = [text(p) for key in ("words", "nouns", "colours", "relations") for p in as_list(vocabulary.get(key))]
    known = {word for phrase in phrases for word in words_of(phrase)}
    return list(dict.fromkeys(word for word in words_of(prompt) if word not in known)) if known else []


def words_of(prompt: str) -> list[str]:
    """The lower-case words of a text, without digits and punctuation."""
    return re.findall(r"[^\W\d_]+", prompt.lower())


def duration(seconds: float) -> str:
    """Such as "45 s", "3 min 20 s", "1 h 5 min"."""
    if not math.isfinite(seconds) or seconds < 0:
        return ""
    whole_s = round(seconds)
    if whole_s < 60:
        return f"{whole_s} s"
    if whole_s < 3600:
        return f"{whole_s // 60} min {whole_s % 60} s"
    return f"{whole_s // 3600} h {whole_s % 3600 // 60} min"


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def number(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else 0.0


def whole(value: Any) -> int:
    """An int that fits Blender's 32-bit properties."""
    return int(min(max(number(value), -(2**31)), 2**31 - 1))


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list | tuple) else []


def _fault(error: Any) -> tuple[str, str, str] | None:
    if not isinstance(error, dict):
        return None
    return text(error.get("what")) or "The backend gave no reason", text(error.get("where")), text(error.get("remedy"))


def _relation(row: dict[str, Any]) -> RelationResult:
    probability = row.get("probability")
    return RelationResult(
        text(row.get("subject")),
        text(row.get("relation")),
        text(row.get("object")),
        row.get("fulfilled") is True,
        None if probability is None else min(max(number(probability), 0.0), 1.0),
    )
