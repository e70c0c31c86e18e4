"""The quality table: twelve scenes of two objects each, generated and judged.

python -m tests.bench.quality [--scenes 1 5] [--steps N] [--fresh] [--out DIR]

A scene that was already judged with the same prompt, settings and weights is not made again, unless --fresh says so:
do so after a change of the code. Pictures, meshes and numbers lie in the output folder: one folder a scene,
quality.json, sheet.png.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from backend.evaluate.digest import weights_digest
from backend.evaluate.judging import in_order, judge_scene
from backend.evaluate.pictures import photograph
from backend.evaluate.suite import STARTER
from backend.evaluate.things import read_things
from backend.export.pictures import write_contact_sheet
from backend.guidance.vlm import VisionLanguageModel, load_vlm
from backend.presets import model_folder, settings_for
from backend.progress import ProgressBar
from backend.run import run
from backend.schema import SceneRequest, read_request

SECONDS = 180  # target for a scene
SHEET_PX = 256
ROW = "{:>2}  {:46}  {:15}  {:15}  {:>8}  {:>9}  {:>6}"


def main() -> None:
    """Make and judge the scenes, print the table, write its JSON and the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, nargs="+", default=range(1, len(STARTER) + 1), metavar="NUMBER")
    parser.add_argument("--steps", type=int, help="optimisation steps (default: the preset's)")
    parser.add_argument("--fresh", action="store_true", help="make scenes again that are already there")
    parser.add_argument("--out", type=Path, default=Path("out/bench-quality"))
    arguments = parser.parse_args()
    if not set(arguments.scenes) <= set(range(1, len(STARTER) + 1)):
        parser.error(f"scenes are numbered 1 to {len(STARTER)}")
    vlm = load_vlm(model_folder("starter", "vlm"), torch.device("cpu"))
    print(f"Quality, starter preset, CPU, {torch.get_num_threads()} threads; each object: colour, seen as, shaped as")
    print(ROW.format("", "prompt", "subject", "object", "relation", "shared m3", "s"), flush=True)
    rows = []
    for number in sorted(set(arguments.scenes)):
        rows.append(made_and_judged(number, arguments.out, arguments.steps, arguments.fresh, vlm))
        print(as_line(rows[-1]), flush=True)
        summary = summarise(rows)
        (arguments.out / "quality.json").write_text(json.dumps({"summary": summary, "scenes": rows}, indent=2) + "\n")
    write_sheet(rows, arguments.out)
    print("\n".join(f"{name}: {text}" for name, text in summary.items()))
    print(arguments.out / "sheet.png")


def made_and_judged(number: int, out: Path, steps: int | None, fresh: bool, vlm: VisionLanguageModel) -> dict[str, Any]:
    """The scene's row: read where it was judged before for the same request, else made."""
    folder, case = out / f"{number:02d}", STARTER[number - 1]
    overrides = {} if steps is None else {"steps": steps}
    request = read_request({"prompt": case.prompt, "settings": overrides})
    settings = settings_for(request.preset, overrides).model_dump(mode="json")
    weights = weights_digest(model_folder("starter", kind) for kind in ("prior", "vlm"))
    asked = {"number": number, "prompt": request.prompt, "settings": settings, "weights": weights}
    judgement = folder / "judgement.json"
    if not fresh and judgement.is_file():
        row = json.loads(judgement.read_text())
        if asked.items() <= row.items():
            return row
    row = asked | {"seconds": round(make(request, folder), 1)}
    row |= judge_scene(case, in_order(folder), vlm)
    judgement.write_text(json.dumps(row, indent=2) + "\n")
    return row


def make(request: SceneRequest, folder: Path) -> float:
    """Seconds from the request to the files in `folder`, loading the models included."""
    bar, started = ProgressBar(sys.stderr), time.monotonic()
    on_step = bar.show if bar.live else lambda step: None
    run(request, folder, torch.device("cpu"), on_step, lambda text: print(f"warning: {text}", file=sys.stderr))
    if bar.live:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return time.monotonic() - started


def as_line(row: dict[str, Any]) -> str:
    """The row of the printed table: what is right is a tick, what is wrong says what it is instead."""
    cells = []
    for thing in row["objects"]:
        asked = thing["asked"].split()[-1]
        marks = ["ok" if thing["colour_right"] else thing["colour"] or "none"]
        marks.append("ok" if thing["seen_as"] == asked else thing["seen_as"])
        if "shaped_as" in thing:
            marks.append("ok" if thing["shaped_as"] == asked else thing["shaped_as"] or "none")
        cells.append(" ".join(marks))
    holds = "ok" if row["relation_holds"] else "NO"
    volume, seconds = f"{row['penetration_m3']:.4f}", f"{row['seconds']:.0f}"
    return ROW.format(row["number"], row["prompt"], *cells, holds, volume, seconds)


def summarise(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Each measure against its target."""
    things = [thing for row in rows for thing in row["objects"]]
    basic = [thing for thing in things if "shaped_as" in thing]
    slowest = max(row["seconds"] for row in rows)
    by_sight = sum(thing["seen_as"] == thing["asked"].split()[-1] for thing in things)
    by_shape = sum(thing["shaped_as"] == thing["asked"].split()[-1] for thing in basic)
    return {
        "relations": f"{sum(row['relation_holds'] for row in rows)}/{len(rows)} (target 12/12)",
        "colours": f"{sum(thing['colour_right'] for thing in things)}/{len(things)} (target 24/24)",
        "nouns": f"{sum(thing['noun_right'] for thing in things)}/{len(things)} (target 20/24); by sight "
        f"{by_sight}/{len(things)}, basic shapes by geometry {by_shape}/{len(basic)}",
        "slowest scene": f"{slowest:.0f} s (target {SECONDS} s), all {sum(row['seconds'] for row in rows):.0f} s",
        "largest shared volume": f"{max(row['penetration_m3'] for row in rows):.4f} m3",
    }


def write_sheet(rows: list[dict[str, Any]], out: Path) -> None:
    """One picture a scene, rendered from its GLB, with its prompt below."""
    frames = [photograph(read_things(out / f"{row['number']:02d}" / "scene.glb"), SHEET_PX) for row in rows]
    write_contact_sheet(frames, out / "sheet.png", [f"{row['number']} {row['prompt']}" for row in rows], columns=4)


if __name__ == "__main__":
    main()
