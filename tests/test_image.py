"""Text to image and editing: the loops against closed forms, whole runs on small networks, the command line."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend.cli import main
from backend.errors import ModelError, OptimisationError, RequestError
from backend.guidance.diffusion import DiffusionPrior, load_prior
from backend.guidance.memory import Turns
from backend.guidance.rewards import vlm_reward
from backend.guidance.variational import VariationalScore
from backend.guidance.vlm import load_vlm
from backend.image import run as run_module
from backend.image.edit import edit
from backend.image.request import EDIT_METHODS, IMAGE_METHODS, read_image_request, settings_for
from backend.image.run import ImageModels, load_image_models, run_image
from backend.image.steps import Denoiser, Step
from backend.image.text_to_image import text_to_image

CPU = torch.device("cpu")
MEAN = {"a red cube": 1.0, "a blue cube": -1.0}  # of the Gaussian that each prompt stands for


class GaussianPrior(DiffusionPrior):
    """The small prior with the exact denoiser of N(mean of the prompt, 0.5^2), to which it was encoded."""

    def encode_text(self, prompts) -> torch.Tensor:
        return torch.tensor([MEAN.get(prompt, 0.0) for prompt in prompts])[:, None, None]

    def predict_noise(self, noisy, t, text, poses) -> torch.Tensor:
        a = self.alphas_cumprod[t][:, None, None, None]
        return (1 - a).sqrt() * (noisy - a.sqrt() * text[..., None]) / (a * 0.25 + 1 - a)

    def encode(self, images) -> torch.Tensor:
        return images.permute(0, 3, 1, 2)

    def decode(self, latents) -> torch.Tensor:
        return latents[:, :3].permute(0, 2, 3, 1)


@pytest.fixture
def gaussian(folders) -> DiffusionPrior:
    prior = load_prior(folders[0], CPU)
    return GaussianPrior(prior.tokenizer, prior.text_encoder, prior.vae, prior.unet, prior.scheduler)


def run(gaussian, method: str, picture=None, reward=None, seed: int = 0, source: str = "", **settings) -> torch.Tensor:
    data = {"prompt": "a red cube", "source": source, "method": method, "settings": {"guidance_scale": 1.0, **settings}}
    request = read_image_request(data)
    generator = torch.Generator().manual_seed(seed)
    args = (gaussian, reward, generator, lambda step: None)
    if picture is None:
        return text_to_image(request, settings_for(request), *args)
    return edit(request, settings_for(request), picture, *args)


def brightness(images: torch.Tensor, prompt: str) -> torch.Tensor:
    return images.mean(dim=(1, 2, 3, 4))


def test_sds_drives_the_latents_to_the_prompts_mode(gaussian) -> None:
    latents = run(gaussian, "sds", steps=150, lr=0.05)
    assert latents.mean().item() == pytest.approx(1.0, abs=0.05)
    assert latents.std().item() < 0.25


def test_guidance_drives_them_beyond_it(gaussian) -> None:
    assert run(gaussian, "sds", steps=150, lr=0.05, guidance_scale=2.0).mean().item() == pytest.approx(2.0, abs=0.1)


def test_rewarded_candidates_end_where_the_reward_is_higher(gaussian) -> None:
    settings = {"steps": 80, "lr": 0.05, "explore_steps": 2, "explore_every": 1, "explore_scale": 1.0}
    brighter = run(gaussian, "reward-sds", reward=brightness, **settings)
    darker = run(gaussian, "reward-sds", reward=lambda images, prompt: -brightness(images, prompt), **settings)
    assert darker[:, :3].mean() < brighter[:, :3].mean() - 0.01


def test_candidates_that_do_not_count_are_not_denoised_again(gaussian, monkeypatch) -> None:
    seen: list[int] = []
    plain = gaussian.predict_noise
    monkeypatch.setattr(
        gaussian, "predict_noise", lambda noisy, *rest: (seen.append(len(noisy)), plain(noisy, *rest))[1]
    )
    run(gaussian, "reward-sds", reward=brightness, steps=1, strategy="best", candidates=4, explore_steps=1)
    assert seen == [2 * 4, 2 * 1]  # each with and without the prompt: explored from t alone, then the best one


@pytest.mark.parametrize("method", ["dds", "bridge"])
def test_an_edit_moves_a_picture_by_the_difference_of_the_prompts(gaussian, method) -> None:
    picture = torch.full((1, 16, 16, 3), -1.0) + 0.3 * torch.randn(
        1, 16, 16, 3, generator=torch.Generator().manual_seed(1)
    )
    latents = run(gaussian, method, picture, source="a blue cube", steps=60, lr=0.05, bridge_at=1.0)
    moved = latents - gaussian.encode(picture)
    assert moved.mean() > 1.0
    assert moved.std() < 0.05  # every pixel alike: what makes the picture this picture stays


def test_an_edit_to_what_the_picture_already_is_changes_nothing(gaussian) -> None:
    picture = torch.rand(1, 16, 16, 3)
    latents = run(gaussian, "dds", picture, source="a red cube", steps=5)
    assert torch.equal(latents, gaussian.encode(picture))


def test_a_network_call_for_each_sample_gives_what_one_for_all_gives(folders) -> None:
    prior = load_prior(folders[0], CPU)
    noisy = torch.randn(3, prior.unet.config.in_channels, 16, 16, generator=torch.Generator().manual_seed(0))
    found = []
    for batch in (1, 16):
        request = read_image_request({"prompt": "a red cube", "method": "sds", "settings": {"batch": batch}})
        found.append(Denoiser(prior, "a red cube", "", 3.0, settings_for(request))(noisy, 500))
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


def test_a_loss_that_is_not_finite_ends_the_run(gaussian) -> None:
    gaussian.predict_noise = lambda noisy, *rest: noisy * torch.nan
    with pytest.raises(OptimisationError, match="'prior' is not finite"):
        run(gaussian, "sds", steps=3)


def arguments(folders, method: str, picture: Path, out: Path) -> list[str]:
    task = ["image", "a red cube"] if method in IMAGE_METHODS else ["edit", str(picture), "a red cube", "a blue cube"]
    settings = [f"prior={folders[0]}", f"vlm={folders[1]}", "explore_steps=2", "explore_every=2", "guidance_scale=2"]
    return [*task, "--method", method, "--steps", "2", "--out", str(out), *(x for s in settings for x in ("--set", s))]


@pytest.fixture
def picture(tmp_path) -> Path:
    values = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(values).save(tmp_path / "in.png")
    return tmp_path / "in.png"


@pytest.mark.parametrize("method", [*IMAGE_METHODS, *EDIT_METHODS])
def test_a_command_leaves_a_picture_and_a_report_that_repeat(folders, picture, tmp_path, capsys, method) -> None:
    for name in ("one", "two"):
        assert main(arguments(folders, method, picture, tmp_path / name)) == 0, capsys.readouterr().err
    assert bool(re.search(r"reward of the result: \d+%\n", capsys.readouterr().out)) == method.startswith("reward-")
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["image.png", "report.json"]
    image = Image.open(tmp_path / "one" / "image.png")
    assert image.size == (64, 64) and image.mode == "RGB"
    assert (tmp_path / "one" / "image.png").read_bytes() == (tmp_path / "two" / "image.png").read_bytes()
    report = json.loads((tmp_path / "one" / "report.json").read_text())
    assert report["request"]["method"] == method and report["settings"]["steps"] == 2
    assert ("result" in report["rewards"]) == method.startswith("reward-")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["image", ""], "prompt: is empty"),
        (["image", "a cube", "--candidates", "3"], "'min-max' needs 4 candidates or more, got 3"),
        (["image", "a cube", "--strategy", "best", "--candidates", "1"], "'best' needs 2"),
        (["image", "a cube", "--steps", "0"], "settings.steps"),
        (["image", "a cube", "--set", "lr"], "expected NAME=VALUE"),
        (["image", "a cube", "--set", "speed=3"], "settings.speed: unknown setting. Settings are: prior, vlm"),
        (["image", "a cube", "--set", "step=3"], "settings.step: unknown setting. Did you mean steps?"),
        (["image", "a cube", "--set", "t_min=0.99"], "lies above t_max"),
        (["image", "a cube", "--reward", "aesthetic"], "settings.reward_folder"),
        (["image", "a cube", "--prior", "qwen3-vl-2b"], "settings.prior: qwen3-vl-2b is a"),
        (["image", "a cube", "--prior", "nowhere"], "nowhere"),
        (["edit", "in.png", "", "a blue cube"], "source: is empty"),
        (["edit", "none.png", "a red cube", "a blue cube"], "none.png: cannot be read"),
    ],
)
def test_faulty_arguments_end_with_one_message(tmp_path, monkeypatch, capsys, given, says) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(given) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and says in err
    assert list(tmp_path.rglob("*.png")) == []


def test_words_that_do_not_fit_or_are_not_known_are_named(folders, tmp_path, capsys) -> None:
    long = "a red cube and a blue sphere and a green zeppelin"
    given = ["image", long, "--method", "sds", "--steps", "1", "--set", f"prior={folders[0]}", "--out", str(tmp_path)]
    assert main(given) == 0
    err = capsys.readouterr().err
    assert "does not see: 'a green zeppelin'" in err
    assert "does not know: zeppelin" in err
    assert len(json.loads((tmp_path / "report.json").read_text())["warnings"]) == 2


def test_the_vlm_scores_each_candidate_as_if_alone(folders) -> None:
    reward = vlm_reward(load_vlm(folders[1], CPU))
    images = torch.rand(3, 2, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    together = reward(images, "a red cube")
    assert together.shape == (3,) and not together.requires_grad
    torch.testing.assert_close(together[1], reward(images[1:2], "a red cube")[0])


@pytest.mark.parametrize("batch", [1, 3])
def test_a_variational_score_sees_no_more_at_once_than_the_batch(folders, monkeypatch, batch) -> None:
    seen, predict = [], VariationalScore.predict_noise

    def noted(own, noisy, *rest):
        seen.append(len(noisy))
        return predict(own, noisy, *rest)

    monkeypatch.setattr(VariationalScore, "predict_noise", noted)
    asked = {"steps": 1, "strategy": "none", "candidates": 4, "explore_steps": 1, "batch": batch}
    run(load_prior(folders[0], CPU), "reward-vsd", reward=brightness, **asked)
    assert sum(seen) == 4 and max(seen) == batch


def test_progress_is_told_after_every_step(gaussian) -> None:
    request = read_image_request({"prompt": "a red cube", "method": "reward-sds", "settings": {"steps": 4}})
    told: list[Step] = []
    text_to_image(request, settings_for(request), gaussian, brightness, torch.Generator().manual_seed(0), told.append)
    assert [(step.step, step.steps) for step in told] == [(i, 4) for i in (1, 2, 3, 4)]
    assert set(told[-1].rewards) == {"best", "mean"} and told[-1].seconds_left == 0
    assert told[-1].rewards["best"] >= told[-1].rewards["mean"]


@pytest.mark.parametrize("part", range(4))  # before decoding, scoring, writing, and at the end
def test_a_run_stopped_at_any_part_of_its_result_leaves_the_earlier_one(folders, tmp_path, part) -> None:
    settings = {"prior": str(folders[0]), "vlm": str(folders[1]), "steps": 1, "explore_steps": 1}
    request = read_image_request({"prompt": "a red cube", "method": "reward-sds", "settings": settings})
    (tmp_path / "image.png").write_text("earlier")
    parts = iter(range(5))

    def on_part() -> None:
        if next(parts) == part:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_image(request, None, tmp_path, CPU, lambda step: None, print, on_part=on_part)
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]
    assert (tmp_path / "image.png").read_text() == "earlier"


def test_a_source_is_asked_for_when_editing() -> None:
    with pytest.raises(RequestError, match="source: is empty"):
        read_image_request({"prompt": "a red cube", "method": "dds"})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", IMAGE_METHODS)
def test_networks_in_half_precision_move_latents_in_full_precision(folders, method, dtype) -> None:
    reward = vlm_reward(load_vlm(folders[1], CPU, dtype)) if method.startswith("reward") else None
    prior = load_prior(folders[0], CPU, dtype)
    found = run(prior, method, reward=reward, steps=2, explore_steps=2, explore_every=1)
    assert prior.unet.dtype == dtype and found.dtype == torch.float32 and found.isfinite().all()


@pytest.mark.parametrize("method", EDIT_METHODS)
def test_edits_run_in_half_precision_too(folders, method) -> None:
    reward = vlm_reward(load_vlm(folders[1], CPU, torch.bfloat16)) if method.startswith("reward") else None
    prior, picture = load_prior(folders[0], CPU, torch.bfloat16), torch.rand(1, 64, 64, 3)
    found = run(prior, method, picture, reward, source="a blue cube", steps=2, explore_steps=2)
    assert found.dtype == torch.float32 and found.isfinite().all()


def loaded(folders, method: str = "reward-sds", **settings) -> ImageModels:
    chosen = {"prior": str(folders[0]), "vlm": str(folders[1])} | settings
    request = read_image_request({"prompt": "a red cube", "method": method, "settings": chosen})
    return load_image_models(request, settings_for(request), CPU)


def test_the_vlm_sees_pictures_no_larger_than_the_setting_says(folders) -> None:
    images = torch.rand(2, 1, 128, 128, 3, generator=torch.Generator().manual_seed(0))
    whole, small = (vlm_reward(load_vlm(folders[1], CPU, largest_px=edge))(images, "a red cube") for edge in (None, 64))
    assert (whole - small).abs().max() > 1e-3
    torch.testing.assert_close(loaded(folders).reward.score(images, "a red cube"), whole)
    torch.testing.assert_close(loaded(folders, vlm_px=64).reward.score(images, "a red cube"), small)


def test_four_bits_are_asked_for_where_the_vlm_is_loaded(folders) -> None:
    with pytest.raises(ModelError, match=r"settings\.vlm_four_bit: 4-bit weights need CUDA"):
        loaded(folders, vlm_four_bit=True)
    assert loaded(folders, "sds", vlm_four_bit=True).reward is None


def test_prior_and_vlm_take_turns_where_they_are_to(folders, monkeypatch) -> None:
    used, take = [], Turns._take
    monkeypatch.setattr(Turns, "_take", lambda turns, index: used.append(index) or take(turns, index))
    monkeypatch.setattr(run_module, "takes_turns", lambda offload_idle, device: offload_idle)  # as if this were CUDA
    score = []
    for offload_idle in (False, True):
        prior, reward = loaded(folders, offload_idle=offload_idle)
        found = run(prior, "reward-sds", reward=reward.score, steps=1, explore_steps=1)
        score.append(reward.score(prior.decode(found)[:, None], "a red cube"))
        assert bool(used) == offload_idle
    assert [key for key, _ in itertools.groupby(used)] == [0, 1, 0, 1]  # text and noises, scores; the noise, the score
    torch.testing.assert_close(*score)


def test_tiles_are_set_where_they_are_asked_for(folders) -> None:
    for edge in (0, 32):
        prior = loaded(folders, vae_tile_px=edge).prior
        assert prior.vae.use_tiling == bool(edge) and prior.unet.dtype == torch.float32
