"""The jobs and their events in SQLite: what the service knows after it was killed at any moment."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import OutputError

VERSION = 1  # of the tables
_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of acceptance
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    turn INTEGER NOT NULL,                     -- order of the queue: resuming takes a new place
    created TEXT NOT NULL,
    started TEXT,
    finished TEXT,
    request TEXT NOT NULL,
    progress TEXT,
    error TEXT,
    warnings TEXT NOT NULL DEFAULT '[]',
    relations TEXT,
    seconds REAL
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, turn);
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, so that a stream can be resumed after it
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS events_by_job ON events (job, number);
"""
_COLUMNS = "number, id, state, turn, created, started, finished, request, progress, error, warnings, relations, seconds"
_JSON = ("request", "progress", "error", "warnings", "relations")
_WRITABLE = ("state", "turn", "started", "finished", "request", "progress", "error", "warnings", "relations", "seconds")


class Row(NamedTuple):
    """A job as it is kept."""

    number: int
    id: str
    state: str
    turn: int
    created: str
    started: str | None
    finished: str | None
    request: dict[str, Any]
    progress: dict[str, Any] | None
    error: dict[str, str] | None
    warnings: list[str]
    relations: list[dict[str, Any]] | None
    seconds: float | None


class Event(NamedTuple):
    """Something that happened to a job."""

    number: int
    kind: str
    data: str  # JSON


class Store:
    """One database file, used by all threads in turn. Writing raises OutputError where the disk does not take it."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.RLock()
        with self._usable():
            self._connection = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise OutputError(
                    "was made by a newer version", where=str(path), remedy="Update, or choose another --data folder"
                )
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.executescript(_TABLES)
            self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block's writes, or none of them. May stand inside another."""
        with self._lock, self._usable():
            if self._connection.in_transaction:
                yield
                return
            with closing_transaction(self._connection):
                yield

    def add(self, job_id: str, request: dict[str, Any], created: str) -> None:
        """Keep a new job, queued last."""
        with self.transaction():
            self._connection.execute(
                "INSERT INTO jobs (id, state, turn, created, request) VALUES (?, 'queued', ?, ?, ?)",
                (job_id, self.next_turn(), created, json.dumps(request)),
            )

    def next_turn(self) -> int:
        """The place behind everything that is queued."""
        return self._all("SELECT coalesce(max(turn), 0) + 1 FROM jobs")[0][0]

    def get(self, job_id: str) -> Row | None:
        rows = self._all(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", job_id)
        return _row(rows[0]) if rows else None

    def page(self, limit: int, before: int | None) -> list[Row]:
        """The newest `limit` jobs whose number is below `before`."""
        query = f"SELECT {_COLUMNS} FROM jobs WHERE number < ? ORDER BY number DESC LIMIT ?"
        return [_row(row) for row in self._all(query, before or 2**62, limit)]

    def in_state(self, *states: str) -> list[Row]:
        """The jobs in any of the states, in the order of the queue."""
        marks = ", ".join("?" * len(states))
        query = f"SELECT {_COLUMNS} FROM jobs WHERE state IN ({marks}) ORDER BY turn"
        return [_row(row) for row in self._all(query, *states)]

    def position(self, row: Row) -> int:
        """The place of a queued job; 1 is next."""
        return 1 + self._all("SELECT count(*) FROM jobs WHERE state = 'queued' AND turn < ?", row.turn)[0][0]

    def change(self, job_id: str, **values: Any) -> None:
        """Set columns of the job."""
        assert set(values) <= set(_WRITABLE), values
        told = [json.dumps(v) if k in _JSON and v is not None else v for k, v in values.items()]
        with self.transaction():
            settings = ", ".join(f"{name} = ?" for name in values)
            self._connection.execute(f"UPDATE jobs SET {settings} WHERE id = ?", (*told, job_id))

    def remove(self, job_id: str) -> None:
        """Forget the job and its events."""
        with self.transaction():
            self._connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def add_event(self, job_id: str, kind: str, data: str) -> None:
        with self.transaction():
            self._connection.execute("INSERT INTO events (job, kind, data) VALUES (?, ?, ?)", (job_id, kind, data))

    def events_after(self, job_id: str, number: int, limit: int = 500) -> list[Event]:
        """The job's events after the one of that number, oldest first."""
        query = "SELECT number, kind, data FROM events WHERE job = ? AND number > ? ORDER BY number LIMIT ?"
        return [Event(*row) for row in self._all(query, job_id, number, limit)]

    def forget_events(self, job_id: str, kind: str | None = None) -> None:
        """Drop the job's events, or those of one kind."""
        with self.transaction():
            self._connection.execute(
                "DELETE FROM events WHERE job = ? AND (? IS NULL OR kind = ?)", (job_id, kind, kind)
            )

    def _all(self, query: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        with self._lock, self._usable():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            told = str(error)
            if "full" in told:
                remedy = "Free some disk space"
            elif "not a database" in told or "malformed" in told:
                remedy = "Rename the file and start again: its jobs' folders stay"
            else:
                remedy = "Check that the data folder can be written, or choose another with --data"
            raise OutputError(f"the list of jobs: {told}", where=str(self.path), remedy=remedy) from error


@contextmanager
def closing_transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that is committed when the block ends well, and leaves nothing behind when it does not."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk ends it by itself
            connection.execute("ROLLBACK")
        raise


def _row(values: tuple[Any, ...]) -> Row:
    row = Row(*values)
    return row._replace(**{name: json.loads(text) for name in _JSON if (text := getattr(row, name)) is not None})
