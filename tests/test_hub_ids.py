"""Hub ids (owner/name) where models are named: in settings, and by the commands that download and check."""

import json
from functools import partial
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi

from backend.cli import main
from backend.errors import ModelError
from backend.models_table import HUB_ID, MODELS, Model, licence_of, model_folder, other_downloads, require_model
from tests.cli_requests import refused
from tests.hub_server import Hub, hub
from tests.mvdream_checkpoint import write_checkpoint, write_tokenizer
from tests.small_priors import write_small_prior
from tests.small_vlms import write_small_vlm

ID, STORED = "someone/model", "someone--model"  # the one repository of the tests' hub, and its folder


@pytest.fixture
def models(tmp_path, monkeypatch) -> Path:
    """The folder that models are kept in, empty; no hub can be reached."""
    monkeypatch.setenv("DIORAMA_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "HfApi", partial(HfApi, endpoint="http://127.0.0.1:9"))
    return tmp_path / "models"


@pytest.fixture
def server(models, tmp_path, monkeypatch):
    """A hub with one empty repository, that the command line downloads from."""
    (tmp_path / "repository").mkdir()
    with hub(tmp_path / "repository") as running:
        monkeypatch.setattr(huggingface_hub, "HfApi", partial(HfApi, endpoint=running.endpoint))
        yield running


def weights_sent(server: Hub) -> list[str]:
    return [name for name, _ in server.sent if name.endswith(".safetensors")]


@pytest.mark.parametrize("row", MODELS.values(), ids=lambda row: row.name)
def test_a_row_s_hub_id_means_the_row(models, row: Model) -> None:
    assert HUB_ID.fullmatch(row.hub_id)
    assert model_folder(row.hub_id, row.kind) == models / row.name
    assert licence_of(row.hub_id) == row.licence


def test_another_hub_id_has_a_folder_of_its_own_and_an_unknown_licence(models) -> None:
    assert model_folder(ID, "vlm") == models / STORED
    assert "unknown" in licence_of(ID)


@pytest.mark.parametrize("name", ["model", "/a/b", "../a", "a/..", "a/b/c", "a--b/c", "a/b..c", "~/a", "a/", "a b/c"])
def test_paths_are_no_hub_ids(models, name) -> None:
    assert model_folder(name, "vlm") == Path(name).expanduser()


@pytest.mark.parametrize("name", [ID, "Qwen/Qwen3-VL-2B-Instruct"])
def test_a_folder_that_is_there_comes_before_a_hub_id_of_its_name(models, tmp_path, monkeypatch, name) -> None:
    (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert require_model(name, "vlm") == Path(name)


@pytest.mark.parametrize("name", [ID, "Qwen/Qwen3-VL-2B-Instruct"])
def test_an_id_that_was_not_downloaded_is_refused_with_the_command_that_gets_it(models, name) -> None:
    command = "python -m backend models download " + ("qwen3-vl-2b" if name != ID else ID)
    with pytest.raises(ModelError, match=command) as caught:
        require_model(name, "vlm")
    assert caught.value.where == "settings.vlm"


@pytest.mark.parametrize("kind", ["prior", "vlm"])
def test_generating_with_an_id_that_was_not_downloaded_fetches_nothing_and_names_the_command(
    models, capsys, write, request_data, tmp_path, kind
) -> None:
    request_data["settings"] |= {kind: ID}
    message = refused(capsys, "--request", write(request_data), "--out", str(tmp_path / "out"))
    assert f"settings.{kind}: {ID} is not on this machine" in message
    assert f"python -m backend models download {ID} (licence unknown: read the model card)" in message
    assert not models.exists()


def test_a_known_id_with_other_capitals_is_refused_with_the_right_one(models, capsys) -> None:
    with pytest.raises(ModelError, match=r"with these capitals: Qwen/Qwen3-VL-2B-Instruct"):
        require_model("qwen/qwen3-vl-2b-instruct", "vlm")
    assert main(["models", "download", "qwen/qwen3-vl-2b-instruct"]) == 2
    assert "with these capitals: Qwen/Qwen3-VL-2B-Instruct" in capsys.readouterr().err


def test_a_downloaded_id_generates(server, capsys, write, request_data, tmp_path) -> None:
    write_small_vlm("qwen3_vl", server.folder)
    assert main(["models", "download", ID]) == 0
    out = capsys.readouterr().out
    assert "licence unknown: read the model card" in out and str(tmp_path / "models" / STORED) in out
    request_data["settings"] |= {"vlm": ID}
    assert main(["generate", "--request", write(request_data), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "scene.glb").is_file()


def test_a_downloaded_prior_is_told_from_a_vision_language_model(server, capsys) -> None:
    write_small_prior("sd-1.5", server.folder)
    assert main(["models", "download", ID]) == 0
    assert require_model(ID, "prior").name == STORED
    with pytest.raises(ModelError, match=rf"{ID} is a diffusion prior"):
        require_model(ID, "vlm")


def test_list_and_check_know_what_was_downloaded_by_id(models, capsys) -> None:
    write_small_vlm("qwen3_vl", models / STORED)
    assert other_downloads() == [ID]
    assert main(["models", "list"]) == 0
    assert f"downloaded too: {ID}, licence unknown" in capsys.readouterr().out
    assert main(["models", "check"]) == main(["models", "check", ID]) == 0
    assert capsys.readouterr().out.count(f"ok    {ID}: ") == 2


def test_check_of_a_row_s_id_looks_into_the_row_s_folder(models, capsys) -> None:
    write_small_vlm("qwen3_vl", models / "qwen3-vl-2b")
    assert main(["models", "check", "Qwen/Qwen3-VL-2B-Instruct"]) == 0
    assert str(models / "qwen3-vl-2b") in capsys.readouterr().out


@pytest.mark.parametrize("name", [ID, "Qwen/Qwen3-VL-2B-Instruct", "sd-1.5"])
def test_check_of_what_was_not_downloaded_fails_and_names_the_command(models, capsys, name) -> None:
    assert main(["models", "check", name]) == 1
    assert "python -m backend models download" in capsys.readouterr().err


def test_a_download_by_a_row_s_id_needs_the_same_yes(models, capsys) -> None:
    assert main(["models", "download", MODELS["qwen2.5-vl-3b"].hub_id]) == 2
    assert "python -m backend models download qwen2.5-vl-3b --yes" in capsys.readouterr().err


@pytest.mark.parametrize("name", [ID, "sd-1.5"])
def test_a_download_without_network_is_a_clear_error(models, capsys, name) -> None:
    assert main(["models", "download", name]) == 2
    message = capsys.readouterr().err
    assert "the hub cannot be reached" in message and "Connect to the network" in message
    assert not models.exists()


def test_a_download_of_an_id_that_the_hub_does_not_have_is_a_clear_error(server, capsys) -> None:
    assert main(["models", "download", "nobody/nothing"]) == 2
    assert "nobody/nothing: the hub has no such model" in capsys.readouterr().err


def test_a_download_of_neither_name_nor_id_lists_the_models(models, capsys) -> None:
    assert main(["models", "download", "sd-9"]) == 2
    assert "there is no model 'sd-9'. Models are: sd-1.5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "llava"}, "kind 'llava'"),
        ({"model_type": "qwen3_vl", "auto_map": {"AutoModel": "modeling.Evil"}}, "trust_remote_code"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_before_its_weights_are_fetched(server, capsys, config, says) -> None:
    write_small_vlm("qwen3_vl", server.folder)
    (server.folder / "config.json").write_text(json.dumps(config))
    assert main(["models", "download", ID]) == 2
    assert says in capsys.readouterr().err
    assert weights_sent(server) == []


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["README.md", "model.safetensors"], "no model in the layout of diffusers or of transformers"),
        (["config.json", "pytorch_model.bin"], "pickles are never loaded"),
    ],
)
def test_a_repository_without_a_model_that_can_be_loaded_is_refused(server, capsys, files, says) -> None:
    for name in files:
        (server.folder / name).write_text("{}")
    assert main(["models", "download", ID]) == 2
    assert says in capsys.readouterr().err
    assert server.sent == []


def test_check_takes_mvdream_s_original_checkpoint_as_file_and_as_folder(tmp_path, capsys) -> None:
    file = tmp_path / "sd-v2.1-base-4view.safetensors"
    write_checkpoint(file)
    write_tokenizer(tmp_path / "tokenizer", 96)
    assert main(["models", "check", str(tmp_path), str(file)]) == 0
    assert f"ok    {tmp_path}: " in capsys.readouterr().out


def test_check_of_mvdream_s_checkpoint_without_its_tokenizer_says_where_to_get_one(tmp_path, capsys) -> None:
    write_checkpoint(tmp_path / "sd-v2.1-base-4view.safetensors")
    assert main(["models", "check", str(tmp_path)]) == 1
    assert "there is no tokenizer beside the checkpoint" in capsys.readouterr().err


def test_check_of_a_folder_without_a_model_says_what_it_looked_for(tmp_path, capsys) -> None:
    assert main(["models", "check", str(tmp_path)]) == 1
    assert "there is no model here. Give a folder that holds model_index.json" in capsys.readouterr().err
