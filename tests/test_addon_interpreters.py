"""blender_addon/interpreters.py: which Pythons can run the backend, and why others cannot."""

import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import tomllib

from .addon_modules import addon_module, error_of
from .false_pythons import posix, says, script

install = addon_module("install")
interpreters = addon_module("interpreters")


def test_blender_itself_is_never_started_as_a_python(tmp_path):
    blender = script(tmp_path / "blender-4.5", f"touch {tmp_path}/started")
    assert interpreters.probe(blender) is None
    assert "This is Blender" in error_of(install.check_python, blender).what
    assert not (tmp_path / "started").exists()


@posix
def test_an_old_python_is_refused_by_its_version(tmp_path):
    assert "Python 3.9.2 (64 bits) is too old" in error_of(install.check_python, says(tmp_path / "p", (3, 9, 2))).what


@pytest.mark.parametrize("text", ["exit 3", "echo nonsense", "echo '{}'", "echo '[1]'"])
@posix
def test_what_is_no_python_is_refused(tmp_path, text):
    assert "cannot be run as a Python" in error_of(install.check_python, script(tmp_path / "p", text)).what


def test_what_is_looked_for_is_what_the_backend_depends_on():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    wanted = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
    installed = packages_distributions()
    assert {installed.get(name, [name])[0].lower().replace("_", "-") for name in interpreters.NEEDED} == wanted


def test_this_python_can_run_the_backend():
    assert install.check_python(Path(sys.executable)).startswith("3.")
