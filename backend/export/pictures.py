"""Pictures that stand beside a result: the contact sheet and the turntable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .files import atomic_write

MARGIN_PX = 8
CAPTION_PX = 13
PAPER, INK = (245, 245, 243), (60, 60, 60)


def contact_sheet(frames: Sequence[NDArray], captions: Sequence[str] = (), columns: int | None = None) -> Image.Image:
    """The frames in a grid, each with its caption below it; no captions, no room for them.

    frames: (H, W, 3) float, sRGB in [0, 1], all of one size. columns: as square as possible when None.
    """
    assert frames and (not captions or len(captions) == len(frames))
    pictures = [_picture(frame) for frame in frames]
    width, height = pictures[0].size
    assert all(picture.size == (width, height) for picture in pictures), "frames differ in size"
    columns = columns or math.ceil(math.sqrt(len(frames)))
    rows = math.ceil(len(frames) / columns)
    cell_width, cell_height = width + MARGIN_PX, height + MARGIN_PX + (CAPTION_PX if captions else 0)
    sheet = Image.new("RGB", (columns * cell_width + MARGIN_PX, rows * cell_height + MARGIN_PX), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    for index, picture in enumerate(pictures):
        x, y = MARGIN_PX + index % columns * cell_width, MARGIN_PX + index // columns * cell_height
        sheet.paste(picture, (x, y))
        if captions:
            draw.text((x, y + height + 1), _fit(captions[index], font, width), fill=INK, font=font)
    return sheet


def write_contact_sheet(
    frames: Sequence[NDArray], path: Path, captions: Sequence[str] = (), columns: int | None = None
) -> None:
    """Write `contact_sheet` as PNG; OutputError when it cannot be written."""
    sheet = contact_sheet(frames, captions, columns)
    with atomic_write(path) as file:
        sheet.save(file, "PNG")


def write_turntable(frames: Sequence[NDArray], path: Path, seconds_per_turn: float = 4.0) -> None:
    """Write the frames as a GIF that loops for ever; OutputError when it cannot be written.

    frames: (H, W, 3) float, sRGB in [0, 1], one turn. One palette serves all frames and nothing is dithered, so that
    still parts of the picture stand still.
    """
    assert frames
    pictures = [_picture(frame) for frame in frames]
    strip = Image.fromarray(np.concatenate([np.asarray(picture) for picture in pictures]))
    palette = strip.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    indexed = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    # GIF counts hundredths of a second, and viewers slow down what is faster than two of them.
    frame_ms = max(20, round(seconds_per_turn * 100 / len(frames)) * 10)
    with atomic_write(path) as file:
        indexed[0].save(
            file, "GIF", save_all=True, append_images=indexed[1:], duration=frame_ms, loop=0, disposal=1, optimize=False
        )


def _picture(frame: NDArray) -> Image.Image:
    assert frame.ndim == 3 and frame.shape[2] == 3, f"expected (H, W, 3), got {frame.shape}"
    values = np.nan_to_num(np.asarray(frame, np.float64), nan=0.0)
    return Image.fromarray(np.round(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8))


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
