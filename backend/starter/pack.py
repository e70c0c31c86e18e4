"""Put trained starter models into the repository in half precision, their training logs beside them.

`python -m backend.starter.pack --prior data/prior --vlm data/vlm --judge data/judge [--to backend/starter/weights]`
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from ..guidance.diffusion import load_prior
from ..guidance.vlm import load_vlm
from ..presets import WEIGHTS
from .prior_model import save_prior
from .vlm_model import save_vlm

CPU = torch.device("cpu")


def pack_prior(work: Path, to: Path) -> None:
    """Copy `work/model` of train_prior and the logs of both its stages."""
    prior = load_prior(work / "model", CPU)
    save_prior(to, prior.vae.half(), prior.unet.half(), prior.text_encoder.half())
    for stage in ("vae", "denoiser"):
        shutil.copyfile(work / stage / "log.jsonl", to / f"training_{stage}.jsonl")


def pack_vlm(work: Path, to: Path) -> None:
    """Copy `work/model` of train_vlm and its log."""
    save_vlm(load_vlm(work / "model", CPU).network.half(), to)
    shutil.copyfile(work / "log.jsonl", to / "training.jsonl")


def main() -> None:
    """Pack what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prior", type=Path, help="work folder of train_prior")
    parser.add_argument("--vlm", type=Path, help="work folder of train_vlm")
    parser.add_argument("--judge", type=Path, help="work folder of train_vlm, of the model that `evaluate` judges with")
    parser.add_argument("--to", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    if arguments.prior:
        pack_prior(arguments.prior, arguments.to / "prior")
    if arguments.vlm:
        pack_vlm(arguments.vlm, arguments.to / "vlm")
    if arguments.judge:
        pack_vlm(arguments.judge, arguments.to / "judge")
    size = sum(f.stat().st_size for f in arguments.to.rglob("*") if f.is_file())
    print(f"{arguments.to}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
