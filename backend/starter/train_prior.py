"""Train the starter diffusion prior: the autoencoder first, then the denoiser together with its text encoder.

`python -m backend.starter.train_prior --data DIR [DIR ...] --work DIR` goes on from where it was stopped.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from ..guidance.diffusion import DiffusionPrior, load_prior
from ..guidance.distillation import add_noise, native_target
from .checkpoint import learning_rate, log_line, resume, save_state, set_rate, take_over
from .dataset import COLOUR_NAMES, FAULT_NAMES, NOUN_NAMES
from .faults import NO_NOUN
from .prior_model import CAPTION_TOKENS, build_scheduler, build_text_encoder, build_unet, build_vae, save_prior
from .shapes import phrase
from .vocabulary import caption_tokenizer

BROKEN_SHARE = 0.08  # of the pictures the denoiser sees; their captions say broken, so a negative prompt can name it
NO_CAPTION = 0.1  # share of captions left out, for classifier-free guidance (arXiv 2207.12598)
KL_WEIGHT = 1e-7  # pull of the latents, all together, towards a unit Gaussian; more drowns thin parts in noise
NOISY = (
    0.75  # power of the uniform timestep: below 1, more of the noisy ones, where words and camera decide the picture
)
EMA = 0.998  # of the denoiser's averaged weights


class Pictures(NamedTuple):
    """All views of all single objects."""

    images: np.ndarray  # (N, H, W, 3) uint8
    poses: np.ndarray  # (N, 16) float32
    captions: list[str]  # of each picture
    broken: np.ndarray  # (N,) bool


def load_pictures(folders: list[Path]) -> Pictures:
    """The singles of all folders, one row a view."""
    parts = [dict(np.load(f / "singles.npz")) for f in folders if (f / "singles.npz").is_file()]
    scenes = {
        key: np.concatenate([part[key] for part in parts]) for key in ("images", "pose", "noun", "colour", "fault")
    }
    views = scenes["images"].shape[1]
    captions = [
        caption(n, c, f) for n, c, f in zip(scenes["noun"][:, 0], scenes["colour"][:, 0], scenes["fault"], strict=True)
    ]
    return Pictures(
        scenes["images"].reshape(-1, *scenes["images"].shape[2:]),
        scenes["pose"].reshape(-1, 16),
        [text for text in captions for _ in range(views)],
        np.repeat(scenes["fault"] > 0, views),
    )


def caption(noun: int, colour: int, fault: int) -> str:
    """ "a red cube", "a broken red cube", "a broken red thing"."""
    name = NOUN_NAMES[noun] if not fault or FAULT_NAMES[fault - 1] not in NO_NOUN else "thing"
    return f"a broken {COLOUR_NAMES[colour]} {name}" if fault else phrase(COLOUR_NAMES[colour], name)


class Stage(NamedTuple):
    """How one of the two trainings is run."""

    steps: int
    batch: int  # pictures a step
    lr: float  # peak learning rate


def train_vae(
    pictures: Pictures,
    work: Path,
    stage: Stage,
    device: torch.device,
    seed: int,
    start_from: DiffusionPrior | None = None,
) -> AutoencoderKL:
    """The trained autoencoder; its scaling_factor makes latents of unit variance.

    start_from: a trained model whose weights a new training begins with.
    """
    torch.manual_seed(seed)
    vae = build_vae().to(device).to(memory_format=torch.channels_last)
    if start_from:
        take_over(vae, start_from.vae)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=stage.lr, betas=(0.9, 0.99), weight_decay=0.0)
    start = resume(work, device, vae, optimizer)
    saved = shown = time.time()
    told: list[float] = []  # since the last line of the log, or since this process began
    for step in range(start, stage.steps):
        set_rate(optimizer, learning_rate(step, stage.steps, stage.lr))
        rng = np.random.default_rng([seed, 1, step])
        target = to_pixels(pictures.images[rng.integers(len(pictures.images), size=stage.batch)], device)
        posterior = vae.encode(target).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(step)).to(device)
        output = vae.decode(posterior.mean + posterior.std * noise).sample
        difference = output - target
        loss = (
            difference.abs().mean() + difference.square().mean() + edges(difference) + KL_WEIGHT * posterior.kl().mean()
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        told.append(difference.detach().abs().mean().item() / 2)
        if (step + 1) % 50 == 0:
            seconds = (time.time() - shown) / len(told)
            log_line(work, {"step": step + 1, "mean_abs_error": sum(told) / len(told), "s_per_step": seconds})
            told, shown = [], time.time()
        if time.time() - saved > 120 or step + 1 == stage.steps:
            save_state(work, {"modules": vae.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1})
            saved = time.time()
    vae.eval()
    return vae


def edges(difference: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels' errors: keeps outlines sharp."""
    return difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()


class Batch(NamedTuple):
    """What the denoiser learns from in a step."""

    noisy: Tensor  # (B, c, h, w) latents
    t: Tensor  # (B,) int64
    text: Tensor  # (B, L) token ids of the captions
    poses: Tensor  # (B, 16)
    target: Tensor  # (B, c, h, w), v of the latents and the noise


class Batches:
    """The denoiser's batches, each drawn from the seed and its step's number alone."""

    def __init__(self, pictures: Pictures, latents: Tensor, size: int, device: torch.device, seed: int) -> None:
        """latents: (N, c, h, w) of the pictures, on the CPU, of unit variance. size: pictures in a batch."""
        tokenizer = caption_tokenizer(CAPTION_TOKENS)
        self.ids = torch.tensor(tokenizer(pictures.captions, padding="max_length")["input_ids"])
        self.blank = torch.tensor(tokenizer("", padding="max_length")["input_ids"])
        self.whole, self.broken = np.nonzero(~pictures.broken)[0], np.nonzero(pictures.broken)[0]
        self.latents, self.poses = latents, torch.from_numpy(pictures.poses)
        self.alphas = build_scheduler().alphas_cumprod.to(device)
        self.size, self.device, self.seed = size, device, seed

    def draw(self, step: int) -> Batch:
        """The batch of a step."""
        rng, size, device = np.random.default_rng([self.seed, 2, step]), self.size, self.device
        some = rng.choice(self.broken, size=int(size * BROKEN_SHARE))
        rows = torch.from_numpy(np.concatenate([some, rng.choice(self.whole, size=size - len(some))]))
        silent = torch.from_numpy(rng.random(size) < NO_CAPTION)
        text = torch.where(silent[:, None], self.blank, self.ids[rows]).to(device)
        spread = (rng.permutation(size) + rng.random(size)) / size
        t = torch.from_numpy(spread**NOISY * 1000).long().to(device)
        clean = self.latents[rows].to(device)
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)).to(device)
        a = self.alphas[t]
        noisy = add_noise(clean, noise, a).contiguous(memory_format=torch.channels_last)
        target = native_target(clean, noise, a, "v_prediction")
        return Batch(noisy, t, text, self.poses[rows].to(device), target)


def train_denoiser(
    pictures: Pictures,
    vae: AutoencoderKL,
    work: Path,
    out: Path,
    stage: Stage,
    device: torch.device,
    seed: int,
    start_from: DiffusionPrior | None = None,
) -> None:
    """Train denoiser and text encoder on v-prediction; `out` gets the averaged weights with every save."""
    torch.manual_seed(seed)
    latents = encode_all(vae, pictures.images, device)
    vae.register_to_config(scaling_factor=float(1.0 / latents.std()))
    batches = Batches(pictures, latents * vae.config.scaling_factor, stage.batch, device, seed)
    modules = nn.ModuleDict(
        {"unet": build_unet().to(memory_format=torch.channels_last), "text": build_text_encoder()}
    ).to(device)
    if start_from:
        take_over(modules["unet"], start_from.unet)
        take_over(modules["text"], start_from.text_encoder)
    average = copy.deepcopy(modules).requires_grad_(False)
    both = nn.ModuleList([modules, average])
    optimizer = torch.optim.AdamW(modules.parameters(), lr=stage.lr, betas=(0.9, 0.99), weight_decay=0.01)
    start = resume(work, device, both, optimizer)
    saved = shown = time.time()
    told: list[float] = []  # since the last line of the log, or since this process began
    for step in range(start, stage.steps):
        set_rate(optimizer, learning_rate(step, stage.steps, stage.lr))
        loss = denoising_loss(modules, batches.draw(step))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        follow(average, modules, min(EMA, (1 + step) / (10 + step)))
        told.append(loss.item())
        if (step + 1) % 50 == 0:
            seconds = (time.time() - shown) / len(told)
            log_line(work, {"step": step + 1, "v_loss": sum(told) / len(told), "s_per_step": seconds})
            told, shown = [], time.time()
        if time.time() - saved > 180 or step + 1 == stage.steps:
            save_state(work, {"modules": both.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1})
            save_prior(out, vae, average["unet"], average["text"])
            saved = time.time()


def denoising_loss(modules: nn.ModuleDict, batch: Batch) -> Tensor:
    """Mean squared error of what denoiser and text encoder make of the batch."""
    hidden = modules["text"](batch.text).last_hidden_state
    output = modules["unet"](batch.noisy, batch.t, encoder_hidden_states=hidden, class_labels=batch.poses).sample
    return F.mse_loss(output, batch.target)


@torch.no_grad()
def follow(average: nn.Module, modules: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the current ones."""
    for slow, fast in zip(average.parameters(), modules.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)


@torch.no_grad()
def encode_all(vae: AutoencoderKL, images: np.ndarray, device: torch.device) -> Tensor:
    """Mean latents of all pictures, unscaled, on the CPU: (N, c, h, w)."""
    return torch.cat(
        [
            vae.encode(to_pixels(part, device)).latent_dist.mean.cpu()
            for part in np.array_split(images, max(1, len(images) // 256))
        ]
    )


def to_pixels(images: np.ndarray, device: torch.device) -> Tensor:
    """(B, 3, H, W) in [-1, 1] of (B, H, W, 3) uint8."""
    pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


def main() -> None:
    """Read the command line and train both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--vae-steps", type=int, default=1500)
    parser.add_argument("--vae-batch", type=int, default=16)
    parser.add_argument("--vae-lr", type=float, default=2e-3)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--start-from", type=Path, metavar="MODEL", help="weights to begin with, instead of random ones"
    )
    a = parser.parse_args()
    device = torch.device(a.device)
    given = load_prior(a.start_from, device) if a.start_from else None
    pictures = load_pictures(a.data)
    vae = train_vae(pictures, a.work / "vae", Stage(a.vae_steps, a.vae_batch, a.vae_lr), device, a.seed, given)
    train_denoiser(
        pictures, vae, a.work / "denoiser", a.work / "model", Stage(a.steps, a.batch, a.lr), device, a.seed, given
    )


if __name__ == "__main__":
    main()
