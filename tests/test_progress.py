"""What the user sees while a run goes on, and which device it runs on."""

import io
import math

import pytest
import torch

from backend.device import choose_device
from backend.errors import RequestError
from backend.generate import Step
from backend.progress import ProgressBar, describe


def step(done: int, steps: int = 10, **changes) -> Step:
    told = Step(done, steps, {"prior": 3.1, "cube": 9.0}, {}, 102.4, torch.zeros(1, 2, 2, 3), lambda path: None)
    return told._replace(**changes)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_says_step_loss_reward_and_time_left() -> None:
    line = describe(step(5, rewards={"one": 0.0, "two": 0.0}))
    assert line == f"[{12 * '#'}{12 * '-'}] 5/10  prior 3.10  reward 50 %  1:42 left"


def test_after_the_last_step_the_line_says_what_goes_on() -> None:
    assert describe(step(10, seconds_left=0.0)) == f"[{24 * '#'}] 10/10  prior 3.10  writing the result"


@pytest.mark.parametrize("log_odds", [1e9, -1e9, 0.0])
def test_extreme_rewards_are_percentages_too(log_odds) -> None:
    assert f"reward {round(50 + 50 * math.copysign(log_odds != 0, log_odds))} %" in describe(
        step(1, rewards={"q": log_odds})
    )


def test_a_terminal_has_one_line_rewritten_and_left_at_the_end() -> None:
    stream = Terminal()
    bar = ProgressBar(stream)
    for done in (1, 2, 3):
        bar.show(step(done))
    bar.close()
    assert stream.getvalue().count("\r") == 3
    assert stream.getvalue().count("\n") == 1 and stream.getvalue().endswith("\n")


def test_a_log_file_gets_the_first_and_the_last_line_of_a_quick_run() -> None:
    stream = io.StringIO()
    bar = ProgressBar(stream)
    for done in range(1, 11):
        bar.show(step(done))
    bar.close()
    lines = stream.getvalue().splitlines()
    assert [line.split("] ")[1].split()[0] for line in lines] == ["1/10", "10/10"]


def test_a_bar_that_showed_nothing_leaves_nothing() -> None:
    stream = Terminal()
    ProgressBar(stream).close()
    assert stream.getvalue() == ""


def test_auto_is_a_device_that_is_there_and_a_missing_one_is_named() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(RequestError, match=r"no 'tpu' device.*cpu"):
        choose_device("tpu")
