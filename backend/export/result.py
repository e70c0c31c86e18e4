"""The files a run leaves: scene.glb, preview.png, turntable.gif, report.json."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrange.physics import Report, check_scene
from ..arrange.relations import bounds_of
from ..render.cameras import Cameras
from ..render.lighting import studio_lighting
from ..render.shade import ColourField, render
from ..render.views import framed
from ..scene.isosurface import Surface
from ..scene.mesh import Mesh, merge
from ..scene.slots import Scene
from ..schema import SceneRequest, Settings
from .files import written_together
from .glb import ExportedSlot, SlotResult, export_scene
from .pictures import write_contact_sheet, write_turntable
from .report import build_report, write_report

VIEWS = {"front": (0.0, 12.0), "right": (90.0, 12.0), "back": (180.0, 12.0), "left": (270.0, 12.0)}
THREE_QUARTER, ABOVE = (-35.0, 22.0), (-35.0, 55.0)
TURNTABLE_FRAMES = 36
GLB, SHEET, TURNTABLE, REPORT = "scene.glb", "preview.png", "turntable.gif", "report.json"
FILES = (SHEET, TURNTABLE, REPORT, GLB)
OnPart = Callable[[], None]
SUPERSAMPLING = 2  # pictures are rendered so much larger, then averaged


class Written(NamedTuple):
    """What was written, and what was found to be true of it."""

    files: tuple[Path, ...]
    checks: Report


def write_result(
    folder: Path,
    request: SceneRequest,
    settings: Settings,
    scene: Scene,
    rewards: dict[str, float],
    timings_s: dict[str, float],
    warnings: list[str],
    on_part: OnPart = lambda: None,
) -> Written:
    """Write all four files into `folder`, the GLB last: where that is, the others are.

    on_part: called before each object, each picture and at the end. An exception from it ends the writing, and what
    stood in the folder before is still there. Raises OutputError.
    """
    started = time.monotonic()
    index = {slot.name: i for i, slot in enumerate(request.slots)}
    with torch.no_grad(), written_together(folder, FILES) as stage:
        surfaces = scene.surfaces(training=False)
        exported = _export(stage / GLB, request, settings, scene, surfaces, rewards, on_part)
        made = {e.name: _written_mesh(e, scene, index[e.name]) for e in exported}
        context = _context(request, scene, surfaces)
        checks = check_scene(made | context, request.relations, fixed=context, ground=_ground(scene, made))
        subject = _subject(scene, [(made | context)[name] for name in index])
        _write_sheet(stage / SHEET, subject, settings.preview_px, on_part)
        _write_turn(stage / TURNTABLE, subject, settings.preview_px, on_part)
        report = build_report(
            request=request.model_dump(),
            settings=settings.model_dump(),
            seed=request.seed,
            models={"prior": settings.prior, "vlm": settings.vlm},
            timings_s=timings_s | {"export": time.monotonic() - started},
            slots=[e.summary() for e in exported],
            context=list(context),
            relations=[{**relation.model_dump(), "fulfilled": holds} for relation, holds in checks.relations],
            penetration_m3={" / ".join(pair): volume for pair, volume in checks.penetration_m3.items()},
            rewards=rewards,
            warnings=warnings,
        )
        write_report(report, stage / REPORT)
        on_part()
    return Written(tuple(folder / name for name in (GLB, SHEET, TURNTABLE, REPORT)), checks)


def _export(
    path: Path,
    request: SceneRequest,
    settings: Settings,
    scene: Scene,
    surfaces: list[Surface],
    rewards: dict[str, float],
    on_part: OnPart,
) -> list[ExportedSlot]:
    """What was written to the GLB: every slot that is no context."""
    provenance = {"prompt": request.prompt, "seed": request.seed, "preset": request.preset}
    results = [
        SlotResult(
            slot.name,
            surfaces[i].vertices,
            surfaces[i].faces,
            scene.to_world(i),
            lambda local, i=i: scene.material(i, local),  # type: ignore[misc]
            provenance
            | {"prompt": slot.prompt, "scene_prompt": request.prompt, "diorama_slot": slot.name, "rewards": rewards},
        )
        for i, slot in enumerate(request.slots)
        if slot.kind != "context"
    ]
    extras = provenance | {"generator": "Diorama", "settings": settings.model_dump()}
    return export_scene(
        results,
        path,
        settings.texture_px,
        settings.max_faces,
        extras,
        smoothing_steps=settings.smoothing_steps,
        on_part=on_part,
    )


def _context(request: SceneRequest, scene: Scene, surfaces: list[Surface]) -> dict[str, Mesh]:
    """The meshes that stay as they were, by slot name."""
    own = [(i, slot.name) for i, slot in enumerate(request.slots) if slot.kind == "context"]
    return {name: scene.slots[i].mesh(i, surfaces[i]) for i, name in own}


def _ground(scene: Scene, made: dict[str, Mesh]) -> dict[str, float]:
    """Height of the context below each object's middle, metres, by slot name; only where there is some."""
    middles = [torch.stack(bounds_of(mesh.vertices)).mean(0) for mesh in made.values()]
    below = scene.height_below(torch.stack(middles)).tolist()
    return {name: height for name, height in zip(made, below, strict=True) if math.isfinite(height)}


def _written_mesh(written: ExportedSlot, scene: Scene, index: int) -> Mesh:
    """The cleaned object as it stands in the file, with the places its colours are looked up at."""
    placement = scene.model(index).placement
    vertices = torch.from_numpy(written.vertices).to(placement.centre)
    faces = torch.from_numpy(written.faces).to(vertices.device)
    return Mesh(vertices, faces, torch.full_like(faces[:, 0], index), placement.to_local(vertices))


class _Subject(NamedTuple):
    """What pictures are taken of."""

    mesh: Mesh  # everything
    colour: ColourField
    low: Tensor  # (3,) metres, bounds of what is framed
    high: Tensor  # (3,)


def _subject(scene: Scene, placed: list[Mesh]) -> _Subject:
    bounds = [bounds_of(mesh.vertices) for mesh in placed]
    low, high = scene.in_view(torch.stack([b.low for b in bounds]), torch.stack([b.high for b in bounds]))
    return _Subject(merge(placed), scene.colour, low, high)


def _write_sheet(path: Path, subject: _Subject, px: int, on_part: OnPart) -> None:
    angles = [THREE_QUARTER, *VIEWS.values(), ABOVE]
    captions = ["three-quarter", *VIEWS, "from above"]
    azimuth_deg, elevation_deg = torch.tensor(angles, device=subject.low.device).unbind(1)
    write_contact_sheet(_photograph(subject, azimuth_deg, elevation_deg, px, on_part), path, captions, columns=3)


def _write_turn(path: Path, subject: _Subject, px: int, on_part: OnPart) -> None:
    azimuth_deg = torch.arange(TURNTABLE_FRAMES, device=subject.low.device) * (360.0 / TURNTABLE_FRAMES) - 35.0
    write_turntable(_photograph(subject, azimuth_deg, torch.full_like(azimuth_deg, 18.0), px, on_part), path)


def _photograph(
    subject: _Subject, azimuth_deg: Tensor, elevation_deg: Tensor, px: int, on_part: OnPart
) -> list[NDArray]:
    """One (H, W, 3) array a view, rendered view by view: a whole turn at once would not fit a small GPU."""
    large, frames = px * SUPERSAMPLING, []
    for azimuth, elevation in zip(azimuth_deg % 360.0, elevation_deg, strict=True):
        on_part()
        cameras: Cameras = framed(subject.low, subject.high, azimuth[None], elevation[None], zoom=0.95)
        lighting = studio_lighting(cameras, (subject.low + subject.high) / 2)
        rgb = render(subject.mesh, subject.colour, cameras, lighting, large, large).rgb
        small = torch.nn.functional.avg_pool2d(rgb.permute(0, 3, 1, 2), SUPERSAMPLING)
        frames.append(small[0].permute(1, 2, 0).cpu().numpy())
    return frames
