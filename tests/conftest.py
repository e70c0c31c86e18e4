"""Settings of every test run: no network, and tests/blender only where Blender is."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
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
