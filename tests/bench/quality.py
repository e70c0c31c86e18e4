"""The quality table: twelve scenes of two objects each, generated and judged.

python -m tests.bench.quality [--scenes 1 5] [--steps N] [--fresh] [--out DIR]

A scene that was already judged with the same prompt, settings and weights is not made again, unless --fresh says so:
do so after a change of the code. Pictures, meshes and numbers lie in the output folder: one folder a scene,
quality.json, sheet.png.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from backend.arrange.physics import penetration_volume
from backend.arrange.relations import RELATIONS, bounds_of
from backend.export.pictures import write_contact_sheet
from backend.guidance.vlm import VisionLanguageModel, load_vlm
from backend.presets import model_folder, settings_for
from backend.progress import ProgressBar
from backend.render.lighting import studio_lighting
from backend.render.shade import render
from backend.render.views import framed
from backend.run import run
from backend.scene.mesh import Mesh, merge
from backend.schema import SceneRequest, read_request
from backend.starter.shapes import phrase
from tests.judge import Thing, coloured_mesh, dominant_colour, noun_by_shape, noun_by_sight, own_colour, read_things

SCENES = (  # subject, relation, object: all seven relations, every noun, every colour at least twice
    (("red", "cube"), "on top of", ("blue", "sphere")),
    (("green", "cone"), "on top of", ("brown", "table")),
    (("yellow", "cylinder"), "left of", ("purple", "cube")),
    (("white", "snowman"), "right of", ("green", "tree")),
    (("orange", "torus"), "in front of", ("black", "capsule")),
    (("pink", "mug"), "behind", ("blue", "pyramid")),
    (("purple", "capsule"), "next to", ("red", "chair")),
    (("white", "cube"), "under", ("green", "bottle")),
    (("red", "mushroom"), "next to", ("orange", "cylinder")),
    (("pink", "house"), "behind", ("yellow", "lamp")),
    (("black", "pyramid"), "in front of", ("white", "cone")),
    (("brown", "torus"), "right of", ("pink", "sphere")),
)
BASIC = ("cube", "sphere", "cylinder", "cone", "torus", "pyramid", "capsule")
SECONDS = 180  # target for a scene
SHEET_PX, SUPERSAMPLING = 256, 2
ROW = "{:>2}  {:46}  {:15}  {:15}  {:>8}  {:>9}  {:>6}"


def main() -> None:
    """Make and judge the scenes, print the table, write its JSON and the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, nargs="+", default=range(1, len(SCENES) + 1), metavar="NUMBER")
    parser.add_argument("--steps", type=int, help="optimisation steps (default: the preset's)")
    parser.add_argument("--fresh", action="store_true", help="make scenes again that are already there")
    parser.add_argument("--out", type=Path, default=Path("out/bench-quality"))
    arguments = parser.parse_args()
    if not set(arguments.scenes) <= set(range(1, len(SCENES) + 1)):
        parser.error(f"scenes are numbered 1 to {len(SCENES)}")
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


def prompt_of(number: int) -> str:
    """Scene `number`, counted from 1, as the user would write it."""
    subject, relation, object = SCENES[number - 1]
    return f"{phrase(*subject)} {relation} {phrase(*object)}"


def made_and_judged(number: int, out: Path, steps: int | None, fresh: bool, vlm: VisionLanguageModel) -> dict[str, Any]:
    """The scene's row: read where it was judged before for the same request, else made."""
    folder = out / f"{number:02d}"
    overrides = {} if steps is None else {"steps": steps}
    request = read_request({"prompt": prompt_of(number), "settings": overrides})
    settings = settings_for(request.preset, overrides).model_dump(mode="json")
    asked = {"number": number, "prompt": request.prompt, "settings": settings, "weights": weights_digest()}
    judgement = folder / "judgement.json"
    if not fresh and judgement.is_file():
        row = json.loads(judgement.read_text())
        if asked.items() <= row.items():
            return row
    row = asked | {"seconds": round(make(request, folder), 1)}
    row |= judge(number, in_order(folder), vlm)
    judgement.write_text(json.dumps(row, indent=2) + "\n")
    return row


def in_order(folder: Path) -> dict[str, Thing]:
    """The objects of the scene in `folder` in the order of its request; a GLB's reader has its own."""
    things = read_things(folder / "scene.glb")
    return {slot["name"]: things[slot["name"]] for slot in json.loads((folder / "report.json").read_text())["slots"]}


def weights_digest() -> str:
    """A fingerprint of the bundled models."""
    digest = hashlib.sha256()
    for kind in ("prior", "vlm"):
        for path in sorted(model_folder("starter", kind).rglob("*.safetensors")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def make(request: SceneRequest, folder: Path) -> float:
    """Seconds from the request to the files in `folder`, loading the models included."""
    bar, started = ProgressBar(sys.stderr), time.monotonic()
    on_step = bar.show if bar.live else lambda step: None
    run(request, folder, torch.device("cpu"), on_step, lambda text: print(f"warning: {text}", file=sys.stderr))
    if bar.live:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return time.monotonic() - started


def judge(number: int, things: dict[str, Thing], vlm: VisionLanguageModel) -> dict[str, Any]:
    """What the exported scene shows, beside what it should; the slots come in the prompt's order."""
    subject, relation, object = SCENES[number - 1]
    assert len(things) == 2, f"two objects were asked for, {list(things)} were made"
    first, second = things.values()
    bounds = [bounds_of(torch.from_numpy(thing.world)) for thing in (first, second)]
    meshes = [coloured_mesh(thing, thing.world) for thing in (first, second)]
    return {
        "objects": [judge_object(t, *asked, vlm) for t, asked in ((first, subject), (second, object))],
        "relation": relation,
        "relation_holds": bool(RELATIONS[relation].check(*bounds)),
        "penetration_m3": round(penetration_volume(*meshes), 5),
    }


def judge_object(thing: Thing, colour: str, noun: str, vlm: VisionLanguageModel) -> dict[str, Any]:
    """Colour and noun that one object was given, and that it shows. A basic shape is one by sight and by geometry."""
    shown, seen = dominant_colour(thing, noun), noun_by_sight(vlm, thing, colour)
    result = {
        "name": thing.name,
        "asked": phrase(colour, noun),
        "colour": shown.name,
        "colour_share": round(shown.score, 3),
        "colour_right": shown.name == colour,
        "seen_as": seen.name,
        "seen_log_odds": round(seen.score, 2),
        "noun_right": seen.name == noun,
    }
    if noun in BASIC:
        shape = noun_by_shape(thing.vertices, thing.faces)
        result |= {"shaped_as": shape.name, "shape_distance": round(shape.score, 3)}
        result["noun_right"] = result["noun_right"] and shape.name == noun
    return result


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
    frames = [photograph(read_things(out / f"{row['number']:02d}" / "scene.glb")) for row in rows]
    write_contact_sheet(frames, out / "sheet.png", [f"{row['number']} {row['prompt']}" for row in rows], columns=4)


def photograph(things: dict[str, Thing]) -> NDArray[np.float32]:
    """The scene from the front, a little from the left and above: (SHEET_PX, SHEET_PX, 3) sRGB in [0, 1]."""
    mesh: Mesh = merge([coloured_mesh(thing, thing.world) for thing in things.values()])
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    cameras = framed(low, high, torch.tensor([325.0]), torch.tensor([22.0]), zoom=0.95)
    large = SHEET_PX * SUPERSAMPLING
    rgb = render(mesh, own_colour, cameras, studio_lighting(cameras, (low + high) / 2), large, large).rgb
    return torch.nn.functional.avg_pool2d(rgb.permute(0, 3, 1, 2), SUPERSAMPLING)[0].permute(1, 2, 0).numpy()


if __name__ == "__main__":
    main()
