"""blender_addon/launching.py and backend_copy.py: a start that fails says why, and what is started is a whole copy."""

import os
import threading
import time

import pytest

from .addon_modules import addon_module, error_of
from .standin_backend import backends, make_source

copy = addon_module("backend_copy")
processes = addon_module("processes")
Cancelled = addon_module("messages").Cancelled


@pytest.fixture
def make(tmp_path):
    with backends(tmp_path) as make:
        yield make


def test_a_missing_python_offers_to_install(make):
    backend = make()
    backend.python = backend.home / "no python"
    assert error_of(backend.start, 20).mend == "install"


def test_a_missing_package_offers_to_install(make):
    error = error_of(make(before_ready="import no_such_package").start, 20)
    assert error.mend == "install" and "no_such_package" in error.what


def test_a_backend_that_ends_at_once_shows_its_last_words_and_the_log(make):
    backend = make(before_ready="raise RuntimeError('out of luck')")
    error = error_of(backend.start, 20)
    assert error.mend == "log" and "out of luck" in error.what and error.where == str(backend.log_path)


def test_a_taken_port_is_said_in_the_backends_words(make):
    backend = make(before_ready="import sys; sys.exit('error: --port: port 80 is taken. Choose another')")
    assert "port 80 is taken. Choose another" in error_of(backend.start, 20).what


def test_a_backend_that_never_becomes_ready_is_ended(make):
    backend = make(before_ready="print('pid', __import__('os').getpid(), flush=True); __import__('time').sleep(60)")
    error = error_of(backend.start, 1.5)
    assert "not ready after" in error.what and error.mend == "log"
    pid = int(backend.log_path.with_suffix(".out").read_text().split()[1])
    assert processes.wait_for_end(pid, 5)


def test_a_start_can_be_cancelled(make):
    backend, cancel = make(before_ready="__import__('time').sleep(60)"), threading.Event()
    threading.Timer(0.5, cancel.set).start()
    start = time.monotonic()
    with pytest.raises(Cancelled):
        backend.start(30, cancel)
    assert time.monotonic() - start < 5 and not backend.alive()


def test_a_new_version_is_copied_while_the_old_one_runs(make):
    old, new = make(version="0.0.9"), make()
    old.start(20)
    for file in sorted(old.source.rglob("*"), reverse=True):  # what Blender does when it replaces the extension
        file.rmdir() if file.is_dir() else file.unlink()
    assert old.alive()
    new.start(20)
    assert new.alive()


def test_an_extension_without_its_backend_says_so(make):
    backend = make()
    (backend.source / "backend" / "__init__.py").unlink()
    assert "without its backend" in error_of(backend.start, 5).what


def test_a_copy_is_whole_or_not_there(tmp_path):
    source = make_source(tmp_path / "source")
    (source / "backend" / "lost").symlink_to("nowhere")  # a file that cannot be copied
    assert "Cannot copy" in error_of(copy.unpacked, source, tmp_path / "home").what
    assert list((tmp_path / "home" / "backends").iterdir()) == []


def test_two_starts_at_once_copy_without_harm(tmp_path):
    source, got = make_source(tmp_path / "source"), []
    threads = [threading.Thread(target=lambda: got.append(copy.unpacked(source, tmp_path / "home"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(got) == 6 and len(set(got)) == 1
    assert [one.name for one in (tmp_path / "home" / "backends").iterdir()] == [got[0].name]


def test_a_changed_backend_of_the_same_version_is_copied_anew(tmp_path):
    source = make_source(tmp_path / "source")
    first = copy.unpacked(source, tmp_path / "home")
    (source / "backend" / "new.py").write_text("")
    assert copy.unpacked(source, tmp_path / "home") != first


def test_copies_that_were_not_used_for_long_are_removed(tmp_path):
    source = make_source(tmp_path / "source")
    first = copy.unpacked(source, tmp_path / "home")
    (source / "backend" / "new.py").write_text("")
    second = copy.unpacked(source, tmp_path / "home")
    os.utime(first, (0, 0))
    copy.remove_unused(tmp_path / "home", second)
    assert not first.exists() and second.exists()
