"""Settings of every test run: no network, and tests/blender only where Blender is."""

from __future__ import annotations

import importlib.util
import os

# Before diffusers or transformers are imported: a test that would download a model fails at once instead.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

# make test runs tests/blender by tests/blender/run.py, in an environment with bpy.
collect_ignore = [] if importlib.util.find_spec("bpy") else ["blender"]
