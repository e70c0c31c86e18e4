"""The routes for programs on this machine that say how long they need the service: as long as they run, or less."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from .lifetime import Lifetime
from .wire import MOST_PID, Client, Clients


def add_clients(router: APIRouter, lifetime: Lifetime) -> None:
    @router.get("/clients")
    def show() -> Clients:
        return Clients(pids=lifetime.clients())

    @router.post("/clients")
    def join(body: Client) -> Clients:
        return Clients(pids=lifetime.join(body.pid))

    @router.delete("/clients/{pid}")
    def leave(pid: Annotated[int, Path(ge=1, le=MOST_PID)]) -> Clients:
        return Clients(pids=lifetime.leave(pid))
