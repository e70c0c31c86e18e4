"""The rules of a job's life: who may do what in which state, and what is told about it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..errors import OutputError, RequestError, UserError
from ..export.files import output_error
from .errors import NotFound, WrongState, as_body
from .files import FILES
from .folder import FINAL, LOG, PREVIEW, DataFolder, checkpoint_of, log_tail, new_id
from .kinds import KINDS, PARTS, kind_of, read_any
from .requests import AnyJob, SceneJob
from .store import Row, Store
from .wire import ENDED, Fault, Fulfilment, Job, JobList, Progress

BUSY = ("running", "cancelling")


class Jobs:
    """All jobs of one data folder. Methods may be called from any thread."""

    def __init__(self, data: DataFolder, store: Store) -> None:
        self.data, self.store = data, store
        self.changes = 0  # grows with every event: who waits for one need not ask the database
        self.wake: Callable[[], None] = lambda: None  # called when there may be a job to run

    def recover(self) -> None:
        """Mend what a killed service left: its running job is interrupted, what it was taking in or removing goes.

        A folder with results stays, even if no job is known to own it: the list of jobs may have been lost.
        """
        for row in self.store.in_state(*BUSY):
            state = "interrupted" if row.state == "running" else "cancelled"
            self.end(row.id, state, worked_until=self._last_sign_of(row.id))
        sent = {part.file for part in PARTS}
        for path in (self.data.path / "jobs").iterdir():
            if path.is_dir() and {file.name for file in path.iterdir()} <= sent and not self.store.get(path.name):
                shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(self.data.inbox, ignore_errors=True)

    def accept(self, request: AnyJob, upload: Path | None) -> Job:
        """The new job, queued. `upload` is moved into its folder. Raises OutputError; then there is no job."""
        job_id = new_id()
        folder = self.data.job(job_id)
        try:
            folder.mkdir(parents=True)
            part = KINDS[request.kind].part
            if upload and part:
                shutil.move(upload, folder / part.file)
            # Unset fields stay unset: a slot whose centre nobody gave is still to be laid out.
            self.store.add(job_id, request.model_dump(mode="json", exclude_unset=True), _now())
        except (OSError, OutputError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise output_error(error, folder) if isinstance(error, OSError) else error from None
        return self._moved(job_id)

    def _last_sign_of(self, job_id: str) -> datetime:
        """When the job last wrote something: a killed service may have been down for long since then."""
        written = [0.0]
        with suppress(OSError):
            written += [path.stat().st_mtime for path in self.data.job(job_id).iterdir()]
        return datetime.fromtimestamp(max(written), timezone.utc)

    def find(self, job_id: str) -> Row:
        """Raises NotFound."""
        row = self.store.get(job_id)
        if row is None:
            raise NotFound("there is no such job", where="id", remedy="GET /v1/jobs lists them")
        return row

    def get(self, job_id: str) -> Job:
        return self.describe(self.find(job_id))

    def page(self, limit: int, before: str | None) -> JobList:
        """The newest jobs that are older than `before`. Raises NotFound."""
        number = self.find(before).number if before else None
        rows = self.store.page(limit + 1, number)
        more = rows[limit - 1].id if len(rows) > limit else None
        return JobList(jobs=[self.describe(row) for row in rows[:limit]], next=more)

    def cancel(self, job_id: str) -> Job:
        """The job, cancelled if it was waiting, cancelling if it runs. Raises WrongState."""
        with self.store.transaction():
            row = self.find(job_id)
            if row.state in ENDED:
                raise WrongState(f"the job is {row.state}", where="id", remedy="There is nothing to cancel")
            if row.state == "queued":
                return self.end(job_id, "cancelled")
            return self._moved(job_id, state="cancelling")

    def resume(self, job_id: str, steps: int | None) -> Job:
        """The job, queued again: from its checkpoint, or from the start if it had come to none.

        steps: so many more for each object of a finished job. Raises WrongState, RequestError.
        """
        with self.store.transaction():
            row = self.find(job_id)
            request = row.request
            if row.state not in ENDED:
                raise WrongState(f"the job is {row.state}", where="id", remedy="Wait for its end, or cancel it first")
            if row.state == "done":
                request = self._refined(row, steps)
            elif steps is not None:
                raise WrongState(
                    f"the job is {row.state}", where="steps", remedy="Leave steps out, to go on as planned"
                )
            self.store.forget_events(job_id)  # the old end would be taken for the new one
            return self._moved(
                job_id,
                state="queued",
                turn=self.store.next_turn(),
                request=request,
                error=None,
                progress=None,
                finished=None,
            )

    def delete(self, job_id: str) -> None:
        """Forget the job and remove its folder. Raises WrongState."""
        with self.store.transaction():
            row = self.find(job_id)
            if row.state not in ENDED:
                raise WrongState(f"the job is {row.state}", where="id", remedy="Cancel it first")
            self.store.remove(job_id)
        folder, going = self.data.job(job_id), self.data.inbox / job_id
        with suppress(OSError):  # at once and whole, so that a kill in between leaves nothing for good
            going.parent.mkdir(exist_ok=True)
            folder = folder.rename(going)
        shutil.rmtree(folder, ignore_errors=True)

    def take(self) -> Row | None:
        """The next job, now running; None where nothing waits."""
        with self.store.transaction():
            waiting = self.store.in_state("queued")
            if not waiting:
                return None
            row = waiting[0]
            self._moved(row.id, state="running", started=_now())
            return row

    def loading(self, row: Row) -> None:
        """Tell that the job was handed to a worker, which has not said anything yet. Raises RequestError."""
        request = read_any(row.request)
        steps = KINDS[request.kind].steps(request)
        self.progressed(row.id, Progress(steps=steps, phase="loading").model_dump())

    def progressed(self, job_id: str, progress: dict[str, Any]) -> None:
        self._tell(job_id, "progress", json.dumps(progress), progress=progress)

    def logged(self, job_id: str, text: str) -> None:
        self._tell(job_id, "log", json.dumps({"text": text}))

    def warned(self, job_id: str, text: str) -> None:
        told = list(dict.fromkeys([*self.find(job_id).warnings, text]))  # a resumed run warns again
        self._tell(job_id, "log", json.dumps({"text": f"warning: {text}"}), warnings=told)

    def end(
        self,
        job_id: str,
        state: str,
        error: UserError | None = None,
        warnings: list[str] | None = None,
        relations: list[dict[str, Any]] | None = None,
        worked_until: datetime | None = None,
    ) -> Job:
        """The job in its last state, with the events that say so. worked_until: now, where it is not given."""
        with self.store.transaction():
            row = self.find(job_id)
            values: dict[str, Any] = {"error": as_body(error)["error"] if error else None}
            if row.state in BUSY and row.started:
                began, until = datetime.fromisoformat(row.started), worked_until or datetime.now(timezone.utc)
                values["seconds"] = (row.seconds or 0.0) + max(0.0, (until - began).total_seconds())
            if warnings is not None:
                values["warnings"] = warnings
            if relations is not None:
                values["relations"] = relations
            self.store.forget_events(job_id, "progress")
            job = self._moved(job_id, state=state, finished=_now(), **values)
            self._tell(job_id, "done", job.model_dump_json(exclude_unset=True))
            return job

    def describe(self, row: Row) -> Job:
        """What the wire says of a job."""
        folder, request = self.data.job(row.id), _readable(row.request)
        return Job(
            id=row.id,
            kind=request.kind,
            state=row.state,  # type: ignore[arg-type] # pydantic looks
            created=row.created,
            started=row.started,
            finished=row.finished,
            request=request,
            position=self.store.position(row) if row.state == "queued" else None,
            progress=Progress.model_validate(row.progress) if row.progress else None,
            error=Fault.model_validate(row.error) if row.error else None,
            warnings=row.warnings,
            log_tail=log_tail(folder / LOG) if row.state == "failed" else "",
            relations=None if row.relations is None else [Fulfilment.model_validate(r) for r in row.relations],
            has_result=(folder / FILES[KINDS[request.kind].result].file).is_file(),
            has_preview=(folder / PREVIEW).is_file(),
            has_checkpoint=checkpoint_of(folder) is not None,
            seconds=row.seconds,
        )

    def _refined(self, row: Row, steps: int | None) -> dict[str, Any]:
        """The request of a finished job, with more steps."""
        if steps is None:
            remedy = 'Send {"steps": N} to refine it with N more steps for each object'
            raise WrongState("the job is done", where="steps", remedy=remedy)
        refined = KINDS[kind_of(row.request)].refined
        if refined is None:
            remedy = "Start a new job, which begins anew, with more settings.steps"
            raise WrongState("a picture keeps no state to go on from", where="id", remedy=remedy)
        if not (self.data.job(row.id) / FINAL).is_file():
            remedy = "Start a new job with the same request and more steps"
            raise WrongState("the job's last state was not kept", where="id", remedy=remedy)
        return refined(row.request, steps)

    def _moved(self, job_id: str, **values: Any) -> Job:
        """The job after a change of its state, which is told."""
        with self.store.transaction():
            if values:
                self.store.change(job_id, **values)
            job = self.get(job_id)
            self._tell(job_id, "state", job.model_dump_json(exclude_unset=True))
        self.wake()
        return job

    def _tell(self, job_id: str, kind: str, data: str, **values: Any) -> None:
        with self.store.transaction():
            if values:
                self.store.change(job_id, **values)
            self.store.add_event(job_id, kind, data)
        self.changes += 1


def _readable(request: dict[str, Any]) -> AnyJob:
    """The request; of one that another version accepted and this one cannot read, the prompt."""
    try:
        return read_any(request)
    except RequestError:
        return SceneJob(prompt=str(request.get("prompt", ""))[:4000])


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
