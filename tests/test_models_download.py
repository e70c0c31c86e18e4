"""Downloads from a hub: only what is needed, resumed where they stopped, refused where files are missing."""

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi

from backend import model_download
from backend.errors import ModelError
from backend.model_download import download, files_of
from backend.models_table import MODELS, Model
from tests.hub_server import hub
from tests.small_vlms import write_small_vlm

ROW = Model("small", "vlm", "someone/model", "Apache-2.0", "", True, 0.1)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Models are kept in a folder of the test; the hub library may speak to this machine."""
    monkeypatch.setenv("DIORAMA_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return tmp_path


def test_a_download_takes_settings_and_safetensors_only(place) -> None:
    source = write_small_vlm("qwen3_vl", place / "source")
    for extra in ("pytorch_model.bin", "README.md", "modeling.py", "model.onnx"):
        (source / extra).write_bytes(b"no")
    with hub(source) as server:
        folder = download(ROW, HfApi(endpoint=server.endpoint))
    assert folder == place / "models" / "small"
    there = {p.name for p in folder.iterdir() if p.is_file()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"} <= there
    assert all(name.endswith((".json", ".jinja", ".safetensors")) for name in there)


def test_a_connection_that_breaks_is_taken_up_at_the_byte_where_it_broke(place, monkeypatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 50_000)  # what is kept of a broken file
    source = write_small_vlm("qwen3_vl", place / "source")
    with hub(source) as server:
        server.cuts, server.cut_at = 1, 100_000
        folder = download(ROW, HfApi(endpoint=server.endpoint))
    assert ("model.safetensors", 100_000) in server.sent
    assert (folder / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()


def test_a_download_that_stopped_goes_on_with_the_files_that_are_missing(place) -> None:
    source = write_small_vlm("qwen3_vl", place / "source")
    with hub(source) as server:
        api = HfApi(endpoint=server.endpoint)
        server.cuts, server.cut_at = 1000, 1_000_000  # only the weights are as long
        with pytest.raises(ModelError, match="models download small") as caught:
            download(ROW, api)
        assert "stopped" in caught.value.what
        server.cuts, server.sent = 0, []
        download(ROW, api)
    assert [name for name, _ in server.sent] == ["model.safetensors"]


def test_a_model_that_vanished_and_a_hub_that_is_not_there_are_clear_errors(place) -> None:
    with hub(place) as server:
        api = HfApi(endpoint=server.endpoint)
        with pytest.raises(ModelError, match="no such model, or does not show it"):
            download(ROW._replace(hub_id="someone/gone"), api)
    with pytest.raises(ModelError, match="cannot be reached"):
        download(ROW, HfApi(endpoint="http://127.0.0.1:9"))


def test_too_little_room_is_said_before_anything_is_fetched(place, monkeypatch) -> None:
    source = write_small_vlm("qwen3_vl", place / "source")
    monkeypatch.setattr(model_download, "SPARE_BYTES", 10**18)
    with hub(source) as server:
        with pytest.raises(ModelError, match="are free"):
            download(ROW, HfApi(endpoint=server.endpoint))
        assert server.sent == []


STABLE_DIFFUSION = [
    *(
        "model_index.json",
        "README.md",
        "v1-5-pruned.safetensors",
        "v1-5-pruned.ckpt",
        "scheduler/scheduler_config.json",
    ),
    *("tokenizer/vocab.json", "tokenizer/merges.txt", "safety_checker/model.safetensors", "unet/config.json"),
    *("unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "vae/config.json"),
    *("unet/diffusion_pytorch_model.bin", "vae/diffusion_pytorch_model.safetensors", "text_encoder/config.json"),
    *("text_encoder/model.fp16.safetensors", "text_encoder/model.safetensors", "text_encoder/pytorch_model.bin"),
]


def test_of_a_stable_diffusion_repository_the_half_size_parts_are_taken_and_nothing_else() -> None:
    wanted = files_of(MODELS["sd-1.5"], STABLE_DIFFUSION)
    assert [name for name in wanted if name.endswith(".safetensors")] == [
        "text_encoder/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.safetensors",  # there is no half-size one
    ]
    assert {"model_index.json", "tokenizer/merges.txt", "scheduler/scheduler_config.json"} <= set(wanted)
    assert not {name.split("/")[0] for name in wanted} & {"README.md", "safety_checker", "v1-5-pruned.ckpt"}


def test_of_shards_all_are_taken_with_their_index() -> None:
    names = ["config.json", "model.safetensors.index.json", *(f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3))]
    assert set(files_of(MODELS["qwen3-vl-4b"], names)) == set(names)


def test_a_repository_of_pickles_is_refused() -> None:
    with pytest.raises(ModelError, match="pickles are never loaded"):
        files_of(MODELS["qwen3-vl-4b"], ["config.json", "pytorch_model.bin"])
