"""The methods of RewardSDS (arXiv 2503.09601) in 2D: pictures of single objects, judged by another VLM than rewards.

python -m tests.bench.pictures [--methods sds,reward-sds] [--prompts 12] [--seeds 3] [--set candidates=8] [--out DIR]

All methods begin from the same noise for the same prompt and seed. A picture that is there for the same request,
settings and weights is not made again: after a change of the code take another folder. Pictures, pictures.json and
sheet.png lie in the output folder.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from backend.commands.shared import named_values
from backend.evaluate.digest import weights_digest
from backend.evaluate.statistics import Estimate, mean_of_groups
from backend.evaluate.suite import STARTER
from backend.export.pictures import write_contact_sheet
from backend.guidance.diffusion import load_prior
from backend.guidance.questions import about_object
from backend.guidance.rewards import RewardModel, vlm_reward
from backend.guidance.vlm import VisionLanguageModel, load_vlm
from backend.image.request import IMAGE_METHODS, ImageRequest, read_image_request, settings_for
from backend.image.run import PICTURE, ImageModels, run_image
from backend.image.steps import Step
from backend.models_table import WEIGHTS
from backend.starter.shapes import NOUNS, phrase

CPU = torch.device("cpu")
THINGS = [case.subject for case in STARTER]  # colour and noun
SHEET_PX = 96
MEASURES = {
    "own": "log-odds of the VLM that rewards, mean of content, geometry and both at once",
    "judge": "the judge's, likewise",
    "content": "the judge's, of content alone",
    "yes": "share of those three questions to which the judge says Yes",
    "noun": "share in which, of 16 nouns, the judge is surest of the one that was asked for",
    "choice": "log-odds of the best candidate over the mean one, in the steps that explore",
    "seconds": "of one picture",
}
COMPARED = [name for name in MEASURES if name not in ("choice", "seconds")]
PAIRS = (("reward-sds", "sds"), ("reward-vsd", "vsd"), ("vsd", "sds"))  # what is compared with what
Row = dict[str, Any]


class Maker:
    """The networks, and where the pictures go."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.vlm, self.judge = load_vlm(WEIGHTS / "vlm", CPU), load_vlm(WEIGHTS / "judge", CPU)
        self.models = ImageModels(load_prior(WEIGHTS / "prior", CPU), RewardModel(vlm_reward(self.vlm), lambda _: ""))
        self.weights = weights_digest(WEIGHTS / kind for kind in ("prior", "vlm", "judge"))

    def row(self, thing: tuple[str, str], request: ImageRequest) -> Row:
        """What is known of a picture, which is made and judged where it was not."""
        folder = folder_of(self.out, request.method, request.prompt, request.seed)
        asked = {"request": request.model_dump(), "settings": settings_for(request).model_dump(mode="json")}
        asked = json.loads(json.dumps(asked | {"weights": self.weights}))
        known = folder / "judged.json"
        row = json.loads(known.read_text()) if known.is_file() else {}
        if not asked.items() <= row.items():
            row = asked | self.make(request, folder) | self.judged(folder / PICTURE, *thing)
            known.write_text(json.dumps(row, indent=2) + "\n")
        return row

    def make(self, request: ImageRequest, folder: Path) -> Row:
        """Seconds, and how much there was to choose from."""
        choice: list[float] = []

        def on_step(step: Step) -> None:
            if step.rewards:
                choice.append(step.rewards["best"] - step.rewards["mean"])

        models = self.models if request.rewarded else self.models._replace(reward=None)
        started = time.monotonic()
        run_image(request, None, folder, CPU, on_step, lambda _: None, models)
        return {"seconds": time.monotonic() - started, "choice": float(np.mean(choice)) if choice else None}

    def judged(self, path: Path, colour: str, noun: str) -> Row:
        """What reward and judge make of the picture in the file."""
        picture = torch.from_numpy(np.asarray(Image.open(path).convert("RGB"), np.float32) / 255)[None]
        own, judge = (_answers(vlm, picture, phrase(colour, noun)) for vlm in (self.vlm, self.judge))
        nouns = [self.judge.wording.content.format(prompt=phrase(colour, other)) for other in NOUNS]
        with torch.no_grad():
            surest = list(NOUNS)[int(self.judge.log_odds(picture, nouns).argmax())]
        return {
            "own": float(np.mean(own)),
            "judge": float(np.mean(judge)),
            "content": judge[0],
            "yes": float(np.mean(np.array(judge) > 0)),
            "noun": float(surest == noun),
        }


def folder_of(out: Path, method: str, prompt: str, seed: int) -> Path:
    """Where a picture lies."""
    return out / method / f"{prompt.replace(' ', '-')}-{seed}"


def _answers(vlm: VisionLanguageModel, picture: torch.Tensor, prompt: str) -> list[float]:
    """Log-odds of Yes of the questions about an object. picture: (1, H, W, 3)."""
    with torch.no_grad():
        return vlm.log_odds(picture, [question.text for question in about_object(prompt, vlm.wording)]).tolist()


def main() -> None:
    """Make and judge the pictures, print the tables, write their JSON and the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(IMAGE_METHODS))
    parser.add_argument("--prompts", type=int, default=len(THINGS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, for all methods")
    parser.add_argument("--out", type=Path, default=Path("out/bench-pictures"))
    arguments = parser.parse_args()
    methods = arguments.methods.split(",")
    if not set(methods) <= set(IMAGE_METHODS):
        parser.error(f"methods are {', '.join(IMAGE_METHODS)}")
    maker, rows = Maker(arguments.out), []
    settings = dict(named_values(arguments.set, "steps=100"))
    for seed in range(arguments.seeds):
        for thing in THINGS[: arguments.prompts]:
            for method in methods:
                asked = {"prompt": phrase(*thing), "method": method, "seed": seed, "settings": settings}
                rows.append(maker.row(thing, read_image_request(asked)))
            (arguments.out / "pictures.json").write_text(json.dumps(rows, indent=2) + "\n")
    write_sheet([row for row in rows if row["request"]["seed"] == 0], methods, arguments.out)
    print(tables(rows, methods))


def tables(rows: Sequence[Row], methods: Sequence[str]) -> str:
    """Means, and differences on the same prompts and seeds, with intervals bootstrapped over the prompts."""
    lines = [f"{len(rows)} pictures, {torch.get_num_threads()} threads, weights {rows[0]['weights']}", ""]
    lines += [f"| method | {' | '.join(MEASURES)} |", f"|---|{'---|' * len(MEASURES)}"]
    for method in methods:
        own = [row for row in rows if row["request"]["method"] == method]
        lines.append(f"| {method} | {' | '.join(_cell(_over_prompts(own, name)) for name in MEASURES)} |")
    lines += ["", f"| difference | {' | '.join(COMPARED)} |", f"|---|{'---|' * len(COMPARED)}"]
    for method, other in PAIRS:
        pairs = _differences(rows, method, other)
        if pairs:
            lines.append(f"| {method} - {other} | {' | '.join(_cell(_over_prompts(pairs, n)) for n in COMPARED)} |")
    return "\n".join([*lines, "", *(f"- {name}: {told}" for name, told in MEASURES.items())])


def _differences(rows: Sequence[Row], method: str, other: str) -> list[Row]:
    """Rows that hold how much higher each measure of `method` is."""
    found = {(r["request"]["method"], r["request"]["prompt"], r["request"]["seed"]): r for r in rows}
    return [
        row | {name: row[name] - base[name] for name in COMPARED}
        for (own, prompt, seed), row in found.items()
        if own == method and (base := found.get((other, prompt, seed)))
    ]


def _over_prompts(rows: Sequence[Row], measure: str) -> Estimate | None:
    """The mean; the seeds of a prompt are no independent observations."""
    return mean_of_groups((row["request"]["prompt"], [row[measure]]) for row in rows if row[measure] is not None)


def _cell(e: Estimate | None) -> str:
    if e is None:
        return ""
    return f"{e.value:.2f}" + ("" if e.low is None else f" ({e.low:.2f} to {e.high:.2f})")


def write_sheet(rows: Sequence[Row], methods: Sequence[str], out: Path) -> None:
    """The pictures of the rows: a prompt a row, a method a column."""
    frames, captions = [], []
    for row in rows:
        request = row["request"]
        folder = folder_of(out, request["method"], request["prompt"], request["seed"])
        picture = Image.open(folder / PICTURE).convert("RGB")
        picture = picture.resize((SHEET_PX, SHEET_PX), Image.Resampling.LANCZOS)
        frames.append(np.asarray(picture, np.float64) / 255)
        captions.append(f"{request['prompt']}, {request['method']}")
    write_contact_sheet(frames, out / "sheet.png", captions, columns=len(methods))


if __name__ == "__main__":
    main()
