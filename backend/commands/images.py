"""`python -m backend image` and `edit`: arguments, and wiring to image/run.py."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..image.request import EDIT_METHODS, IMAGE_METHODS, read_image_request, settings_for
from ..progress import ProgressBar, probability
from ..weighing import STRATEGIES
from .shared import named_values, warn

OPTIONS = {  # option: the setting it gives
    "prior": "prior",
    "vlm": "vlm",
    "negative": "negative_prompt",
    "steps": "steps",
    "guidance": "guidance_scale",
    "reward": "reward",
    "reward_folder": "reward_folder",
    "strategy": "strategy",
    "candidates": "candidates",
}


def add_commands(commands: Any, devices: tuple[str, ...]) -> None:
    """Add both commands to the parser's subparsers."""
    image = commands.add_parser("image", help="make a picture of a prompt and write image.png and a report")
    image.add_argument("prompt", metavar="PROMPT", help='such as "a red cube"')
    image.add_argument("--method", choices=IMAGE_METHODS, default="reward-sds", help="default: %(default)s")
    image.set_defaults(command=_run, image=None, source="")
    edit = commands.add_parser("edit", help="change a picture from what it shows to what it is to show")
    edit.add_argument("image", metavar="IMAGE", type=Path, help="PNG, JPEG, WebP or TIFF file")
    edit.add_argument("source", metavar="SOURCE", help='what it shows, such as "a red cube"')
    edit.add_argument("prompt", metavar="TARGET", help='what it is to show, such as "a blue cube"')
    edit.add_argument("--method", choices=EDIT_METHODS, default="reward-dds", help="default: %(default)s")
    edit.set_defaults(command=_run)
    for parser, out in ((image, "out/image"), (edit, "out/edit")):
        _add_options(parser, devices)
        parser.add_argument("--out", type=Path, default=Path(out), help="folder for the result (default: %(default)s)")


def _add_options(parser: argparse.ArgumentParser, devices: tuple[str, ...]) -> None:
    parser.add_argument(
        "--prior", metavar="MODEL", help="diffusion model: a known name, hub id or folder (default: starter)"
    )
    parser.add_argument("--vlm", metavar="MODEL", help="vision-language model that scores, likewise")
    parser.add_argument("--negative", metavar="TEXT", help="what the picture should not show")
    parser.add_argument("--steps", type=int, help="optimisation steps (default: the preset's)")
    parser.add_argument("--guidance", type=float, metavar="S", help="classifier-free guidance (default: the method's)")
    parser.add_argument("--reward", choices=("vlm", "aesthetic", "image-reward"), help="what scores the candidates")
    parser.add_argument("--reward-folder", metavar="FOLDER", help="weights of aesthetic or image-reward")
    parser.add_argument("--strategy", choices=STRATEGIES, help="how scores become weights (default: min-max)")
    parser.add_argument("--candidates", type=int, metavar="N", help="noises a step (default: 4)")
    parser.add_argument("--preset", choices=("starter", "paper"), help="default: starter, or paper with another prior")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting by name")
    parser.add_argument("--device", choices=devices, default="auto", help="default: %(default)s")


def _run(arguments: argparse.Namespace) -> int:
    request = read_image_request(_request(arguments))
    from ..device import choose_device  # imports torch, as does the next: seconds, not for --help or a faulty request
    from ..image.run import run_image

    bar = ProgressBar(sys.stderr)
    try:
        written = run_image(request, arguments.image, arguments.out, choose_device(arguments.device), bar.show, warn)
    finally:
        bar.close()
    if written.score is not None:
        by_vlm = settings_for(request).reward == "vlm"
        value = f"{probability(written.score):.0%}" if by_vlm else f"{written.score:.2f}"
        print(f"reward of the result: {value}")
    for path in written.files:
        print(path)
    return 0


def _request(arguments: argparse.Namespace) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, value in named_values(arguments.set, "lr=0.01"):
        settings[name] = value.split(",") if name == "t_max" else value
    for option, name in OPTIONS.items():
        if getattr(arguments, option) is not None:
            settings[name] = getattr(arguments, option)
    preset = arguments.preset or ("starter" if arguments.prior in (None, "starter") else "paper")
    return {
        "prompt": arguments.prompt,
        "source": arguments.source,
        "method": arguments.method,
        "preset": preset,
        "seed": arguments.seed,
        "settings": settings,
    }
