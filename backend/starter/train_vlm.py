"""Train the starter vision-language model: first its eyes, on what each image token covers, then whole, on lessons.

`python -m backend.starter.train_vlm --data DIR [DIR ...] --work DIR` goes on from where it was stopped.
Yes and No alone teach so small a model nothing for a long time, so captions and queries come first and stay in the mix.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2_5_VLForConditionalGeneration

from ..guidance.packing import attention_mask, pack
from ..guidance.preprocess import Preprocessing, to_patches
from ..guidance.text import tokens
from ..guidance.vlm import message_parts
from .checkpoint import load_state, log_line, save_state
from .dataset import CELLS, COLOUR_NAMES, FAULT_NAMES, NOUN_NAMES, PIXELS
from .lessons import Facts, Lesson, facts_of, lessons_of_pair, lessons_of_single
from .vlm_model import FRAMES, MEAN, MERGE, PATCH, STD, build_network, save_vlm
from .vocabulary import chat_tokenizer

PREPROCESSING = Preprocessing(PATCH, MERGE, FRAMES, MEAN, STD, PIXELS * PIXELS, PIXELS * PIXELS * 16)
VIEWS = 2  # pictures in a message
SEGMENT = 19  # tokens of a question with its answer, padded


class Schedule(NamedTuple):
    """How long, how many at once, how fast."""

    eyes_steps: int = 700  # steps of the vision tower alone
    steps: int = 6000  # steps of the whole model
    batch: int = 32  # scenes a step
    questions: int = 6  # lessons a scene
    lr: float = 1.5e-3  # peak learning rate


class Scenes(NamedTuple):
    """One kind of scenes: pictures in memory, and what is known of them."""

    images: np.ndarray  # (N, V, H, W, 3) uint8
    cells: np.ndarray  # (N, V, CELLS, CELLS) uint8
    boxes: np.ndarray  # (N, V, K, 4) float32
    facts: Facts


def load_scenes(folders: list[Path], kind: str) -> Scenes:
    """All scenes of a kind ("singles" or "pairs") in the folders."""
    parts = [dict(np.load(folder / f"{kind}.npz")) for folder in folders if (folder / f"{kind}.npz").is_file()]
    scenes = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return Scenes(scenes["images"], scenes["cells"], scenes["boxes"], facts_of(scenes))


def pictures(scenes: Scenes, rows: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """Two views of each scene, (B, 2, H, W, 3) in [0, 1], and which: pairs as they are, singles any two."""
    if scenes.images.shape[1] == VIEWS:
        chosen = np.tile(np.arange(VIEWS), (len(rows), 1))
    else:
        first = rng.integers(4, size=len(rows))
        chosen = np.stack([first, (first + rng.integers(1, 4, size=len(rows))) % 4], 1)
    return torch.from_numpy(scenes.images[rows[:, None], chosen]).float() / 255, chosen


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


class Classroom:
    """Turns lessons into one padded token layout that is the same for every batch."""

    def __init__(self, questions: int, device: torch.device) -> None:
        self.tokenizer = chat_tokenizer()
        grid = PIXELS // (PATCH * MERGE)
        assert grid == CELLS
        prefix, self.suffix = message_parts(self.tokenizer, [grid * grid] * VIEWS)
        image_id = self.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self.prefix = tokens(self.tokenizer, prefix)
        layout = pack(self.prefix, [(grid, grid)] * VIEWS, image_id, [[0] * SEGMENT] * questions)
        self.positions = layout.positions[:, None].to(device)
        self.mask = attention_mask(layout.segment, torch.float32).to(device)
        self.device = device
        self._known: dict[str, list[int]] = {}

    def _tokens(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = tokens(self.tokenizer, text)
        return self._known[text]

    def batch(self, scenes: list[list[Lesson]]) -> tuple[Tensor, Tensor]:
        """Token ids and labels, (B, L) each; labels are -100 but where an answer's token is to be predicted."""
        rows, labels = [], []
        for lessons in scenes:
            ids, wanted = list(self.prefix), [-100] * len(self.prefix)
            for lesson in lessons:
                question = self._tokens(lesson.question + self.suffix)
                answer = [*self._tokens(lesson.answer), self.tokenizer.eos_token_id]
                padding = SEGMENT - len(question) - len(answer)
                assert padding >= 0, f"{lesson} is longer than {SEGMENT} tokens"
                ids += question + answer + [self.tokenizer.pad_token_id] * padding
                wanted += [-100] * (len(question) - 1) + answer + [-100] * (padding + 1)
            rows.append(ids)
            labels.append(wanted)
        return torch.tensor(rows, device=self.device), torch.tensor(labels, device=self.device)


def draw(
    singles: Scenes, pairs: Scenes, step: int, seed: int, batch: int
) -> tuple[Scenes, np.ndarray, np.random.Generator]:
    """The kind of scenes of a step (a third singles), its rows, and the generator for the rest of the step."""
    rng = np.random.default_rng([seed, step])
    scenes = singles if step % 3 == 0 else pairs
    return scenes, rng.integers(len(scenes.images), size=batch), rng


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 100 steps, then a cosine down to a fiftieth."""
    if step < 100:
        return peak * (step + 1) / 100
    return peak * (0.02 + 0.49 * (1 + math.cos(math.pi * min(1.0, (step - 100) / max(1, steps - 100)))))


def train(
    singles: Scenes,
    pairs: Scenes,
    work: Path,
    schedule: Schedule,
    device: torch.device,
    seed: int,
    save_every_s: float,
    stop_at: int | None = None,
) -> None:
    """Train both stages; `work` holds the state to go on from and, after each save, the model in `work/model`.

    stop_at: step after which to save and return early.
    """
    torch.manual_seed(seed)
    network = build_network().to(device)
    eyes = Eyes(network.config.vision_config.out_hidden_size).to(device)
    modules = nn.ModuleList([network, eyes])
    optimizer = torch.optim.AdamW(modules.parameters(), lr=schedule.lr, betas=(0.9, 0.98), weight_decay=0.01)
    start = 0
    if (state := load_state(work, device)) is not None:
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    work.mkdir(parents=True, exist_ok=True)
    classroom = Classroom(schedule.questions, device)
    total, saved, shown, sums = schedule.eyes_steps + schedule.steps, time.time(), time.time(), np.zeros(2)
    last = min(total, stop_at or total)
    for step in range(start, last):
        looking = step < schedule.eyes_steps
        done, span = (step, schedule.eyes_steps) if looking else (step - schedule.eyes_steps, schedule.steps)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(done, span, schedule.lr)
        scenes, rows, rng = draw(singles, pairs, step, seed, schedule.batch)
        eyes_loss, lesson_loss = step_losses(
            network, eyes, classroom, scenes, rows, rng, schedule, done / span, looking
        )
        optimizer.zero_grad(set_to_none=True)
        (eyes_loss + lesson_loss if looking else 0.1 * eyes_loss + lesson_loss).backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        sums += (eyes_loss.item(), lesson_loss.item())
        if (step + 1) % 50 == 0:
            pace = (time.time() - shown) / 50
            log_line(work, {"step": step + 1, "eyes": sums[0] / 50, "lessons": sums[1] / 50, "s_per_step": pace})
            shown, sums = time.time(), np.zeros(2)
        if time.time() - saved > save_every_s or step + 1 == last:
            state = {"modules": modules.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            save_state(work, state)
            save_vlm(network, work / "model")
            saved = time.time()


def step_losses(
    network: Qwen2_5_VLForConditionalGeneration,
    eyes: Eyes,
    classroom: Classroom,
    scenes: Scenes,
    rows: np.ndarray,
    rng: np.random.Generator,
    schedule: Schedule,
    progress: float,
    looking: bool,
) -> tuple[Tensor, Tensor]:
    """Loss of the eyes' heads and of the answers' tokens (zero while only looking)."""
    device = classroom.device
    images, chosen = pictures(scenes, rows, rng)
    pixel_values, grid = to_patches(images.flatten(0, 1).to(device), PREPROCESSING)
    features = torch.cat(network.model.get_image_features(pixel_values, grid).pooler_output)
    eyes_loss = eyes.loss(features, scenes, rows, chosen)
    if looking:
        return eyes_loss, eyes_loss.new_zeros(())
    teach = lessons_of_single if scenes.facts.fault is not None else lessons_of_pair
    yes_no = min(0.7, 0.2 + 1.0 * progress)
    ids, labels = classroom.batch([teach(scenes.facts, int(r), yes_no, schedule.questions, rng) for r in rows])
    embeds = network.get_input_embeddings()(ids)
    shown = (ids == network.config.image_token_id)[..., None]
    embeds = embeds.masked_scatter(shown, features)
    count = len(rows)
    hidden = network.model.language_model(
        inputs_embeds=embeds,
        position_ids=classroom.positions.expand(3, count, -1),
        attention_mask=classroom.mask.expand(count, -1, -1, -1),
        use_cache=False,
    ).last_hidden_state
    wanted = labels != -100
    return eyes_loss, F.cross_entropy(network.lm_head(hidden[wanted]), labels[wanted])


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=Schedule().steps)
    parser.add_argument("--eyes-steps", type=int, default=Schedule().eyes_steps)
    parser.add_argument("--batch", type=int, default=Schedule().batch)
    parser.add_argument("--lr", type=float, default=Schedule().lr)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save-every", type=float, default=120.0, help="seconds between two saves")
    a = parser.parse_args()
    schedule = Schedule(eyes_steps=a.eyes_steps, steps=a.steps, batch=a.batch, lr=a.lr)
    singles, pairs = load_scenes(a.data, "singles"), load_scenes(a.data, "pairs")
    train(singles, pairs, a.work, schedule, torch.device(a.device), a.seed, a.save_every)


if __name__ == "__main__":
    main()
