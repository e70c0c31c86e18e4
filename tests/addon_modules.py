"""The add-on's modules that never import bpy, loaded without running blender_addon/__init__.py, which does."""

import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ADDON = Path(__file__).parents[1] / "blender_addon"
PACKAGE = "diorama_without_bpy"


def addon_module(name: str) -> types.ModuleType:
    """blender_addon/NAME.py."""
    if PACKAGE not in sys.modules:
        package = types.ModuleType(PACKAGE)
        package.__path__ = [str(ADDON)]
        sys.modules[PACKAGE] = package
    return importlib.import_module(f"{PACKAGE}.{name}")


def error_of(call: Callable[..., object], *arguments: Any, **keywords: Any) -> Any:
    """The BackendError that the call raises."""
    with pytest.raises(addon_module("messages").BackendError) as caught:
        call(*arguments, **keywords)
    return caught.value
