"""What a Qwen-VL image processor does, in differentiable torch: resize, normalise, cut into patches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import ModelError
from .resize import resize


class Preprocessing(NamedTuple):
    """The numbers of a `preprocessor_config.json`."""

    patch: int  # edge of a patch, pixels
    merge: int  # patches along the edge of one image token
    frames: int  # a still picture is repeated this many times
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    min_pixels: int  # pictures are scaled up to this many pixels
    max_pixels: int  # and down to this many

    def within(self, edge_px: int | None) -> Preprocessing:
        """The same, showing no picture larger than a square of `edge_px`. None: as large as the model's own bounds."""
        if edge_px is None:
            return self
        most = min(self.max_pixels, edge_px**2)
        return self._replace(min_pixels=min(self.min_pixels, most), max_pixels=most)


def read_preprocessing(folder: Path) -> Preprocessing:
    """The preprocessing a model folder asks for. Raises ModelError when its file is missing or says too little."""
    path = folder / "preprocessor_config.json"
    try:
        config = _processor_config(path)
        size = config.get("size", {})
        return Preprocessing(
            config["patch_size"],
            config["merge_size"],
            config["temporal_patch_size"],
            tuple(config["image_mean"]),
            tuple(config["image_std"]),
            config.get("min_pixels") or size["shortest_edge"],
            config.get("max_pixels") or size["longest_edge"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"cannot be read ({type(error).__name__}: {error})",
            where=str(path),
            remedy="Download the model again, with all its files",
        ) from error


def _processor_config(path: Path) -> dict[str, Any]:
    """The image processor's numbers; newer folders keep them inside processor_config.json."""
    newer = path.with_name("processor_config.json")
    if not path.is_file() and newer.is_file():
        return json.loads(newer.read_text(encoding="utf-8"))["image_processor"]
    return json.loads(path.read_text(encoding="utf-8"))


def fitted_size(height: int, width: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Height and width in pixels after resizing: multiples of a token's edge, area within the bounds, aspect kept."""
    step = preprocessing.patch * preprocessing.merge
    rows, columns = round(height / step) * step, round(width / step) * step
    area = height * width
    if rows * columns > preprocessing.max_pixels:
        shrink = (area / preprocessing.max_pixels) ** 0.5
        rows, columns = int(height / shrink / step) * step, int(width / shrink / step) * step
    elif rows * columns < preprocessing.min_pixels:
        grow = (preprocessing.min_pixels / area) ** 0.5
        rows, columns = -int(-height * grow // step) * step, -int(-width * grow // step) * step
    return max(step, rows), max(step, columns)


def to_patches(images: Tensor, preprocessing: Preprocessing, rounded: bool = True) -> tuple[Tensor, Tensor]:
    """`pixel_values` (P, C T p p) and `image_grid_thw` (N, 3) int64, differentiable in the images.

    images: (N, H, W, 3) sRGB in [0, 1]. Patches come image by image, those of one token next to each other.
    rounded: what a resize gives is rounded to bytes, as the official processors do; the gradient is that without
    rounding. Pictures that need no resize are never rounded.
    """
    count, height, width, channels = images.shape
    rows, columns = fitted_size(height, width, preprocessing)
    planes = resize(images.permute(0, 3, 1, 2), rows, columns, rounded)
    mean = torch.tensor(preprocessing.mean, device=images.device)[:, None, None]
    std = torch.tensor(preprocessing.std, device=images.device)[:, None, None]
    planes = (planes - mean) / std
    p, m, t = preprocessing.patch, preprocessing.merge, preprocessing.frames
    blocks = planes.reshape(count, channels, rows // (p * m), m, p, columns // (p * m), m, p)
    blocks = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7)  # image, token row, token column, patch row, column, C, p, p
    still = blocks[..., None, :, :].expand(*blocks.shape[:6], t, p, p)
    grid = torch.tensor([[1, rows // p, columns // p]], device=images.device).expand(count, 3)
    return still.reshape(-1, channels * t * p * p), grid
