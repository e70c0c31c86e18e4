"""Warp made ready for torch tensors: started once and quietly, on the device the kernels can run on."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import warp as wp
from torch import Tensor


def kernel_device(device: torch.device) -> torch.device:
    """The device kernels run on for tensors of `device`: itself for CPU and CUDA, the CPU for what Warp lacks (MPS)."""
    return device if device.type in ("cpu", "cuda") else torch.device("cpu")


def launch(kernel: wp.Kernel, dim: tuple[int, ...], inputs: Sequence[Any], device: torch.device) -> None:
    """Runs `kernel` over `dim` threads, in step with torch's current stream. Tensors among `inputs` are shared."""
    _start()
    shared = [_share(value) if isinstance(value, Tensor) else value for value in inputs]
    stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None
    wp.launch(kernel, dim=dim, inputs=shared, device=wp.device_from_torch(device), stream=stream)


def query_mesh(vertices: Tensor, faces: Tensor) -> wp.Mesh:
    """A mesh whose `id` kernels can query, with winding numbers. vertices: (V, 3) float32. faces: (F, 3) int32.

    Both on a device of `kernel_device`, contiguous; they are shared, so they must not change.
    """
    _start()
    points = wp.from_torch(vertices, dtype=wp.vec3, requires_grad=False)
    indices = wp.from_torch(faces.view(-1))
    if vertices.device.type != "cuda":
        return wp.Mesh(points, indices, support_winding_number=True)
    with wp.ScopedStream(wp.stream_from_torch(torch.cuda.current_stream(vertices.device))):
        return wp.Mesh(points, indices, support_winding_number=True)


def _share(tensor: Tensor) -> wp.array:
    # int64 stands for uint64, which torch can store but not compare on every device.
    dtype = wp.uint64 if tensor.dtype == torch.int64 else wp.dtype_from_torch(tensor.dtype)
    return wp.from_torch(tensor, dtype=dtype, requires_grad=False)


@functools.cache
def _start() -> None:
    wp.config.log_level = wp.LOG_WARNING  # no banner, no line per compiled module
    with contextlib.nullcontext() if torch.cuda.is_available() else _no_stderr():
        wp.init()


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Silences the process's stderr: on a machine without CUDA, Warp's C++ prints a warning that no setting stops."""
    try:
        saved = os.dup(2)
    except OSError:  # a process without stderr, such as a windowed one, has nothing to silence
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(null)
        os.close(saved)
