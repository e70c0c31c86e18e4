"""Heads that are used in training only, to tell the network early what its features should know.

They turn a sparse lesson (one Yes or No) into a dense one: every image token learns what it covers, and every noun and
colour word of a question learns whether the thing is there, and where.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from .dataset import COLOUR_NAMES, FAULT_NAMES, NOUN_NAMES
from .faults import NO_NOUN
from .scenes import VIEWS, Scenes

NONE = -1  # of an index into a list of names


class Eyes(nn.Module):
    """Heads that read an image token: which noun, which colour, whole or how broken, and where the object's box is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.noun = nn.Linear(width, len(NOUN_NAMES) + 1)
        self.colour = nn.Linear(width, len(COLOUR_NAMES) + 1)
        self.fault = nn.Linear(width, len(FAULT_NAMES) + 1)
        self.box = nn.Linear(width, 4)

    def loss(self, features: Tensor, scenes: Scenes, rows: np.ndarray, chosen: np.ndarray) -> Tensor:
        """Mean loss of the image tokens `features` (T, width), in the order of the pictures."""
        owner = torch.from_numpy(scenes.cells[rows[:, None], chosen]).long().to(features.device)  # (B, V, C, C)
        there = owner.flatten() > 0
        which = (owner - 1).clamp_min(0)
        row = torch.arange(len(rows), device=owner.device)[:, None, None, None].expand_as(owner)

        def known(table: np.ndarray) -> Tensor:
            values = torch.from_numpy(table[rows]).to(features.device)[row, which]
            return torch.where(owner > 0, values + 1, 0).flatten()

        loss = F.cross_entropy(self.noun(features), known(scenes.facts.noun))
        loss = loss + F.cross_entropy(self.colour(features), known(scenes.facts.colour))
        boxes = torch.from_numpy(scenes.boxes[rows[:, None], chosen]).to(features.device)  # (B, V, K, 4)
        view = torch.arange(VIEWS, device=owner.device)[None, :, None, None].expand_as(owner)
        target = boxes[row, view, which].flatten(0, -2)
        loss = loss + 5 * (self.box(features)[there] - target[there]).abs().mean()
        if scenes.facts.fault is not None:
            fault = torch.from_numpy(scenes.facts.fault[rows]).to(features.device)[row].flatten()
            loss = loss + F.cross_entropy(self.fault(features)[there], fault[there])
        return loss


class Grounding(nn.Module):
    """Reads the hidden states of a question's words before the answer is due.

    Nouns and colours: is the thing there, and where are its boxes in the views. "whole": is the object whole.
    """

    LAYERS = (2, 3)  # hidden states read, counted in layers done; later layers can still use what is found

    def __init__(self, width: int, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.found = nn.ModuleList(nn.Linear(width, 1) for _ in self.LAYERS)
        self.box = nn.ModuleList(nn.Linear(width, 4 * VIEWS) for _ in self.LAYERS)
        self.whole = nn.ModuleList(nn.Linear(width, 1) for _ in self.LAYERS)
        self.whole_id = tokenizer.convert_tokens_to_ids("whole")
        self.noun_of: Tensor
        self.colour_of: Tensor
        self.register_buffer("noun_of", _table(tokenizer, NOUN_NAMES), persistent=False)
        self.register_buffer("colour_of", _table(tokenizer, COLOUR_NAMES), persistent=False)

    def loss(
        self, hidden: Sequence[Tensor], ids: Tensor, asked: Tensor, scenes: Scenes, rows: np.ndarray, chosen: np.ndarray
    ) -> Tensor:
        """Mean loss of the words. hidden: per layer (B, L, width). ids: (B, L). asked: (B, L) bool, in a question."""
        device = ids.device
        noun, colour = self.noun_of[ids], self.colour_of[ids]  # (B, L)
        before = F.pad(colour, (1, 0), value=NONE)[:, :-1]  # the colour word in front of a noun belongs to it
        nouns = torch.from_numpy(nameable_nouns(scenes, rows)).to(device)[:, None]  # (B, 1, K)
        colours = torch.from_numpy(scenes.facts.colour[rows]).to(device)[:, None]
        by_noun = (nouns == noun[..., None]) & ((before[..., None] == NONE) | (colours == before[..., None]))
        match = torch.where(noun[..., None] != NONE, by_noun, colours == colour[..., None])  # (B, L, K)
        words = asked & ((noun != NONE) | (colour != NONE))
        there = match.any(-1)
        boxes = torch.from_numpy(scenes.boxes[rows[:, None], chosen]).to(device)  # (B, V, K, 4)
        boxes = boxes.permute(0, 2, 1, 3).flatten(2)  # (B, K, 4 V)
        target = boxes.gather(1, match.int().argmax(-1)[..., None].expand(-1, -1, boxes.shape[-1]))
        loss = boxes.new_zeros(())
        fault = scenes.facts.fault
        says_whole = asked & (ids == self.whole_id)
        for layer, found, box, whole in zip(self.LAYERS, self.found, self.box, self.whole, strict=True):
            loss = loss + F.binary_cross_entropy_with_logits(found(hidden[layer][words])[:, 0], there[words].float())
            seen = words & there
            if seen.any():
                loss = loss + 5 * (box(hidden[layer][seen]) - target[seen]).abs().mean()
            if fault is not None and says_whole.any():
                intact = torch.from_numpy(fault[rows] == 0).to(device)[:, None].expand_as(ids)[says_whole]
                loss = loss + F.binary_cross_entropy_with_logits(whole(hidden[layer][says_whole])[:, 0], intact.float())
        return loss


def nameable_nouns(scenes: Scenes, rows: np.ndarray) -> np.ndarray:
    """Noun indices (B, K), NONE where a fault has left nothing a noun could be told from."""
    nouns = scenes.facts.noun[rows]
    if scenes.facts.fault is None:
        return nouns
    gone = np.isin(scenes.facts.fault[rows], [1 + FAULT_NAMES.index(name) for name in NO_NOUN])
    return np.where(gone[:, None], NONE, nouns)


def _table(tokenizer: PreTrainedTokenizerBase, names: list[str]) -> Tensor:
    """Index of the name each token stands for, NONE for other tokens: (vocabulary,)."""
    table = torch.full((len(tokenizer),), NONE)
    table[torch.tensor(tokenizer.convert_tokens_to_ids(names))] = torch.arange(len(names))
    return table
