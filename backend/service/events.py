"""A job's events as they come: text/event-stream, which a client that lost the line can take up again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool

from .jobs import Jobs
from .store import Event
from .wire import ENDED

HEARTBEAT_S = 10.0
LOOK_S = 0.1  # between two looks whether there is something new
SCHEMA = {  # of one event, as OpenAPI is told; data is JSON
    "type": "object",
    "required": ["event", "data"],
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
}


async def stream(jobs: Jobs, job_id: str, after: int, ending: Callable[[], bool]) -> AsyncIterator[str]:
    """The job's events after the one of that number, until the job's end or the service's."""
    said = time.monotonic()
    while True:
        seen = jobs.changes
        # The state first: what happens after it was read is found by the next look.
        row = await run_in_threadpool(jobs.store.get, job_id)
        events = await run_in_threadpool(jobs.store.events_after, job_id, after)
        for event in events:
            after, said = event.number, time.monotonic()
            yield as_text(event)
        if events:
            continue
        if row is None or row.state in ENDED:
            return
        while jobs.changes == seen:
            if ending():
                return
            if time.monotonic() - said >= HEARTBEAT_S:
                said = time.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(LOOK_S)


def as_text(event: Event) -> str:
    """The event in the stream's format; JSON has no line breaks in it."""
    return f"id: {event.number}\nevent: {event.kind}\ndata: {event.data}\n\n"
