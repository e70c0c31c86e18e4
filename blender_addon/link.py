"""From the user's choice of backend to a Client that answers. Blocks, so call it from a thread; never imports bpy."""

import threading
from pathlib import Path
from typing import NamedTuple

from .backend_process import API, Backend, bundled_source
from .client import Client
from .environment import environment_folder, python_of
from .install import check_python, installed_python, outdated
from .messages import BackendError

START_S = 180.0  # the first start on a slow disk reads gigabytes of libraries


class Config(NamedTuple):
    """The preferences, as a thread may have them."""

    location: str  # INSTALL, PYTHON or REMOTE
    python: str  # of PYTHON
    address: str  # of REMOTE
    token: str  # of REMOTE
    device: str  # auto, cpu, cuda or mps
    cuda: bool | None  # which build INSTALL installs; None: what is there
    torch_index: str  # address of another build of PyTorch for INSTALL, or ""
    home: Path  # the add-on's user folder
    addon: Path  # the add-on's own folder
    online: bool  # the user lets Blender use the network; the loopback needs no leave

    @property
    def chosen(self) -> tuple[str, ...]:
        """What decides which backend it is; nothing else in the preferences disturbs a run."""
        return self.location, self.python, self.address, self.token, self.device

    @property
    def data(self) -> Path:
        """The local service's data folder."""
        return self.home / "data"

    @property
    def cache(self) -> Path:
        """Pictures and results that were fetched."""
        return self.home / "cache"

    @property
    def source(self) -> Path:
        return bundled_source(self.addon)

    @property
    def remote(self) -> bool:
        return self.location == "REMOTE"


class Asking(NamedTuple):
    """For whom a backend is looked for."""

    stop: threading.Event | None = None  # when set, what waits for an answer raises Cancelled
    give_up: threading.Event | None = None  # likewise what waits for a start
    before: Backend | None = None  # the local backend known so far: a process that it started stays looked after


UNTIL_DONE = Asking()


def backend_for(config: Config, asking: Asking = UNTIL_DONE) -> Backend:
    """The local backend of these preferences. Raises BackendError where its Python is missing."""
    if config.location == "PYTHON":
        if not config.python:
            raise BackendError("No Python is chosen", "preferences", "Choose one, or let one be installed", "settings")
        if not Path(config.python).is_file():
            raise BackendError("There is no such Python", config.python, "Choose another", "settings")
        python = Path(config.python)
    else:
        found = installed_python(config.home)
        if found is None:
            raise BackendError("The backend is not installed yet", "", "Install it: this is needed once", "install")
        if outdated(config.home, config.source):
            raise BackendError("The backend's environment is of an older version", "", "Install it again", "install")
        python = found
    return _backend(config, python, asking)


def environments_backend(config: Config, asking: Asking = UNTIL_DONE) -> Backend:
    """The local backend of the environment that an installation makes anew, whole and up to date or not."""
    return _backend(config, python_of(environment_folder(config.home)), asking)


def free_environment(config: Config, asking: Asking = UNTIL_DONE) -> None:
    """Nothing; no backend runs from the environment that is to be installed: Windows locks the files of what runs.

    Raises BackendError where other processes need one.
    """
    backend = environments_backend(config, asking)
    if backend.used_by_others():
        what = "Another Blender uses the backend that is to be installed"
        raise BackendError(what, str(config.data), "Close that Blender, or wait for its run, then install again")
    backend.stop()


def _backend(config: Config, python: Path, asking: Asking) -> Backend:
    backend = Backend(python, config.source, config.data, config.home, config.device, stop=asking.stop)
    if asking.before is not None:
        backend.inherit(asking.before)
    return backend


def connect(config: Config, asking: Asking = UNTIL_DONE) -> tuple[Client, Backend | None]:
    """A client whose backend answered, started where it did not run, and the local process or None.

    Raises BackendError, or Cancelled.
    """
    if config.remote:
        return connect_remote(config, asking.stop), None
    backend = backend_for(config, asking)
    running = backend.adopt()
    if running is None:
        if config.location == "PYTHON":
            check_python(Path(config.python))
        running = backend.start(START_S, asking.give_up)
    return Client(*running, stop=asking.stop), backend


def adopt(config: Config, asking: Asking = UNTIL_DONE) -> tuple[Client, Backend | None] | None:
    """The same, where the backend runs already; None where it does not. Starts nothing."""
    if config.remote:
        return (connect_remote(config, asking.stop), None) if config.address else None
    try:
        backend = backend_for(config, asking)
    except BackendError:
        return None
    running = backend.adopt()
    return None if running is None else (Client(*running, stop=asking.stop), backend)


def connect_remote(config: Config, stop: threading.Event | None = None) -> Client:
    """A client of the remote address, whose version and token are right."""
    if not config.address:
        raise BackendError("No remote address is given", "preferences", "Enter address and token", "settings")
    client = Client(config.address, config.token, stop=stop)
    if not client.target.local and not config.online:
        raise BackendError(
            "Blender is set to stay offline", config.address, "Allow online access, or use a local backend", "settings"
        )
    health = client.health()
    if health.get("api") != API:
        raise BackendError(
            f"The remote backend has version {health.get('version')} and speaks another language than this add-on",
            config.address,
            "Install the same version on both sides",
            "settings",
        )
    if health.get("token_ok") is not True:
        raise BackendError(
            "The token is not the remote backend's",
            config.address,
            "Copy what stands in the remote data folder's file 'token'",
            "settings",
        )
    return client
