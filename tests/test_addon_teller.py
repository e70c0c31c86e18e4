"""blender_addon/teller.py: a run without a window is never silent for long, and says everything once."""

import threading
import time
from types import SimpleNamespace

import pytest

from .addon_modules import addon_module

teller = addon_module("teller")


@pytest.fixture
def said(monkeypatch):
    """The lines; a twentieth of a second without one is long."""
    monkeypatch.setattr(teller, "QUIET_S", 0.05)
    return []


def wait_for_lines(said, count):
    limit = time.monotonic() + 20.0
    while len(said) < count:
        assert time.monotonic() < limit, said
        time.sleep(0.01)


def test_what_goes_on_is_said_again_after_a_while_without_news(said):
    with teller.Teller(said.append) as told:
        told.say("job: running")
        told.goes_on("step 3 of 9, 40 s left")
        wait_for_lines(said, 4)
    assert said[0] == "job: running" and set(said[1:]) == {"step 3 of 9, 40 s left"}


def test_what_counts_is_said_with_how_long_it_has_gone_on(said, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(teller, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with teller.Teller(said.append) as told:
        told.goes_on("Loading models", counts=True)
        clock[0] += 30.0
        told.goes_on("Loading models", counts=True)  # the same again is no new beginning
        wait_for_lines(said, 1)
    assert said[-1] == "Loading models, 30 s"


def test_news_put_off_what_is_said_again(said, monkeypatch):
    monkeypatch.setattr(teller, "QUIET_S", 2.0)
    with teller.Teller(said.append) as told:
        told.goes_on("Loading models")
        for number in range(6):
            time.sleep(0.5)
            told.say(f"news {number}")
    assert said == [f"news {number}" for number in range(6)]


def test_nothing_is_said_and_no_thread_is_left_after_the_end(said):
    with teller.Teller(said.append) as told:
        told.goes_on("Loading models")
        wait_for_lines(said, 1)
    count = len(said)
    time.sleep(0.2)
    assert len(said) == count
    assert [thread for thread in threading.enumerate() if thread.name == "diorama-teller"] == []


def test_a_fault_inside_ends_it_too(said):
    with pytest.raises(KeyboardInterrupt), teller.Teller(said.append):
        raise KeyboardInterrupt
    assert [thread for thread in threading.enumerate() if thread.name == "diorama-teller"] == []
