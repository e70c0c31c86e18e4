"""What the starter diffusion prior paints from noise, and whether it is what the prompt says.

`python -m backend.starter.evaluate_prior --model FOLDER --vlm FOLDER --picture FILE.png --out FILE.json`
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..guidance import questions
from ..guidance.diffusion import DiffusionPrior, load_prior
from ..guidance.distillation import guide
from ..guidance.vlm import load_vlm
from ..render.cameras import orbit, pose_vectors
from .shapes import COLOURS, NOUNS, phrase

NEGATIVE = ""
GUIDANCE_SCALE = 1.0


@torch.no_grad()
def sample(prior: DiffusionPrior, prompts: list[str], poses: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """Pictures (B, H, W, 3) by DDIM (arXiv 2010.02502) with classifier-free guidance. poses: (B, 16)."""
    size = prior.unet.config.sample_size
    latents = torch.randn(len(prompts), prior.unet.config.in_channels, size, size, generator=generator)
    text = torch.cat([prior.encode_text(prompts), prior.encode_text([NEGATIVE] * len(prompts))])
    prior.scheduler.set_timesteps(steps)
    for t in prior.scheduler.timesteps:
        times = t.repeat(2 * len(prompts))
        noise = prior.predict_noise(latents.repeat(2, 1, 1, 1), times, text, poses.repeat(2, 1))
        positive, negative = noise.chunk(2)
        noise = guide(positive, negative, GUIDANCE_SCALE)
        a = prior.alphas_cumprod[t]
        later = int(t) - 1000 // steps
        a_later = prior.alphas_cumprod[later] if later >= 0 else torch.tensor(1.0)
        clean = ((latents - (1 - a).sqrt() * noise) / a.sqrt()).clamp(-4, 4)
        latents = a_later.sqrt() * clean + (1 - a_later).sqrt() * noise
    return prior.decode(latents)


def main() -> None:
    """Paint every noun from two sides, ask the VLM what it sees, write picture and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--vlm", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    device = torch.device("cpu")
    prior, vlm = load_prior(a.model, device), load_vlm(a.vlm, device)
    generator = torch.Generator().manual_seed(a.seed)
    colours = list(COLOURS)
    rows, yes = [], []
    for offset in range(2):
        prompts = [phrase(colours[(i * 3 + offset * 5) % len(colours)], noun) for i, noun in enumerate(NOUNS)]
        twice = [p for p in prompts for _ in range(2)]
        azimuth_deg = torch.tensor([25.0, 115.0]).repeat(len(prompts))
        ones = torch.ones_like(azimuth_deg)
        cameras = orbit(azimuth_deg, 20 * ones, 2 * ones, 40 * ones, torch.zeros(3))
        images = sample(prior, twice, pose_vectors(cameras, torch.zeros(3)), a.steps, generator)
        for i, prompt in enumerate(prompts):
            with torch.no_grad():
                odds = vlm.log_odds(images[2 * i : 2 * i + 2], [q.text for q in questions.about_object(prompt)])
            yes.append((odds > 0).tolist())
        strips = [np.concatenate(list(images[k : k + 8].numpy()), 1) for k in range(0, len(twice), 8)]
        rows.append(np.concatenate(strips))
    sheet = Image.fromarray((np.concatenate(rows, 1) * 255).astype(np.uint8))
    sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.NEAREST).save(a.picture)
    content, geometry, both = np.mean(yes, 0).round(3).tolist()
    result = {"samples": len(yes), "vlm_says_content": content, "vlm_says_whole": geometry, "vlm_says_both": both}
    a.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
