"""Several questions about the same pictures as one sequence: the pictures come once, no question sees another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Packed(NamedTuple):
    """One sequence: a shared prefix and Q segments after it, each as if it alone followed the prefix."""

    ids: Tensor  # (L,) int64
    segment: Tensor  # (L,) int64, 0 for the prefix, 1 to Q for the questions
    positions: Tensor  # (3, L) int64, rotary positions (time, row, column)
    ends: Tensor  # (Q,) int64, index of each segment's last token: its output predicts the answer


def pack(prefix: Sequence[int], grids: Sequence[tuple[int, int]], image_id: int, segments: list[list[int]]) -> Packed:
    """The prefix, in which runs of `image_id` are pictures of `grids` (rows, columns) tokens, followed by the segments.

    Positions follow Qwen2-VL's multimodal rotary embedding (arXiv 2409.12191, section 2.1): text advances all three
    axes, a picture spans rows and columns at one time, and text goes on after the largest position so far.
    """
    positions: list[tuple[int, int, int]] = []
    at, index, pictures = 0, 0, iter(grids)
    while index < len(prefix):
        if prefix[index] == image_id:
            rows, columns = next(pictures)
            positions += [(at, at + r, at + c) for r in range(rows) for c in range(columns)]
            at, index = at + max(rows, columns), index + rows * columns
        else:
            positions.append((at, at, at))
            at, index = at + 1, index + 1
    ids, segment, ends = list(prefix), [0] * len(prefix), []
    for number, tokens in enumerate(segments, start=1):
        ids += tokens
        segment += [number] * len(tokens)
        positions += [(at + i,) * 3 for i in range(len(tokens))]
        ends.append(len(ids) - 1)
    return Packed(torch.tensor(ids), torch.tensor(segment), torch.tensor(positions).T.contiguous(), torch.tensor(ends))


def attention_mask(segment: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive mask (1, 1, L, L): each token sees what precedes it in the prefix and in its own segment."""
    index = torch.arange(len(segment), device=segment.device)
    visible = (index[None] <= index[:, None]) & ((segment[None] == 0) | (segment[None] == segment[:, None]))
    mask = torch.zeros(visible.shape, dtype=dtype, device=segment.device)
    return mask.masked_fill(~visible, torch.finfo(dtype).min)[None, None]
