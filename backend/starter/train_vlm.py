"""Train the starter vision-language model: first its eyes, on what each image token covers, then whole, on lessons.

`python -m backend.starter.train_vlm --data DIR [DIR ...] --work DIR` goes on from where it was stopped.
Yes and No alone teach so small a model nothing for a long time, so captions and queries come first and stay in the mix.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from ..guidance.preprocess import Preprocessing, to_patches
from ..guidance.vlm import load_vlm
from .checkpoint import learning_rate, log_line, resume, save_state, set_rate, take_over
from .classroom import IGNORED, Classroom
from .dataset import PIXELS
from .heads import Eyes, Grounding
from .lessons import lessons_of_pair, lessons_of_single
from .scenes import Scenes, load_scenes, pictures
from .vlm_model import FRAMES, MEAN, MERGE, PATCH, STD, build_network, save_vlm

PREPROCESSING = Preprocessing(PATCH, MERGE, FRAMES, MEAN, STD, PIXELS * PIXELS, PIXELS * PIXELS * 16)
GRADED = 0.5  # weight of the log-odds' error in lessons that are graded


class Schedule(NamedTuple):
    """How large, how long, how many at once, how fast."""

    eyes_steps: int = 700  # steps of the vision tower alone
    steps: int = 6000  # steps of the whole model
    batch: int = 32  # scenes a step
    questions: int = 6  # lessons a scene
    lr: float = 1.5e-3  # peak learning rate
    width: int = 128  # of the hidden states, a multiple of 32
    layers: int = 4  # of the vision tower, and as many of the language model


def draw(
    singles: Scenes, pairs: Scenes, step: int, seed: int, batch: int
) -> tuple[Scenes, np.ndarray, np.random.Generator]:
    """The kind of scenes of a step (every other time singles), its rows, and the generator for the rest of the step."""
    rng = np.random.default_rng([seed, step])
    scenes = singles if step % 2 == 0 else pairs
    return scenes, rng.integers(len(scenes.images), size=batch), rng


def train(
    singles: Scenes,
    pairs: Scenes,
    work: Path,
    schedule: Schedule,
    device: torch.device,
    seed: int,
    save_every_s: float,
    stop_at: int | None = None,
    start_from: Path | None = None,
) -> None:
    """Train both stages; `work` holds the state to go on from and, after each save, the model in `work/model`.

    stop_at: step after which to save and return early. start_from: a trained model whose weights a new training takes.
    """
    torch.manual_seed(seed)
    classroom = Classroom(schedule.questions, device)
    pupil = Pupil(classroom.tokenizer, schedule.width, schedule.layers).to(device)
    if start_from:
        take_over(pupil.network, load_vlm(start_from, device).network)
    optimizer = torch.optim.AdamW(pupil.parameters(), lr=schedule.lr, betas=(0.9, 0.98), weight_decay=0.01)
    start = resume(work, device, pupil, optimizer)
    total, saved, shown = schedule.eyes_steps + schedule.steps, time.time(), time.time()
    told: list[list[float]] = []  # since the last line of the log, or since this process began
    last = min(total, stop_at or total)
    for step in range(start, last):
        looking = step < schedule.eyes_steps
        done, span = (step, schedule.eyes_steps) if looking else (step - schedule.eyes_steps, schedule.steps)
        set_rate(optimizer, learning_rate(done, span, schedule.lr))
        scenes, rows, rng = draw(singles, pairs, step, seed, schedule.batch)
        yes_no = min(0.75, 0.25 + done / span)
        losses = pupil.losses(classroom, scenes, rows, rng, 0 if looking else schedule.questions, yes_no)
        optimizer.zero_grad(set_to_none=True)
        (losses.eyes * (1.0 if looking else 0.1) + 0.5 * losses.grounding + losses.lessons).backward()
        nn.utils.clip_grad_norm_(pupil.parameters(), 1.0)
        optimizer.step()
        told.append([loss.item() for loss in losses])
        if (step + 1) % 50 == 0:
            means = dict(zip(Losses._fields, np.mean(told, axis=0).tolist(), strict=True))
            log_line(work, {"step": step + 1, **means, "s_per_step": (time.time() - shown) / len(told)})
            told, shown = [], time.time()
        if time.time() - saved > save_every_s or step + 1 == last:
            save_state(work, {"modules": pupil.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1})
            save_vlm(pupil.network, work / "model")
            saved = time.time()


class Losses(NamedTuple):
    """The terms of one step."""

    eyes: Tensor  # what the image tokens say
    grounding: Tensor  # what the questions' words say
    lessons: Tensor  # the answers


class Pupil(nn.Module):
    """The network and its training heads."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, width: int, layers: int) -> None:
        super().__init__()
        self.network = build_network(width, layers, layers)
        self.eyes = Eyes(self.network.config.vision_config.out_hidden_size)
        self.grounding = Grounding(self.network.config.text_config.hidden_size, tokenizer)

    def losses(
        self,
        classroom: Classroom,
        scenes: Scenes,
        rows: np.ndarray,
        rng: np.random.Generator,
        questions: int,
        yes_no: float,
    ) -> Losses:
        """All terms for some scenes; only the eyes' where `questions` is 0. yes_no: share of Yes/No lessons."""
        network, device = self.network, classroom.device
        images, chosen = pictures(scenes, rows, rng)
        pixel_values, grid = to_patches(images.flatten(0, 1).to(device), PREPROCESSING)
        features = torch.cat(network.model.get_image_features(pixel_values, grid).pooler_output)
        eyes = self.eyes.loss(features, scenes, rows, chosen)
        if not questions:
            return Losses(eyes, eyes.new_zeros(()), eyes.new_zeros(()))
        teach = lessons_of_single if scenes.facts.fault is not None else lessons_of_pair
        batch = classroom.batch([teach(scenes.facts, int(r), yes_no, questions, rng, hard=True) for r in rows])
        embeds = network.get_input_embeddings()(batch.ids)
        embeds = embeds.masked_scatter((batch.ids == network.config.image_token_id)[..., None], features)
        output = network.model.language_model(
            inputs_embeds=embeds,
            position_ids=classroom.positions.expand(3, len(rows), -1),
            attention_mask=classroom.mask.expand(len(rows), -1, -1, -1),
            output_hidden_states=True,
            use_cache=False,
        )
        grounding = self.grounding.loss(output.hidden_states, batch.ids, batch.asked, scenes, rows, chosen)
        wanted = batch.labels != IGNORED
        logits = network.lm_head(output.last_hidden_state[wanted])
        label, sure = batch.labels[wanted], batch.sure[wanted]
        other = torch.where(label == classroom.yes_id, classroom.no_id, classroom.yes_id)
        each = sure * F.cross_entropy(logits, label, reduction="none")
        each = each + (1 - sure) * F.cross_entropy(logits, other, reduction="none")
        each = each + GRADED * self._off_by(classroom, logits, label, sure)
        weights = batch.weights[wanted]
        return Losses(eyes, grounding, (each * weights).sum() / weights.sum())

    @staticmethod
    def _off_by(classroom: Classroom, logits: Tensor, label: Tensor, sure: Tensor) -> Tensor:
        """How far the log-odds of graded lessons are from what is taught: (N,), 0 for the others.

        Cross-entropy hardly tells a surely from a very surely; a reward's slope is made of that difference.
        """
        taught = torch.logit(sure.clamp(1e-4, 1 - 1e-4)) * torch.where(label == classroom.yes_id, 1.0, -1.0)
        log_odds = logits[:, classroom.yes_id] - logits[:, classroom.no_id]
        return torch.where(sure < 1, F.smooth_l1_loss(log_odds, taught, reduction="none"), 0.0)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=Schedule().steps)
    parser.add_argument("--eyes-steps", type=int, default=Schedule().eyes_steps)
    parser.add_argument("--batch", type=int, default=Schedule().batch)
    parser.add_argument("--lr", type=float, default=Schedule().lr)
    parser.add_argument("--width", type=int, default=Schedule().width)
    parser.add_argument("--layers", type=int, default=Schedule().layers)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save-every", type=float, default=120.0, help="seconds between two saves")
    parser.add_argument(
        "--start-from", type=Path, metavar="MODEL", help="weights to begin with, instead of random ones"
    )
    a = parser.parse_args()
    schedule = Schedule(a.eyes_steps, a.steps, a.batch, lr=a.lr, width=a.width, layers=a.layers)
    singles, pairs = load_scenes(a.data, "singles"), load_scenes(a.data, "pairs")
    train(singles, pairs, a.work, schedule, torch.device(a.device), a.seed, a.save_every, start_from=a.start_from)


if __name__ == "__main__":
    main()
