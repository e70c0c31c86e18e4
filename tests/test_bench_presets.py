"""The benchmark of the presets: its networks have the real models' sizes, and its loop runs."""

import pytest
import torch

from backend.guidance.models import load_models
from backend.guidance.questions import FULL
from backend.models_table import MODELS
from backend.presets import settings_for
from tests.bench import presets as bench
from tests.bench.presets import PRESETS, WARM_UP, WAYS, cost, main, measured, row, timed
from tests.real_networks import real_prior, real_vlm
from tests.small_models import write_small_models

CPU, META = torch.device("cpu"), torch.device("meta")
# As counted in the models' own files: denoiser, autoencoder, text encoder; MVDream's camera embedding is its own.
CAMERA_EMBEDDING = (16 + 1) * 1280 + (1280 + 1) * 1280
PARAMETERS = {
    "sd-1.5": (859_520_964, 83_653_863, 123_060_480),
    "mvdream": (865_910_724 + CAMERA_EMBEDDING, 83_653_863, 340_387_840),
}
SMALL = {"resolution": 8, "final_resolution": 8, "views": 2}


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_the_priors_have_the_real_models_sizes(name) -> None:
    prior = real_prior(name, META, torch.bfloat16)
    assert (count(prior.unet), count(prior.vae), count(prior.text_encoder)) == PARAMETERS[name]
    assert prior.unet.dtype == torch.bfloat16
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("preset", PRESETS)
def test_the_vision_language_models_have_the_sizes_that_are_downloaded(preset) -> None:
    settings = settings_for(preset, {})
    vlm = real_vlm(settings.vlm, META, settings.vlm_px)
    assert 2 * count(vlm.network) / 1e9 == pytest.approx(MODELS[settings.vlm].size_gb, rel=0.04)
    assert vlm.preprocessing.max_pixels == settings.vlm_px**2
    assert vlm.wording == FULL


def test_the_loop_measures_every_way_on_small_networks(tmp_path) -> None:
    prior, vlm = write_small_models(tmp_path)
    for way, changes in WAYS.items():
        settings = timed("starter", {**changes, **SMALL, "explore_steps": 1}, WARM_UP + 2)
        settings = settings.model_copy(update={"prior": str(prior), "vlm": str(vlm)})
        found = cost(settings, load_models(settings, CPU), CPU)
        assert found.seconds > 0 and found.peak_gib is None
        line = row("starter", way, settings, found)
        assert way in line and line.count("|") == 7


@pytest.mark.parametrize("preset", PRESETS)
def test_every_step_that_is_timed_asks_the_vlm(preset, tmp_path, monkeypatch) -> None:
    prior, vlm = write_small_models(tmp_path)
    settings = timed(preset, {}, WARM_UP + 2).model_copy(update={**SMALL, "prior": str(prior), "vlm": str(vlm)})
    models, asked = load_models(settings, CPU), []
    ask = models.vlm.ask
    monkeypatch.setattr(models.vlm, "ask", lambda *told: asked.append(told) or ask(*told))
    cost(settings, models, CPU)
    assert len(asked) == WARM_UP + 2


@pytest.mark.parametrize("where", ["models_of", "cost"])
def test_networks_that_do_not_fit_have_a_line_that_says_so(where, monkeypatch) -> None:
    def refuse(*told):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(bench, "models_of", lambda *told: None)
    monkeypatch.setattr(bench, where, refuse)
    line = measured("paper", "VSD + VLM", WARM_UP + 2, CPU)
    assert line == "| paper | mvdream + qwen2.5-vl-7b | VSD + VLM | | | too little memory |"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_one_line_says_so(capsys) -> None:
    main(WARM_UP + 2)
    assert capsys.readouterr().out == "presets: not measured, there is no GPU here\n"
