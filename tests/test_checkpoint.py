"""A checkpoint holds everything the next step depends on, and a damaged one is refused in plain words."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from backend.checkpoint import Checkpoint, save_checkpoint
from backend.errors import OutputError, RequestError
from backend.scene.slots import Scene
from backend.schema import Slot

CPU = torch.device("cpu")
PULL_NORMS = {0: torch.tensor(0.1), 1: torch.tensor(3e-9)}
REQUEST = '{"prompt": "a cube", "seed": 4}'
REWARDS = {"cube: Is it whole?": -0.1234567890123, "cube on top of ball": 2.5}


def make_scene(seed: int = 0, slots: int = 2, resolution: int = 8) -> Scene:
    generator = torch.Generator().manual_seed(seed)
    placed = [Slot(name=str(i), prompt="a cube", lock_rotation=True, size=(1, 0.7, 1)) for i in range(slots)]
    return Scene(placed, resolution, CPU, generator)


def make_adam(scene: Scene) -> torch.optim.Adam:
    return torch.optim.Adam(scene.parameter_groups(1e-2, 1e-2, 1e-2))


def advance(scene: Scene, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> None:
    """A step whose gradient is drawn from the generator; colours get none, as when nothing looks at them."""
    optimizer.zero_grad()
    for model in scene.slots:
        for parameter in [*model.shape.parameters(), model.placement.translation]:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


@pytest.fixture
def saved(tmp_path) -> tuple[Path, Scene, torch.optim.Optimizer, torch.Generator]:
    """A scene that was refined and stepped, and the file it was saved to."""
    scene, generator = make_scene(), torch.Generator().manual_seed(9)
    scene.refine(12)
    optimizer = make_adam(scene)
    advance(scene, optimizer, generator)
    path = tmp_path / "folder" / "checkpoint.safetensors"
    save_checkpoint(path, scene, optimizer, generator, PULL_NORMS, {}, 5, REQUEST, REWARDS)
    return path, scene, optimizer, generator


def test_a_restored_run_goes_on_exactly_as_the_one_that_did_not_stop(saved) -> None:
    path, scene, optimizer, generator = saved
    other, other_generator = make_scene(seed=1), torch.Generator()
    checkpoint = Checkpoint(path)
    checkpoint.restore_scene(other)
    other_optimizer = make_adam(other)
    checkpoint.restore_optimizer(other_optimizer)
    checkpoint.restore_generator(other_generator)
    for _ in range(2):
        advance(scene, optimizer, generator)
        advance(other, other_optimizer, other_generator)
    for (name, one), (_, two) in zip(scene.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(one, two), name


def test_step_and_request_are_kept(saved) -> None:
    checkpoint = Checkpoint(saved[0])
    assert checkpoint.step == 5
    assert checkpoint.request == {"prompt": "a cube", "seed": 4}


def test_the_norms_of_the_priors_pulls_are_kept_exactly(saved) -> None:
    assert Checkpoint(saved[0]).pull_norms(CPU) == PULL_NORMS


def test_the_rewards_are_kept_exactly(saved) -> None:
    assert Checkpoint(saved[0]).rewards == REWARDS


def test_nothing_else_is_left_in_the_folder(saved) -> None:
    assert [p.name for p in saved[0].parent.iterdir()] == ["checkpoint.safetensors"]


def test_a_checkpoint_replaces_the_last_one_while_that_is_in_use(saved) -> None:
    path, scene, optimizer, generator = saved
    first = Checkpoint(path)
    before = scene.slots[0].shape.sdf.detach().clone()
    advance(scene, optimizer, generator)
    save_checkpoint(path, scene, optimizer, generator, PULL_NORMS, {}, 6, REQUEST, REWARDS)
    other = make_scene()
    first.restore_scene(other)
    assert torch.equal(other.slots[0].shape.sdf, before)
    assert Checkpoint(path).step == 6


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(saved, kept) -> None:
    path = saved[0]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RequestError, match=r"no usable checkpoint.*without --resume") as caught:
        Checkpoint(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("content", [b"\0" * 64, b"not a checkpoint at all", b"\xff" * 8])
def test_another_kind_of_file_is_refused(tmp_path, content) -> None:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(content)
    with pytest.raises(RequestError, match="no usable checkpoint"):
        Checkpoint(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(RequestError, match="no usable checkpoint"):
            Checkpoint(path)


@pytest.mark.parametrize(
    "metadata", [None, {}, {"step": "3"}, {"step": "x", "request": "{}"}, {"step": "3", "request": "{"}]
)
def test_a_safetensors_file_without_a_runs_metadata_is_refused(tmp_path, metadata) -> None:
    save_file({"scene.x": torch.zeros(3)}, tmp_path / "c.safetensors", metadata)
    with pytest.raises(RequestError, match="no usable checkpoint"):
        Checkpoint(tmp_path / "c.safetensors")


def test_tensors_that_do_not_fit_the_request_are_refused(saved, tmp_path) -> None:
    with pytest.raises(RequestError, match="no usable checkpoint"):
        Checkpoint(saved[0]).restore_scene(make_scene(slots=3))
    save_file({"optimizer.x.y": torch.zeros(3)}, tmp_path / "c.safetensors", {"step": "1", "request": "{}"})
    stranger = Checkpoint(tmp_path / "c.safetensors")
    with pytest.raises(RequestError, match="no usable checkpoint"):
        stranger.restore_optimizer(make_adam(make_scene()))
    with pytest.raises(RequestError, match="no usable checkpoint"):
        stranger.restore_generator(torch.Generator())


def test_a_place_that_cannot_be_written_is_named(saved, tmp_path) -> None:
    _, scene, optimizer, generator = saved
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="could not be written"):
        save_checkpoint(tmp_path / "file" / "c.safetensors", scene, optimizer, generator, {}, {}, 1, REQUEST, {})
