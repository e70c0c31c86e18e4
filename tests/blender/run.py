"""Run tests/blender with pytest inside the bpy module, and leave with pytest's status whatever Blender does at exit."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import pytest


def main(arguments: list[str]) -> int:
    """Pytest's exit status over this folder; `arguments` are pytest's own."""
    return int(pytest.main([str(Path(__file__).parent), *arguments]))


if __name__ == "__main__":
    status = 1
    try:
        status = main(sys.argv[1:])
    except BaseException:
        traceback.print_exc()
    # Blender 4.2 crashes and 4.5 hangs in its own clean-up while an add-on's class is registered, after the last test.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
