"""Lessons as batches of tokens: several questions about the same pictures, packed as the reward packs them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..guidance.packing import attention_mask, pack
from ..guidance.text import tokens
from ..guidance.vlm import message_parts
from .dataset import CELLS
from .lessons import Lesson
from .scenes import VIEWS
from .vocabulary import chat_tokenizer

SEGMENT = 19  # tokens of a question with its answer, padded
STUDY_WEIGHT = 0.5  # of a caption or a query, where a Yes or No weighs 1
IGNORED = -100  # label of a token that is not to be predicted


class Batch(NamedTuple):
    """B scenes with the same number of lessons each."""

    ids: Tensor  # (B, L) int64
    labels: Tensor  # (B, L) int64, the token that follows where it belongs to an answer, else IGNORED
    weights: Tensor  # (B, L), sums to each lesson's weight over its answer
    asked: Tensor  # (B, L) bool, the token belongs to a question
    sure: Tensor  # (B, L), probability of the label; the rest is that of the other of Yes and No


class Classroom:
    """Turns lessons into one padded token layout that is the same for every batch."""

    def __init__(self, questions: int, device: torch.device) -> None:
        self.tokenizer = chat_tokenizer()
        prefix, self.suffix = message_parts(self.tokenizer, [CELLS * CELLS] * VIEWS)
        image_id = self.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self.prefix = tokens(self.tokenizer, prefix)
        self.yes_id, self.no_id = (tokens(self.tokenizer, word)[0] for word in ("Yes", "No"))
        assert self.yes_id != self.no_id
        layout = pack(self.prefix, [(CELLS, CELLS)] * VIEWS, image_id, [[0] * SEGMENT] * questions)
        self.positions = layout.positions[:, None].to(device)
        self.mask = attention_mask(layout.segment, torch.float32).to(device)
        self.device = device
        self._known: dict[str, list[int]] = {}

    def batch(self, scenes: list[list[Lesson]]) -> Batch:
        """The lessons of each scene as tokens."""
        before = len(self.prefix)
        rows: list[tuple[list, ...]] = []
        for lessons in scenes:
            row: tuple[list, ...] = (
                list(self.prefix),
                [IGNORED] * before,
                [0.0] * before,
                [False] * before,
                [1.0] * before,
            )
            for lesson in lessons:
                for column, values in zip(row, self._segment(lesson), strict=True):
                    column.extend(values)
            rows.append(row)
        return Batch(*(torch.tensor(column, device=self.device) for column in zip(*rows, strict=True)))

    def _segment(self, lesson: Lesson) -> tuple[list, ...]:
        question, answer = self._tokens(lesson.question + self.suffix), self._tokens(lesson.answer)
        end, filler = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        padding = SEGMENT - len(question) - len(answer) - 1
        assert padding >= 0, f"{lesson} is longer than {SEGMENT} tokens"
        decided = lesson.answer in ("Yes", "No")
        each = [1.0, 0.0] if decided else [STUDY_WEIGHT / (len(answer) + 1)] * (len(answer) + 1)
        return (
            [*question, *answer, end, *[filler] * padding],
            [IGNORED] * (len(question) - 1) + [*answer, end] + [IGNORED] * (padding + 1),
            [0.0] * (len(question) - 1) + each + [0.0] * (padding + 1),
            [True] * len(question) + [False] * (len(answer) + 1 + padding),
            [1.0] * (len(question) - 1) + [lesson.sure] + [1.0] * (len(answer) + 1 + padding),
        )

    def _tokens(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = tokens(self.tokenizer, text)
        return self._known[text]
