"""blender_addon/opening.py: what shows a file runs beside Blender, however long it does."""

import os
import subprocess
import sys
import time

import pytest

from .addon_modules import addon_module, error_of

opening = addon_module("opening")
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="xdg-open is Linux's")


@pytest.fixture
def opener(tmp_path, monkeypatch):
    """An xdg-open that stays open, as a file manager does; the file that it tells its argument and its environment."""
    said, program = tmp_path / "said", tmp_path / "bin" / "xdg-open"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n(echo "$1"; env) > {said}.part\nmv {said}.part {said}\nexec sleep 10\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return said


def told(opener):
    """The lines, once they are there."""
    limit = time.monotonic() + 30.0
    while not opener.exists():
        assert time.monotonic() < limit
        time.sleep(0.05)
    return opener.read_text().splitlines()


def test_the_caller_does_not_wait_for_the_program_that_shows_a_file(opener, tmp_path):
    path = tmp_path / "a 'folder' $HOME"
    began = time.monotonic()
    opening.open_path(path)
    assert time.monotonic() - began < 5.0
    assert told(opener)[0] == str(path)


def test_the_program_has_the_user_s_own_environment(opener, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "mine")
    monkeypatch.delenv("PYTHONNOUSERSITE", raising=False)
    opening.open_path(tmp_path)
    names = [line.partition("=")[0] for line in told(opener)]
    assert "PYTHONPATH=mine" in told(opener) and "PYTHONNOUSERSITE" not in names


def test_the_program_is_no_child_that_would_have_to_be_buried(opener, tmp_path):
    opening.open_path(tmp_path)
    listed = subprocess.run(["ps", "-o", "args", "--ppid", str(os.getpid())], capture_output=True, text=True)
    assert "xdg-open" not in listed.stdout and "sleep" not in listed.stdout


def test_a_system_without_such_a_program_is_told_where_the_file_is(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    error = error_of(opening.open_path, tmp_path)
    assert "xdg-open" in error.what and error.where == str(tmp_path)
