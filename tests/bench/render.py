"""A table of rendering times, forward and backward: faces x views x resolution.

python -m tests.bench.render [THREADS]
"""

from __future__ import annotations

import sys
import time

import torch

from backend.render.cameras import Cameras
from backend.render.shade import Lighting, render
from backend.scene.mesh import Mesh
from tests.render_reference import around, ball, daylight, patterned, single

SUBDIVISIONS = (3, 4, 5)  # of a sphere: 1,280, 5,120 and 20,480 faces
VIEWS = (1, 4, 8)
SIZES = (64, 128, 256)
REPEATS = 7


def times_ms(mesh: Mesh, cameras: Cameras, lighting: Lighting, size: int) -> tuple[float, float]:
    """Forward and backward, the shortest of several runs: other load on the machine only ever adds."""
    forward, backward = [], []
    for _ in range(REPEATS + 1):
        vertices = mesh.vertices.clone().requires_grad_()
        start = time.perf_counter()
        frames = render(mesh._replace(vertices=vertices), patterned, cameras, lighting, size, size)
        loss = frames.rgb.square().mean() + frames.alpha.mean() + frames.normal.square().mean()
        middle = time.perf_counter()
        loss.backward()
        forward.append(middle - start)
        backward.append(time.perf_counter() - middle)
    return 1000 * min(forward), 1000 * min(backward)


def main(threads: int) -> None:
    """Prints the table."""
    torch.set_num_threads(threads)
    print(f"render, CPU, {threads} thread(s), shortest of {REPEATS}, ms")
    print(f"{'faces':>7} {'views':>6} {'pixels':>7} {'forward':>9} {'backward':>9}")
    for subdivisions in SUBDIVISIONS:
        mesh = single(ball(subdivisions))
        for views in VIEWS:
            azimuths = [360.0 * i / views for i in range(views)]
            cameras, lighting = single(around(azimuths, radius=0.55)), single(daylight(views))
            for size in SIZES:
                forward, backward = times_ms(mesh, cameras, lighting, size)
                print(f"{len(mesh.faces):>7} {views:>6} {size:>7} {forward:>9.1f} {backward:>9.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
