"""A table of FlexiCubes timings on the CPU; Kaolin's columns are filled where it is installed.

python -m tests.bench.flexicubes [THREADS]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch

from backend.scene.flexicubes import extract
from backend.scene.isosurface import extract_with_kaolin, kaolin_is_installed, make_grid


def best_ms(action: Callable[[], object], repeats: int) -> float:
    """The shortest of several runs, in milliseconds: other load on the machine only ever adds."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def row(n: int, operators: list[Callable]) -> list[float]:
    """Grid building, then for each operator the forward pass and forward with backward, for a sphere in n^3 cubes."""
    grid = make_grid((n, n, n), "cpu")
    sdf = grid.vertices.norm(dim=1) - 0.35
    weights = torch.zeros(grid.cubes.shape[0], 21)
    inputs = [x.requires_grad_() for x in (sdf, torch.zeros_like(grid.vertices), weights)]
    times = [best_ms(lambda: make_grid((n, n, n), "cpu"), 5)]
    for operator in operators:

        def both(operator: Callable = operator) -> None:
            surface = operator(grid, *inputs)
            torch.autograd.grad(surface.vertices.square().sum() + surface.l_dev, inputs)

        repeats = 30 if operator is extract else 5
        times += [best_ms(lambda operator=operator: operator(grid, *inputs), repeats), best_ms(both, repeats)]
    return times


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    operators = [extract, extract_with_kaolin] if kaolin_is_installed() else [extract]
    names = ["grid", "forward", "+ backward", "Kaolin fwd", "+ backward", "fwd ratio"]
    print(f"FlexiCubes of a sphere, training mesh, CPU, {torch.get_num_threads()} thread(s), best run, ms")
    print(f"{'cubes':>6}" + "".join(f"{name:>12}" for name in names[: 6 if len(operators) == 2 else 3]))
    for n in (24, 32, 48, 64, 96):
        times = row(n, operators)
        ratio = f"{times[3] / times[1]:>12.1f}" if len(operators) == 2 else ""
        print(f"{n:>4}^3" + "".join(f"{t:>12.1f}" for t in times) + ratio, flush=True)


if __name__ == "__main__":
    main()
