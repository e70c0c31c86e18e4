"""The vision-language model as a differentiable reward: how much rather Yes than No, for questions about pictures.

VLM3D (arXiv 2509.15772): r = z_yes - z_no at the answer's position; the model is frozen, the gradient is the pixels'.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

from ..errors import ModelError
from .loading import refuse_missing
from .packing import Packed, attention_mask, pack
from .preprocess import Preprocessing, fitted_size, read_preprocessing, to_patches
from .text import single_token, tokens, unknown_words

_QUESTION = "QUESTION"  # stands for the question while the chat template is taken apart


class VisionLanguageModel:
    """A frozen Qwen2.5-VL and what it takes to question it."""

    def __init__(
        self,
        network: Qwen2_5_VLForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        preprocessing: Preprocessing,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.preprocessing = preprocessing
        self.yes_id, self.no_id = (single_token(tokenizer, word) for word in ("Yes", "No"))

    def log_odds(self, images: Tensor, questions: Sequence[str]) -> Tensor:
        """z_yes - z_no of each question about the pictures: (Q,), differentiable in the images.

        images: (N, H, W, 3) sRGB in [0, 1], all shown in one message, in this order. The vision features and the
        pictures' part of every layer are computed once for all questions.
        """
        packed = self.packed(images.shape[:3], questions)
        pixel_values, grid = to_patches(images, self.preprocessing)
        output = self.network(
            input_ids=packed.ids[None],
            position_ids=packed.positions[:, None],
            attention_mask=attention_mask(packed.segment, self.network.dtype),
            pixel_values=pixel_values.to(self.network.dtype),
            image_grid_thw=grid,
            logits_to_keep=packed.ends,
            use_cache=False,
        )
        logits = output.logits[0].float()
        return logits[:, self.yes_id] - logits[:, self.no_id]

    def packed(self, shape: Sequence[int], questions: Sequence[str]) -> Packed:
        """The token sequence for the questions about `shape` = (N, H, W) pictures."""
        count, height, width = shape
        rows, columns = fitted_size(height, width, self.preprocessing)
        token = self.preprocessing.patch * self.preprocessing.merge
        grids = [(rows // token, columns // token)] * count
        prefix, suffix = message_parts(self.tokenizer, [r * c for r, c in grids])
        segments = [tokens(self.tokenizer, question + suffix) for question in questions]
        packed = pack(tokens(self.tokenizer, prefix), grids, self.network.config.image_token_id, segments)
        return Packed(*(t.to(self.network.device) for t in packed))

    def unknown_words(self, text: str) -> list[str]:
        """The words of `text` the tokenizer has no token for, each once, in order."""
        return unknown_words(self.tokenizer, text)


def load_vlm(folder: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> VisionLanguageModel:
    """The model in a folder of transformers layout, frozen.

    Raises ModelError when a file is missing, damaged or of another kind of model.
    """
    if not (folder / "config.json").is_file():
        raise ModelError("there is no model here", where=str(folder), remedy="Give a folder that holds config.json")
    try:
        network, info = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder, use_safetensors=True, dtype=dtype, output_loading_info=True
        )
        refuse_missing(info)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # the libraries raise many kinds for a damaged file
        raise ModelError(
            f"the model cannot be loaded ({type(error).__name__}: {error})",
            where=str(folder),
            remedy="Restore the folder's files, or download the model again",
        ) from error
    return VisionLanguageModel(network.to(device), tokenizer, read_preprocessing(folder))


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
