"""`python -m backend serve`: everything of the service put together, from the first socket to the last file."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import uvicorn

from .. import __version__
from ..errors import RequestError
from .app import Parts, create_app
from .dispatcher import Dispatcher
from .folder import DataFolder, default_data
from .jobs import Jobs
from .lifetime import Lifetime
from .store import Store

GRACE_S = 3  # for answers that are under way when the service ends
LOG_BYTES = 1 << 20

logger = logging.getLogger(__name__)


def serve(host: str, port: int, data: Path | None, parent_pid: int | None, device: str, idle_s: float) -> int:
    """0 when the service has ended. Raises UserError when it cannot begin."""
    folder = DataFolder(data or default_data())
    folder.hold()
    try:
        _log_to(folder.log)
        listener = listen(host, port)
        with listener:
            _serve(folder, listener, host, parent_pid, device, idle_s)
    finally:
        folder.release()
    return 0


def _serve(
    folder: DataFolder, listener: socket.socket, host: str, parent_pid: int | None, device: str, idle_s: float
) -> None:
    store = Store(folder.database)
    jobs = Jobs(folder, store)
    jobs.recover()
    dispatcher = Dispatcher(jobs, folder, device)
    about = {"address": address_of(listener), "pid": os.getpid(), "version": __version__, "data": str(folder.path)}

    def ready() -> None:
        folder.announce(about)
        print(json.dumps(about), flush=True)
        logger.info("ready at %s", about["address"])
        dispatcher.start()
        dispatcher.warm_up()
        lifetime.start()

    def ended() -> None:
        dispatcher.stop()
        store.close()
        folder.release()
        logger.info("ended")

    def is_busy() -> bool:
        return dispatcher.busy or bool(store.in_state("queued"))

    lifetime = Lifetime(parent_pid, idle_s, is_busy, lambda: server.end())
    parts = Parts(
        jobs=jobs,
        dispatcher=dispatcher,
        token=folder.token(),
        host=host,
        lifetime=lifetime,
        ending=lambda: server.should_exit,
    )
    config = uvicorn.Config(
        create_app(parts),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=GRACE_S,
    )
    server = Server(config, ready, ended)
    server.run(sockets=[listener])


class Server(uvicorn.Server):
    """uvicorn, telling when it is ready and when it has ended: before a signal that ended it is passed on."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], ended: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready, self._ended = ready, ended

    def end(self) -> None:
        """End as soon as the answers under way are given; from any thread."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        self._ended()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises RequestError for a port that is taken or a name that is not ours."""
    try:
        if not 0 <= port <= 65535:  # else it is taken modulo 65536
            raise OverflowError("ports go from 0 to 65535")
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if sys.platform == "win32":  # there, REUSEADDR would let another program take the port too
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            else:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        remedy = "Choose another --port (0 takes a free one), or another --host"
        raise RequestError(f"cannot listen on {host} port {port}: {reason}", where="--port", remedy=remedy) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """Where clients on this machine find the socket."""
    name, port = listener.getsockname()[:2]
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _log_to(path: Path) -> None:
    """Log lines go to the file and to standard error."""
    form = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handlers: list[logging.Handler] = [
        logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", delay=True)
    ]
    if sys.stderr is not None:  # there is none under pythonw
        handlers.append(logging.StreamHandler(sys.stderr))
    for handler in handlers:
        handler.setFormatter(form)
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
