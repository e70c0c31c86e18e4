"""Pictures and what is on them: single objects from four sides, and pairs from the front and the right.

`python -m backend.starter.dataset --out DIR --scenes 10000 14000 --seed 1` writes `singles.npz` and `pairs.npz`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..arrange.relations import RELATIONS, Bounds
from ..render.cameras import Cameras, pose_vectors
from ..render.lighting import sample_lighting
from ..render.rasterize import NOTHING
from ..render.shade import Frames, render
from ..render.views import object_views, scene_views
from ..scene.mesh import Mesh, merge
from ..schema import RelationName
from .faults import FAULTS, broken_parts
from .shapes import COLOURS, NOUNS, Shape, assemble, part_colours, parts_of

PIXELS = 64  # edge of a picture
CELLS = 4  # edge of the coarse map of which object covers what; one cell is one image token of the VLM
BROKEN = 0.4  # share of broken objects among the singles
NOUN_NAMES, COLOUR_NAMES, FAULT_NAMES, RELATION_NAMES = list(NOUNS), list(COLOURS), list(FAULTS), list(RELATIONS)
STACKS: list[RelationName] = ["on top of", "under"]
MISSES = (0.05, 1.5)  # of the mean extent: how far off something is that fails a relation by one axis alone


class Object(NamedTuple):
    """One coloured shape, its parts merged into one mesh whose face_slot is the part."""

    mesh: Mesh
    colours: torch.Tensor  # (P, 3) sRGB albedo of the parts


def make_object(shape: Shape, colour: str, rng: np.random.Generator) -> Object:
    """The shape as a mesh with colours."""
    vertices = torch.from_numpy(shape.vertices)
    mesh = Mesh(vertices, torch.from_numpy(shape.faces), torch.from_numpy(shape.face_part), vertices)
    return Object(mesh, torch.from_numpy(part_colours(shape, colour, rng)))


def photograph(objects: list[Object], cameras: Cameras, generator: torch.Generator) -> tuple[Frames, np.ndarray]:
    """The frames, and which object (1, 2, ... ; 0 none) each pixel shows: (B, H, W) uint8."""
    counts = [len(o.colours) for o in objects]
    owner = torch.repeat_interleave(torch.arange(len(objects)), torch.tensor(counts))
    starts = np.cumsum([0, *counts])
    mesh = merge([o.mesh._replace(face_slot=o.mesh.face_slot + int(s)) for o, s in zip(objects, starts, strict=False)])
    colours = torch.cat([o.colours for o in objects])
    centre = (mesh.vertices.amin(0) + mesh.vertices.amax(0)) / 2
    lighting = sample_lighting(cameras, centre, generator)
    frames = render(mesh, lambda _, part: colours[part], cameras, lighting, PIXELS, PIXELS)
    shown = torch.where(frames.slot == NOTHING, 0, owner[frames.slot.clamp_min(0)] + 1)
    return frames, shown.byte().numpy()


def describe(shown: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Coarse map of the objects (B, CELLS, CELLS) uint8, and their boxes (B, count, 4) in [0, 1], x0 y0 x1 y1.

    A cell belongs to the object with most of its pixels once these are an eighth of the cell. Hidden: a box of zeros.
    """
    views, size = shown.shape[0], PIXELS // CELLS
    blocks = shown.reshape(views, CELLS, size, CELLS, size).transpose(0, 1, 3, 2, 4).reshape(views, CELLS, CELLS, -1)
    cover = np.stack([(blocks == i + 1).sum(-1) for i in range(count)], -1)
    cells = np.where(cover.max(-1) >= size * size // 8, cover.argmax(-1) + 1, 0).astype(np.uint8)
    boxes = np.zeros((views, count, 4), np.float32)
    for view in range(views):
        for i in range(count):
            rows, columns = np.nonzero(shown[view] == i + 1)
            if len(rows):
                edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                boxes[view, i] = np.array(edges) / PIXELS
    return cells, boxes


def single(rng: np.random.Generator, generator: torch.Generator) -> dict[str, np.ndarray]:
    """One object from four sides; `fault` is 0 when it is whole, else 1 + its index in FAULT_NAMES."""
    noun, colour = rng.integers(len(NOUN_NAMES)), rng.integers(len(COLOUR_NAMES))
    fault = 1 + rng.integers(len(FAULT_NAMES)) if rng.random() < BROKEN else 0
    name = NOUN_NAMES[noun]
    parts = broken_parts(name, FAULT_NAMES[fault - 1], rng) if fault else parts_of(name, rng)
    shape = assemble(parts)
    size = rng.uniform(0.8, 1.0)  # of the box's longest edge
    shape = shape._replace(vertices=shape.vertices * np.float32(size))
    cameras = object_views(4, generator, torch.device("cpu"))
    frames, shown = photograph([make_object(shape, COLOUR_NAMES[colour], rng)], cameras, generator)
    cells, boxes = describe(shown, 1)
    return {
        "images": to_bytes(frames.rgb),
        "pose": pose_vectors(cameras, torch.zeros(3)).numpy(),
        "noun": np.array([noun]),
        "colour": np.array([colour]),
        "fault": np.array(fault),
        "cells": cells,
        "boxes": boxes,
    }


def pair(rng: np.random.Generator, generator: torch.Generator) -> dict[str, np.ndarray]:
    """Two objects that differ in noun or colour, from the front and the right; `low` and `high` are their bounds."""
    nouns, colours = _two_different(rng)
    shapes = []
    for noun, colour in zip(nouns, colours, strict=True):
        shape = assemble(parts_of(NOUN_NAMES[noun], rng))
        turn = rng.uniform(-0.5, 0.5) if rng.random() < 0.5 else 0.0
        spin = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        vertices = (shape.vertices @ spin.T * rng.uniform(0.7, 1.1)).astype(np.float32)
        shapes.append(make_object(shape._replace(vertices=vertices), COLOUR_NAMES[colour], rng))
    offset = place(shapes, rng)
    shapes[0] = shapes[0]._replace(mesh=shapes[0].mesh._replace(vertices=shapes[0].mesh.vertices + offset))
    low = torch.stack([s.mesh.vertices.amin(0) for s in shapes])
    high = torch.stack([s.mesh.vertices.amax(0) for s in shapes])
    frames, shown = photograph(shapes, scene_views(low.amin(0), high.amax(0), generator), generator)
    cells, boxes = describe(shown, 2)
    return {
        "images": to_bytes(frames.rgb),
        "noun": np.array(nouns),
        "colour": np.array(colours),
        "low": low.numpy(),
        "high": high.numpy(),
        "cells": cells,
        "boxes": boxes,
    }


def place(objects: list[Object], rng: np.random.Generator) -> torch.Tensor:
    """Where the first object goes, the second staying put: (3,) metres.

    Of twenty times some relation holds five, fails by one axis alone six (a thing that floats above another is not on
    top of it), only just fails or overlaps three, is on the way there from anywhere four; else it is anywhere. Half of
    the relations are stacks: what makes or breaks one is a gap of a few pixels.
    """
    first, second = (Bounds(o.mesh.vertices.amin(0), o.mesh.vertices.amax(0)) for o in objects)
    extent = (first.high - first.low + second.high - second.low) / 2
    ground = second.low[2] - first.low[2]
    kind = rng.random()
    anywhere = torch.from_numpy(rng.uniform(-1.6, 1.6, 3)).float() * extent + (second.low + second.high) / 2
    if kind < 0.1:
        return anywhere
    stack = rng.random() < 0.5
    names = STACKS if stack else [name for name in RELATION_NAMES if name not in STACKS]
    rule = RELATIONS[names[rng.integers(len(names))]]
    candidates = torch.from_numpy(rng.uniform(-1.0, 1.0, (4096, 3))).float() * extent * 1.5
    candidates[:2048, 2] = ground  # side by side, both on the ground
    touching = torch.from_numpy(rng.uniform(-0.05, 0.05, 1024)).float() * extent[2]
    candidates[2048:3072, 2] = second.high[2] - first.low[2] + touching[:1024]
    candidates[3072:, 2] = second.low[2] - first.high[2] + touching
    moved = Bounds(first.low + candidates, first.high + candidates)
    loss = rule.loss(moved, second)
    fits = (loss > 0.05) & (loss < 0.5) if kind < 0.25 else rule.check(moved, second)
    found = fits.nonzero()[:, 0]
    place = candidates[found[rng.integers(len(found))] if len(found) else loss.argmin()]
    if kind > 0.8:
        return anywhere.lerp(place, float(rng.random()))
    if kind > 0.5:
        axis = 2 if stack and rng.random() < 0.75 else int(rng.integers(3))
        place[axis] += float(rng.choice([-1, 1]) * np.exp(rng.uniform(*np.log(MISSES)))) * extent[axis]
    return place


def to_bytes(rgb: torch.Tensor) -> np.ndarray:
    """sRGB in [0, 1] as uint8."""
    return (rgb.clamp(0, 1) * 255).round().byte().numpy()


def _two_different(rng: np.random.Generator) -> tuple[tuple[int, int], tuple[int, int]]:
    while True:
        nouns = tuple(int(n) for n in rng.integers(len(NOUN_NAMES), size=2))
        colours = tuple(int(c) for c in rng.integers(len(COLOUR_NAMES), size=2))
        if nouns[0] != nouns[1] or (colours[0] != colours[1] and rng.random() < 0.3):
            return nouns, colours  # type: ignore[return-value]


def build(count: int, kind: str, seed: int) -> dict[str, np.ndarray]:
    """`count` scenes of a kind ("singles" or "pairs"), stacked along the first axis. Equal seeds, equal pictures."""
    make = {"singles": single, "pairs": pair}[kind]
    rows = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        rows.append(make(rng, generator))
        if (index + 1) % 500 == 0:
            print(f"{kind} {index + 1}/{count}", flush=True)
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def main() -> None:
    """Write both kinds of scenes as they were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, nargs=2, default=(10000, 14000), metavar=("SINGLES", "PAIRS"))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for kind, count in zip(("singles", "pairs"), arguments.scenes, strict=True):
        if count:
            np.savez_compressed(arguments.out / f"{kind}.npz", **build(count, kind, arguments.seed))  # type: ignore


if __name__ == "__main__":
    main()
