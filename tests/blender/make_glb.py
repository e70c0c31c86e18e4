"""Write scene.glb, and beside it expected.json with what Blender ought to find in it.

Run by the fixtures in the backend's environment: python -m tests.blender.make_glb FOLDER. Whatever makes the scene, a
short run too, only has to hand `write` the slots' results.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from torch import Tensor

from backend.export.glb import ExportedSlot, SlotResult, export_scene
from backend.scene.appearance import Material
from backend.scene.slots import Scene
from backend.schema import Slot

TEXTURE_PX = 256
MAX_FACES = 8000
RESOLUTION = 24
SAMPLES = 40  # surface points per slot whose colour is compared
COLOUR_SLOPE = 0.15  # change of each channel across the box: a picture the wrong way round is then noticed
SLOTS = (
    (Slot(name="sphere", prompt="a blue sphere", centre=(0.0, 0.0, 0.5)), "ellipsoid", (0.15, 0.3, 0.85)),
    (
        Slot(name="cube", prompt="a red cube", centre=(0.2, 0.1, 1.26), size=(0.9, 0.6, 0.7), rotation_deg=(0, 10, 30)),
        "box",
        (0.85, 0.15, 0.2),
    ),
)


def make_results() -> list[SlotResult]:
    """A slanted red box over a blue sphere, by the backend's own surfaces and placements."""
    device, generator = torch.device("cpu"), torch.Generator().manual_seed(0)
    results = []
    for slot, start, colour in SLOTS:
        scene = Scene([slot], RESOLUTION, device, generator, start)
        with torch.no_grad():
            (surface,) = scene.surfaces(training=False)
        field = graded(torch.tensor(colour))
        extras = {"prompt": slot.prompt, "seed": 0}
        results.append(SlotResult(slot.name, surface.vertices, surface.faces, scene.to_world(0), field, extras))
    return results


def graded(middle: Tensor) -> Any:
    """A colour field that is `middle` (3,) at the box's centre and changes along each axis in another channel."""

    def field(local: Tensor) -> Material:
        plain = torch.ones(len(local))
        return Material(middle + COLOUR_SLOPE * local, 0.9 * plain, 0.0 * plain)

    return field


def write(results: list[SlotResult], folder: Path) -> None:
    """Write scene.glb and expected.json into `folder`."""
    exported = export_scene(
        results, folder / "scene.glb", TEXTURE_PX, MAX_FACES, {"prompt": "a red cube on a blue sphere"}
    )
    expected = {
        "texture_px": TEXTURE_PX,
        "max_faces": MAX_FACES,
        "slots": [describe(*pair) for pair in zip(results, exported, strict=True)],
    }
    (folder / "expected.json").write_text(json.dumps(expected))


def describe(result: SlotResult, exported: ExportedSlot) -> dict[str, Any]:
    """What one object ought to be, from the mesh before the export; Blender's axes, metres, sRGB."""
    to_world = result.to_world.detach().double().numpy()
    world = trimesh.transform_points(result.vertices.detach().double().numpy(), to_world)
    mesh = trimesh.Trimesh(world, result.faces.numpy(), process=False)
    size = np.linalg.norm(to_world[:3, :3], axis=0)
    points, colours = sample_colours(result, exported, to_world)
    return {
        "name": result.name,
        "prompt": result.extras["prompt"],
        "rotation": (to_world[:3, :3] / size).tolist(),
        "origin": bottom_centre(result, to_world).tolist(),
        "low": mesh.bounds[0].tolist(),
        "high": mesh.bounds[1].tolist(),
        "volume": float(mesh.volume),
        "colour": np.median(colours, axis=0).tolist(),
        "points": points.tolist(),
        "point_colours": colours.tolist(),
    }


def bottom_centre(result: SlotResult, to_world: np.ndarray) -> np.ndarray:
    """World position of the middle of the lower side of the mesh's bounds along the box's own axes: (3,)."""
    local = result.vertices.detach().double().numpy()
    low, high = local.min(axis=0), local.max(axis=0)
    return trimesh.transform_points([[*((low + high) / 2)[:2], low[2]]], to_world)[0]


def sample_colours(result: SlotResult, exported: ExportedSlot, to_world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres of some of the exported faces and the colour field's answer there: (SAMPLES, 3) and (SAMPLES, 3)."""
    chosen = np.linspace(0, len(exported.faces) - 1, SAMPLES).astype(int)
    points = exported.vertices[exported.faces[chosen]].mean(axis=1)
    local = torch.from_numpy(trimesh.transform_points(points, np.linalg.inv(to_world))).float()
    with torch.no_grad():
        return points, result.colour(local).albedo.double().numpy()


if __name__ == "__main__":
    write(make_results(), Path(sys.argv[1]))
