"""The settings of a run: the preset's, overridden by name, every fault named."""

import math

import pytest

from backend.errors import RequestError
from backend.presets import PRESETS, model_folder, settings_for


def test_overrides_replace_only_what_they_name() -> None:
    base = PRESETS["starter"]
    changed = settings_for("starter", {"steps": 7, "t_max": [0.9, 0.6]})
    assert changed.steps == 7
    assert changed.t_max == (0.9, 0.6)
    assert changed.model_copy(update={"steps": base.steps, "t_max": base.t_max}) == base


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_as_it_stands(name) -> None:
    assert settings_for(name, {}) == PRESETS[name]


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(RequestError, match=r"no preset 'fast'.*starter"):
        settings_for("fast", {})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", 5),  # no such setting
        ("steps", 0),
        ("steps", -3),
        ("steps", 10**30),
        ("steps", "many"),
        ("steps", None),
        ("steps", math.nan),
        ("steps", 2.5),
        ("views", 17),
        ("resolution", 7),
        ("resolution", 100000),
        ("texture_px", 1),
        ("lr_geometry", 0),
        ("lr_geometry", math.nan),
        ("lr_colour", math.inf),
        ("relation_weight", -1),
        ("refine_at", 1.5),
        ("t_max", 0.9),
        ("t_max", [0.9]),
        ("t_max", [1.5, 0.5]),
        ("t_min", [-0.1, 0.1]),
        ("t_min", [0.99, 0.1]),  # above the starter preset's t_max
        ("latent_weight", -1),
        ("pixel_weight", math.nan),
        ("colour_from", [0.6, 0.4]),
        ("colour_from", [-0.1, 0.4]),
        ("entropy_weight", [0.1, -0.1]),
        ("checkpoint_every_s", 0),
        ("prior", ["starter"]),
    ],
)
def test_a_faulty_override_is_named(key, value) -> None:
    with pytest.raises(RequestError) as caught:
        settings_for("starter", {key: value})
    assert caught.value.where.startswith(f"settings.{key}")
    assert caught.value.remedy


def test_a_model_is_the_bundled_one_or_a_folder(tmp_path) -> None:
    assert model_folder("starter", "vlm").parts[-3:] == ("starter", "weights", "vlm")
    assert model_folder(str(tmp_path), "vlm") == tmp_path
    assert "~" not in str(model_folder("~/models", "prior"))


@pytest.mark.parametrize("name", ["draft", "standard", "paper"])
def test_big_models_explore_candidates_as_rewardsds_does_in_3d(name) -> None:
    """arXiv 2503.09601: DDIM schedules of 15 steps, guidance 50 on the way, in the first 0.7 of the run."""
    found = settings_for(name, {"strategy": "min-max"})
    assert (found.explore_steps, found.explore_scale, found.explore_until) == (15, 50.0, 0.7)


def test_the_paper_presets_reward_is_vlm3ds() -> None:
    """arXiv 2509.15772: r = z_yes - z_no from the first step on, its weight linear to nothing over 10k of 20k steps."""
    found = settings_for("paper", {})
    assert (found.reward_form, found.reward_from, found.reward_fade) == ("log-odds", 0.0, (0.0, 0.5))


def test_the_paper_presets_guidance_and_noise_are_mvdreams() -> None:
    """arXiv 2308.16512: guidance 50, rescale 0.5; t from 0.98 to [0.02, 0.5] over VLM3D's 8k of 20k steps."""
    found = settings_for("paper", {})
    assert (found.guidance_scale, found.guidance_rescale) == (50.0, 0.5)
    assert (found.t_max, found.t_min, found.t_until) == ((0.98, 0.5), (0.98, 0.02), 0.4)
    assert found.steps == 10_000


def test_vsd_takes_less_guidance_than_sds_unless_told_how_much() -> None:
    assert settings_for("paper", {}).guidance_scale == 50.0
    assert settings_for("paper", {"distillation": "vsd"}).guidance_scale == 7.5
    assert settings_for("paper", {"distillation": "vsd", "guidance_scale": 20.0}).guidance_scale == 20.0
    assert settings_for("starter", {"distillation": "vsd"}).guidance_scale == settings_for("starter", {}).guidance_scale


def test_a_reward_with_weights_of_its_own_needs_their_folder() -> None:
    with pytest.raises(RequestError, match=r"settings\.reward_folder"):
        settings_for("starter", {"reward": "aesthetic"})
    assert settings_for("starter", {"reward": "aesthetic", "reward_folder": "/weights"}).reward == "aesthetic"


def test_fewer_candidates_than_the_strategy_needs_are_refused_before_a_model_is_loaded() -> None:
    with pytest.raises(RequestError, match="needs 4 candidates or more, got 3"):
        settings_for("starter", {"strategy": "min-max", "candidates": 3})
    assert settings_for("starter", {"strategy": "min-max", "candidates": 4}).candidates == 4
    assert settings_for("starter", {"candidates": 1}).strategy == "none"
