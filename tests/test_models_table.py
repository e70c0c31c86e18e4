"""The table of models: where they lie, what to do when they are not there, what the commands say of them."""

import pytest

from backend.cli import main
from backend.errors import ModelError
from backend.models_table import MODELS, is_present, model_folder, models_folder, require_model
from backend.presets import PRESETS
from tests.small_vlms import write_small_vlm


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that models are kept in, empty."""
    monkeypatch.setenv("DIORAMA_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_names_models_of_the_table_or_the_bundled_ones(preset) -> None:
    for kind in ("prior", "vlm"):
        name = getattr(PRESETS[preset], kind)
        assert name == "starter" or MODELS[name].kind == kind


def test_no_preset_needs_a_model_whose_licence_forbids_commercial_use() -> None:
    assert all(MODELS[n].commercial for s in PRESETS.values() for n in (s.prior, s.vlm) if n in MODELS)
    assert all(row.restriction for row in MODELS.values() if not row.commercial)


def test_a_named_model_lies_in_the_models_folder(folder) -> None:
    assert models_folder() == folder
    assert model_folder("qwen3-vl-4b", "vlm") == folder / "qwen3-vl-4b"


def test_a_model_that_is_not_there_names_the_command_that_gets_it(folder) -> None:
    with pytest.raises(ModelError, match=r"python -m backend models download sd-1\.5") as caught:
        require_model("sd-1.5", "prior")
    assert caught.value.where == "settings.prior"


def test_a_model_of_the_other_kind_and_an_unknown_name_are_refused(folder) -> None:
    with pytest.raises(ModelError, match=r"sd-1\.5 is a diffusion prior.*qwen3-vl-4b"):
        require_model("sd-1.5", "vlm")
    with pytest.raises(ModelError, match=r"no folder and no known model named 'sd-9'.*mvdream"):
        require_model("sd-9", "prior")


def test_a_model_put_there_is_found_and_checked(folder, capsys) -> None:
    write_small_vlm("qwen3_vl", folder / "qwen3-vl-2b")
    assert is_present("qwen3-vl-2b", "vlm")
    assert require_model("qwen3-vl-2b", "vlm") == folder / "qwen3-vl-2b"
    assert main(["models", "check"]) == 0
    assert "ok    qwen3-vl-2b" in capsys.readouterr().out
    (folder / "qwen3-vl-2b" / "model.safetensors").unlink()
    assert main(["models", "check", "qwen3-vl-2b"]) == 1
    assert "no weights" in capsys.readouterr().err


def test_the_list_names_licence_size_and_presets_and_warns(folder, capsys) -> None:
    assert main(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("qwen3-vl-4b"))
    assert all(part in row for part in ("Apache-2.0", "8.9 GB", "no", "standard", "Qwen/Qwen3-VL-4B-Instruct"))
    assert any(line.startswith("warning: qwen2.5-vl-3b") and "commercial" in line for line in lines)


def test_a_download_that_the_licence_restricts_needs_a_yes(folder, capsys) -> None:
    assert main(["models", "download", "qwen2.5-vl-3b"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert not folder.exists()


def test_generating_without_the_preset_s_models_names_the_command(folder, tmp_path, capsys) -> None:
    assert main(["generate", "a red cube", "--preset", "draft", "--out", str(tmp_path / "out")]) == 2
    assert "python -m backend models download sd-1.5" in capsys.readouterr().err
