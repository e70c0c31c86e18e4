"""On a CPU a run is the same again."""

import contextlib
from pathlib import Path

import pytest
import torch

from backend.device import repeatable
from backend.run import run
from backend.schema import read_request

CPU = torch.device("cpu")
SETTINGS = {"steps": 12, "resolution": 24, "final_resolution": 24, "texture_px": 64, "preview_px": 64}
REQUEST = {"prompt": "a red cube", "settings": SETTINGS}


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def made(folder: Path) -> bytes:
    run(read_request(REQUEST), folder, CPU, lambda step: None, lambda warning: None)
    return (folder / "scene.glb").read_bytes()


def test_the_same_request_and_seed_give_the_same_scene_on_several_threads(tmp_path, two_threads) -> None:
    first = made(tmp_path / "0")
    assert all(made(tmp_path / str(number)) == first for number in (1, 2))


@pytest.mark.parametrize("before", ["default", "warn", "error"])
def test_what_torch_was_set_to_is_set_again(before) -> None:
    torch.set_deterministic_debug_mode(before)
    try:
        number = torch.get_deterministic_debug_mode()
        with contextlib.suppress(ZeroDivisionError), repeatable(CPU):
            assert torch.are_deterministic_algorithms_enabled()
            raise ZeroDivisionError
        assert torch.get_deterministic_debug_mode() == number
        with repeatable(torch.device("meta")):
            assert torch.get_deterministic_debug_mode() == number
    finally:
        torch.set_deterministic_debug_mode("default")
