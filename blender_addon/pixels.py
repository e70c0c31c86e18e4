"""A picture's pixels as Blender holds them, and the PNG of them. Never imports bpy; numpy comes with Blender."""

from typing import Any, NamedTuple

import numpy as np

from . import png

SENT_PX = 1024  # a picture is halved, thirded, ... while its longer side stays at least so long: models see less


class Pixels(NamedTuple):
    """One picture."""

    width: int
    height: int
    values: Any  # (height * width * channels,) float32, the bottom row first
    channels: int  # 1 grey, 3 RGB, 4 RGBA
    linear: bool  # scene-linear light instead of sRGB
    premultiplied: bool  # colours were multiplied by alpha

    def png(self) -> bytes:
        """The picture as PNG, 8 bits a channel, sRGB; smaller where it is larger than any model sees."""
        rows = self.values.reshape(self.height, self.width, self.channels)[::-1]
        rows = _reduced(rows, max(1, max(self.width, self.height) // SENT_PX))
        colours, alpha = rows[..., :3], rows[..., 3:]
        if self.channels == 1:
            colours = np.repeat(rows, 3, axis=2)
        if self.premultiplied:
            colours = colours / np.maximum(alpha, 1e-6)
        if self.linear:
            colours = _srgb(colours)
        opaque = alpha.size == 0 or alpha.min() >= 1.0
        picture = colours if opaque else np.concatenate([colours, alpha], axis=2)
        return png.write(np.rint(np.nan_to_num(picture).clip(0.0, 1.0) * 255.0).astype(np.uint8))


def _reduced(rows: Any, factor: int) -> Any:
    """The mean of each block of factor x factor pixels; what is left over at the edges is dropped."""
    if factor == 1:
        return rows
    height, width = (side // factor for side in rows.shape[:2])
    blocks = rows[: height * factor, : width * factor].reshape(height, factor, width, factor, -1)
    return blocks.mean(axis=(1, 3), dtype=np.float32)


def _srgb(linear: Any) -> Any:
    """IEC 61966-2-1's curve, of light in [0, 1]."""
    light = np.nan_to_num(linear).clip(0.0, 1.0)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
