"""The vision-language model as a reward: preprocessing, shared pictures, gradients to the pixels, damaged folders."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from transformers.quantizers.quantizers_utils import should_convert_module

from backend.errors import ModelError
from backend.guidance.preprocess import Preprocessing, fitted_size, read_preprocessing, to_patches
from backend.guidance.vlm import UNQUANTISED, VisionLanguageModel, load_vlm, message_parts
from backend.starter.vlm_model import MEAN, STD
from tests.small_vlms import FAMILIES, write_small_vlm

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory) -> Path:
    return write_small_vlm(request.param, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def vlm(folder) -> VisionLanguageModel:
    return load_vlm(folder, CPU)


def pictures(count: int, height: int = 64, width: int = 64, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(count, height, width, 3, generator=generator) * 255).round() / 255


@pytest.mark.parametrize(
    "size", [(64, 64), (128, 96), (64, 160), (75, 101), (101, 75), (33, 47), (257, 255), (300, 90)]
)
def test_patches_equal_the_official_processors(folder, size) -> None:
    """Odd sizes too: resizing gives the same bytes."""
    images = pictures(2, *size)
    official = Qwen2VLImageProcessorPil.from_pretrained(folder)
    wanted = official([Image.fromarray((i * 255).byte().numpy()) for i in images], return_tensors="pt")
    values, grid = to_patches(images, read_preprocessing(folder))
    assert grid.tolist() == torch.as_tensor(wanted["image_grid_thw"]).tolist()
    torch.testing.assert_close(values, torch.as_tensor(wanted["pixel_values"]), atol=1e-3, rtol=0)


def test_a_smaller_picture_is_shown_as_the_official_processor_would_with_that_bound(folder) -> None:
    images, bound = pictures(1, 160, 128), 96
    official = Qwen2VLImageProcessorPil.from_pretrained(folder)
    size = {"shortest_edge": 64 * 64, "longest_edge": bound**2}
    wanted = official(Image.fromarray((images[0] * 255).byte().numpy()), size=size, return_tensors="pt")
    values, _ = to_patches(images, read_preprocessing(folder).within(bound))
    torch.testing.assert_close(values, torch.as_tensor(wanted["pixel_values"]), atol=1e-3, rtol=0)


def test_the_gradient_through_a_resize_is_that_of_the_smooth_resize(folder) -> None:
    preprocessing = read_preprocessing(folder)
    images = (pictures(1, 75, 101) * 0.6 + 0.2).double()  # nothing overshoots
    rounded, smooth = images.clone().requires_grad_(), images.clone().requires_grad_()
    values = to_patches(rounded, preprocessing)[0], to_patches(smooth, preprocessing, rounded=False)[0]
    weights = torch.randn(values[0].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for value in values:
        (value * weights).sum().backward()
    torch.testing.assert_close(rounded.grad, smooth.grad, atol=1e-4, rtol=1e-4)
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        ahead, behind = (
            (to_patches(images + s * 1e-3 * direction, preprocessing, rounded=False)[0] * weights).sum()
            for s in (1, -1)
        )
    slope = (smooth.grad * direction).sum().item()
    assert slope == pytest.approx(((ahead - behind) / 2e-3).item(), rel=1e-6)


def test_fitted_size_is_the_official_rule() -> None:
    preprocessing = Preprocessing(14, 2, 2, MEAN, STD, 56 * 56, 28 * 28 * 1280)
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = (int(v) for v in rng.integers(30, 3000, 2))
        wanted = smart_resize(height, width, 28, preprocessing.min_pixels, preprocessing.max_pixels)
        assert fitted_size(height, width, preprocessing) == tuple(wanted), (height, width)


@pytest.mark.parametrize("size", [(64, 64), (75, 140)])
def test_log_odds_equal_one_official_forward_a_question(folder, vlm, size) -> None:
    """The packed sequence gives what the network gives for each question alone, with the official inputs."""
    images = pictures(2, *size)
    asked = ["Do these pictures show a red cube?", "Is the object whole and well formed?", "Is there a blue sphere?"]
    together = vlm.log_odds(images, asked)
    official = Qwen2VLImageProcessorPil.from_pretrained(folder)
    shown = official([Image.fromarray((i * 255).byte().numpy()) for i in images], return_tensors="pt")
    grid = torch.as_tensor(shown["image_grid_thw"])
    prefix, suffix = message_parts(vlm.tokenizer, (grid.prod(-1) // 4).tolist())
    for question, value in zip(asked, together, strict=True):
        ids = torch.tensor([vlm.tokenizer(prefix + question + suffix, add_special_tokens=False)["input_ids"]])
        logits = vlm.network(
            input_ids=ids,
            pixel_values=torch.as_tensor(shown["pixel_values"]),
            image_grid_thw=grid,
            mm_token_type_ids=(ids == vlm.network.config.image_token_id).int(),
        ).logits[0, -1]
        assert value.item() == pytest.approx((logits[vlm.yes_id] - logits[vlm.no_id]).item(), abs=1e-4)


@pytest.mark.parametrize(("at_once", "passes"), [(1, [2, 2, 2]), (5, [4, 2]), (32, [6])])
def test_groups_of_pictures_are_answered_as_each_alone_however_many_go_in_one_pass(
    vlm, monkeypatch, at_once, passes
) -> None:
    groups = torch.stack([pictures(2), pictures(2).flip(0), 0.5 * pictures(2)])
    asked = ["Is there a red cube?", "Is the object whole and well formed?"]
    wanted = torch.stack([vlm.log_odds(images, asked) for images in groups])
    assert wanted.std(0).min() > 1e-3  # so that groups cannot be mistaken for each other
    seen, look = [], vlm.look
    monkeypatch.setattr(vlm, "look", lambda images: seen.append(len(images)) or look(images))
    torch.testing.assert_close(vlm.log_odds_of_each(groups, asked, at_once), wanted, atol=1e-5, rtol=1e-4)
    assert seen == passes


def test_log_odds_and_margin_follow_from_the_same_logits(vlm) -> None:
    answers = vlm.ask(vlm.look(pictures(2)), ["Is there a red cube?", "Is there a blue sphere?"])
    assert (answers.margin.sign() == answers.log_odds.sign()).all()
    assert (answers.margin.abs() <= (2 * answers.log_odds.sigmoid() - 1).abs()).all()


def test_marks_of_the_chat_in_a_prompt_are_text(vlm) -> None:
    odd = vlm.log_odds(pictures(2), ["Is there a <|image_pad|><|im_end|> cube?"])
    assert odd.isfinite().all()


def test_pictures_are_told_apart_by_their_order(vlm) -> None:
    images = pictures(2)
    question = ["Is the red cube on top of the blue sphere?"]
    assert (vlm.log_odds(images, question) - vlm.log_odds(images.flip(0), question)).abs().item() > 1e-5


def test_gradient_reaches_every_picture_and_is_the_finite_difference(vlm) -> None:
    network = vlm.network.double()
    try:
        images = pictures(2).double().requires_grad_()
        asked = ["Is there a red cube?", "Is the object whole and well formed?"]
        vlm.log_odds(images, asked).sum().backward()
        assert (images.grad.flatten(1).norm(dim=1) > 0).all()
        direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        step = 1e-4
        with torch.no_grad():
            ahead, behind = (vlm.log_odds(images + s * step * direction, asked).sum() for s in (1, -1))
        slope = (images.grad * direction).sum().item()
        assert slope == pytest.approx(((ahead - behind) / (2 * step)).item(), rel=1e-2)
    finally:
        network.float()


def test_nothing_in_the_network_changes_or_collects_gradient(vlm) -> None:
    before = {name: value.clone() for name, value in vlm.network.state_dict().items()}
    vlm.log_odds(pictures(2).requires_grad_(), ["Is there a red cube?"]).sum().backward()
    assert all(p.grad is None for p in vlm.network.parameters())
    assert all(torch.equal(before[name], value) for name, value in vlm.network.state_dict().items())


def test_unknown_words_are_named_once_in_order(vlm) -> None:
    assert vlm.unknown_words("a red teapot, on top of a Wooden teapot") == ["teapot", "Wooden"]
    assert vlm.unknown_words("a red cube") == []


def test_four_bits_leave_the_vision_part_and_the_answer_as_they_are(vlm) -> None:
    linear = [name for name, part in vlm.network.named_modules() if isinstance(part, torch.nn.Linear)]
    converted = {name for name in linear if should_convert_module(name, UNQUANTISED)}
    assert {name for name in linear if ".visual." not in name and name != "lm_head"} == converted


def test_truncated_weights_are_a_clear_error(folder, tmp_path) -> None:
    broken = tmp_path / "vlm"
    shutil.copytree(folder, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        load_vlm(broken, CPU)
    assert str(broken) in str(caught.value)


def test_missing_folder_is_a_clear_error(tmp_path) -> None:
    with pytest.raises(ModelError, match="no model here"):
        load_vlm(tmp_path / "nowhere", CPU)
