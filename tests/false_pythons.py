"""Scripts that stand in for interpreters."""

import os

import pytest

posix = pytest.mark.skipif(os.name != "posix", reason="scripts that stand in for interpreters")


def script(path, text):
    """An executable that stands in for an interpreter."""
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def says(path, version, bits=64, venv=True):
    """An interpreter that tells this about itself."""
    told = f'{{"version": {list(version)}, "bits": {bits}, "venv": {str(venv).lower()}, "missing": []}}'
    return script(path, f"echo '{told}'")
