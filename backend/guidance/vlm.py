"""The vision-language model as a differentiable reward: how much rather Yes than No, for questions about pictures.

VLM3D (arXiv 2509.15772): r = z_yes - z_no at the answer's position; the model is frozen, the gradient is the pixels'.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)
from transformers.utils import is_bitsandbytes_available

from ..doctor import GET_BITSANDBYTES
from ..errors import ModelError
from .loading import check_weights, read_config, refuse_missing
from .memory import ready
from .packing import Packed, attention_mask, pack
from .preprocess import Preprocessing, read_preprocessing, to_patches
from .questions import FULL, SHORT
from .text import single_token, tokens, unknown_words

KINDS: dict[str, type[PreTrainedModel]] = {  # by the config's model_type
    "qwen2_5_vl": Qwen2_5_VLForConditionalGeneration,
    "qwen3_vl": Qwen3VLForConditionalGeneration,
}
UNQUANTISED = ["model.visual", "lm_head"]  # by the names they begin with: the gradient to the pixels goes through these
AT_ONCE = 32  # pictures in one pass, where groups of them are asked about that have nothing to do with each other
_QUESTION = "QUESTION"  # stands for the question while the chat template is taken apart


class Sight(NamedTuple):
    """N pictures as the network's vision part sees them, computed once for whatever is asked about them."""

    features: Any  # the library's own output: for each picture its tokens' features, for Qwen3-VL of several layers
    grids: tuple[tuple[int, int], ...]  # N times rows and columns of tokens


class Answers(NamedTuple):
    """What the network thinks of Q questions, each (Q,) float32 and differentiable in the pictures."""

    log_odds: Tensor  # z_yes - z_no
    margin: Tensor  # p_yes - p_no among all words, in [-1, 1]: VLM3D's other reward, near 0 for other answers


class VisionLanguageModel:
    """A frozen Qwen-VL and what it takes to question it."""

    def __init__(
        self, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, preprocessing: Preprocessing
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.preprocessing = preprocessing
        self.make_ready = ready  # called before the network is used, which may wait elsewhere
        self.yes_id, self.no_id = (single_token(tokenizer, word) for word in ("Yes", "No"))
        self.wording = SHORT if unknown_words(tokenizer, " ".join(FULL.both)) else FULL  # what it understands

    def log_odds(self, images: Tensor, questions: Sequence[str], largest_px: int | None = None) -> Tensor:
        """z_yes - z_no of each question about the pictures: (Q,), differentiable in the images.

        images: (N, H, W, 3) sRGB in [0, 1], all shown in one message, in this order. The vision features and the
        pictures' part of every layer are computed once for all questions.
        """
        return self.ask(self.look(images, largest_px), questions).log_odds

    def look(self, images: Tensor, largest_px: int | None = None) -> Sight:
        """What the vision part makes of the images (N, H, W, 3), sRGB in [0, 1].

        largest_px: pictures larger than a square of this edge are scaled down to it, which makes questions cheaper.
        """
        self.make_ready()
        preprocessing = self.preprocessing.within(largest_px)
        pixel_values, grid = to_patches(images, preprocessing)
        features = self.network.get_image_features(
            pixel_values.to(self.network.dtype), image_grid_thw=grid, return_dict=True
        )
        merge = preprocessing.merge
        return Sight(features, tuple((rows // merge, columns // merge) for _, rows, columns in grid.tolist()))

    def ask(self, sight: Sight, questions: Sequence[str]) -> Answers:
        """The answers to questions about what was looked at, all in one pass."""
        return Answers(*(answer[0] for answer in self._answer(sight, questions)))

    def log_odds_of_each(self, images: Tensor, questions: Sequence[str], at_once: int = AT_ONCE) -> Tensor:
        """z_yes - z_no of each question about each of N groups of pictures: (N, Q), each group in a message of its own.

        images: (N, V, H, W, 3) sRGB in [0, 1]. at_once: pictures that go through the network in one pass, one group at
        least.
        """
        parts = images.split(max(1, at_once // images.shape[1]))
        answers = [self._answer(self.look(part.flatten(0, 1)), questions, messages=len(part)) for part in parts]
        return torch.cat([answer.log_odds for answer in answers])

    def _answer(self, sight: Sight, questions: Sequence[str], messages: int = 1) -> Answers:
        """The same questions in so many messages, which share the pictures in equal parts: answers (messages, Q)."""
        self.make_ready()
        packed = self.packed(sight.grids[: len(sight.grids) // messages], questions)
        output = self.network(
            input_ids=packed.ids.expand(messages, -1),
            position_ids=packed.positions[:, None].expand(-1, messages, -1),
            attention_mask=attention_mask(packed.segment, self.network.dtype).expand(messages, -1, -1, -1),
            mm_encoder_outputs={"image": sight.features},
            logits_to_keep=packed.ends,
            use_cache=False,
        )
        logits = output.logits.float()
        log_odds = logits[..., self.yes_id] - logits[..., self.no_id]
        shares = logits.softmax(-1)
        return Answers(log_odds, shares[..., self.yes_id] - shares[..., self.no_id])

    def packed(self, grids: Sequence[tuple[int, int]], questions: Sequence[str]) -> Packed:
        """The token sequence for the questions about pictures of `grids` (rows, columns) tokens."""
        prefix, suffix = message_parts(self.tokenizer, [r * c for r, c in grids])
        segments = [tokens(self.tokenizer, _plain(question) + suffix) for question in questions]
        packed = pack(tokens(self.tokenizer, prefix), grids, self.network.config.image_token_id, segments)
        return Packed(*(t.to(self.network.device) for t in packed))

    def unknown_words(self, text: str) -> list[str]:
        """The words of `text` the tokenizer has no token for, each once, in order."""
        return unknown_words(self.tokenizer, text)


def load_vlm(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    four_bit: bool = False,
    largest_px: int | None = None,
) -> VisionLanguageModel:
    """The model in a folder of transformers layout, frozen; config.json says of which family.

    four_bit: the language part's weights take 4 bits each (NF4, by bitsandbytes), computed with in `dtype`.
    largest_px: it never sees a picture larger than a square of this edge. None: what the model's files allow.
    Raises ModelError when a file is missing, damaged, a pickle or of another kind of model, or when 4 bits are asked
    for where there is no CUDA or no bitsandbytes.
    """
    if not (folder / "config.json").is_file():
        raise ModelError("there is no model here", where=str(folder), remedy="Give a folder that holds config.json")
    kind = vlm_kind(read_config(folder / "config.json"), folder)
    variant = check_weights(folder, "model").variant
    quantised = _four_bit_options(device, dtype) if four_bit else {}
    preprocessing = read_preprocessing(folder).within(largest_px)
    try:
        network, info = kind.from_pretrained(
            folder, use_safetensors=True, variant=variant, dtype=dtype, output_loading_info=True, **quantised
        )
        refuse_missing(info)
        tokenizer = _read_tokenizer(folder)
    except Exception as error:  # the libraries raise many kinds for a damaged file
        raise ModelError(
            f"the model cannot be loaded ({type(error).__name__}: {error})",
            where=str(folder),
            remedy="Restore the folder's files, or download the model again",
        ) from error
    vision = network.config.vision_config
    if (vision.patch_size, vision.spatial_merge_size) != (preprocessing.patch, preprocessing.merge):
        raise ModelError(
            f"cuts pictures into patches of {preprocessing.patch} px, the network wants {vision.patch_size} px",
            where=str(folder / "preprocessor_config.json"),
            remedy="Files of two models are mixed up here: download the model again",
        )
    return VisionLanguageModel(network if four_bit else network.to(device), tokenizer, preprocessing)


def vlm_kind(config: dict[str, Any], folder: Path) -> type[PreTrainedModel]:
    """The library's class for a config.json. Raises ModelError for a model of another kind."""
    name = config.get("model_type")
    if name not in KINDS:
        raise ModelError(
            f"is a model of kind {name!r}, not a vision-language model that can be used here",
            where=str(folder / "config.json"),
            remedy=f"Kinds are: {', '.join(KINDS)}. `python -m backend models list` names some",
        )
    return KINDS[name]


def _four_bit_options(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    if device.type != "cuda":
        raise ModelError(
            f"4-bit weights need CUDA and bitsandbytes, the device is {device.type}",
            where="settings.vlm_four_bit",
            remedy="Leave 4 bits off, or take a smaller model such as qwen3-vl-2b",
        )
    if not is_bitsandbytes_available():
        raise ModelError(
            "4-bit weights need CUDA and bitsandbytes, which is not installed or too old",
            where="settings.vlm_four_bit",
            remedy=f"Run: {GET_BITSANDBYTES}",
        )
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=UNQUANTISED,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def _read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The folder's tokenizer with its chat template, which some folders keep in a file of its own."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    template = folder / "chat_template.json"
    if template.is_file():
        tokenizer.chat_template = json.loads(template.read_text(encoding="utf-8"))["chat_template"]
    return tokenizer


def _plain(question: str) -> str:
    """The question with nothing in it that the tokenizer would take for a mark of the chat."""
    return question.replace("<|", "< |")


def message_parts(tokenizer: PreTrainedTokenizerBase, image_tokens: Sequence[int]) -> tuple[str, str]:
    """The chat text before the question, its pictures expanded to as many image tokens, and the text after it."""
    content = [{"type": "image"} for _ in image_tokens] + [{"type": "text", "text": _QUESTION}]
    messages = [{"role": "user", "content": content}]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    before, after = text.split(_QUESTION)
    pieces = before.split("<|image_pad|>")
    assert len(pieces) == len(image_tokens) + 1, "the chat template must show one placeholder for each picture"
    expanded = pieces[0]
    for count, piece in zip(image_tokens, pieces[1:], strict=True):
        expanded += "<|image_pad|>" * count + piece
    return expanded, after
