"""Settings of every test run: no network, and tests/blender only where Blender is."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .service_server import Service

# Before diffusers or transformers are imported: a test that would download a model fails at once instead.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

# make test runs tests/blender by tests/blender/run.py, in an environment with bpy.
collect_ignore = [] if importlib.util.find_spec("bpy") else ["blender"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A real service with a folder of its own, for the tests of one file."""
    from .service_server import Service  # needs what Blender's environment does not have

    running = Service(tmp_path_factory.mktemp("data"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a small untrained prior and a small untrained vision-language model, for the tests of one file."""
    from .small_models import write_small_models  # needs what Blender's environment does not have

    return write_small_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def request_data(folders: tuple[Path, Path]) -> dict:
    """A request that is small and runs on those models."""
    from .cli_requests import small_request

    return small_request(folders)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[object], str]:
    """Writes a request, or any text or bytes, to a file and returns its path as text."""
    from .cli_requests import written

    return lambda content: written(content, tmp_path / "request.json")
