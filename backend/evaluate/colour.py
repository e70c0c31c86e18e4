"""An object's colour word, read from its texture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..starter.shapes import COLOURS, parts_of
from .things import Match, Thing, texels

LIGHTNESS = 0.5  # how much a difference in lightness counts beside one in hue: a dark red is a red


def dominant_colour(thing: Thing, noun: str | None = None, samples: int = 4000) -> Match:
    """The colour word that most of the surface is nearest to, and its share of the surface.

    The noun's accents (a tree's trunk) compete for the surface but cannot win.
    """
    corners = thing.vertices[thing.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    rng = np.random.default_rng(0)
    face = rng.choice(len(area), samples, p=area / area.sum())
    uv = (rng.dirichlet((1, 1, 1), samples)[:, :, None] * thing.uv[face]).sum(1)
    names = nearest_colours(texels(thing.texture, uv) / 255.0, noun)
    counts = {name: names.count(name) for name in COLOURS}
    best = max(counts, key=counts.__getitem__)
    return Match(best, counts[best] / samples) if counts[best] else Match(None, 0.0)


def nearest_colours(srgb: NDArray, noun: str | None = None) -> list[str]:
    """The nearest colour word of each row of (N, 3) in [0, 1], by CIELAB with lightness halved; "" for an accent."""
    accents = [part.accent for part in parts_of(noun, np.random.default_rng(0)) if part.accent] if noun else []
    table = _lab(np.array([*COLOURS.values(), *accents])) * (LIGHTNESS, 1, 1)
    distance = np.linalg.norm(_lab(srgb)[:, None] * (LIGHTNESS, 1, 1) - table, axis=-1)
    words = [*COLOURS, *[""] * len(accents)]
    return [words[i] for i in distance.argmin(1)]


def _lab(srgb: NDArray) -> NDArray:
    """CIELAB (CIE 15, D65 white) of sRGB in [0, 1]: (..., 3)."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ (to_xyz / to_xyz.sum(1, keepdims=True)).T
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)
