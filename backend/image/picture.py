"""The user's picture: read, checked, turned into what the prior takes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..errors import RequestError
from .size import check_size

# What Pillow's readers raise for damaged files, beside OSError.
DAMAGED = (SyntaxError, ValueError, TypeError, LookupError, RuntimeError, OverflowError, EOFError, struct.error)
ORIENTATION = 0x0112  # EXIF
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_picture(path: Path) -> tuple[Tensor, list[str]]:
    """The picture (1, H, W, 3), sRGB in [0, 1], and what was changed in reading it, one line each.

    Turned upright by its EXIF tag. 16 bits become 8, transparent parts white, of an animation the first frame counts:
    each with a line that says so. Raises RequestError when it is not a picture, too small, too large or too long.
    """
    where = str(path)
    try:
        with Image.open(path) as file:
            check_size(*file.size, where)
            notes = _notes(file, path)
            file.load()
            values = _rgb(_upright(file), where)
    except RequestError:
        raise
    except Image.DecompressionBombError as error:
        raise RequestError("has too many pixels", where=where, remedy="Scale it down to 8192 px or less") from error
    except UnidentifiedImageError as error:
        raise RequestError("is not a picture", where=where, remedy="Give a PNG, JPEG, WebP or TIFF file") from error
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise RequestError(what, where=where, remedy="Check the path, or save the picture anew") from error
    except DAMAGED as error:
        raise RequestError(f"is damaged: {error}", where=where, remedy="Save the picture anew") from error
    return torch.from_numpy(values)[None], notes


def fit_picture(picture: Tensor, edge_px: int, multiple_px: int) -> Tensor:
    """The picture (1, H, W, 3) scaled to about edge_px^2 pixels, its aspect kept up to sides that are multiples.

    edge_px: of the pictures the prior was trained on. multiple_px: what its networks halve away.
    """
    height, width = picture.shape[1:3]
    factor = edge_px / (height * width) ** 0.5
    size = [max(multiple_px, round(side * factor / multiple_px) * multiple_px) for side in (height, width)]
    if size == [height, width]:
        return picture
    planes = torch.nn.functional.interpolate(picture.permute(0, 3, 1, 2), size, mode="bicubic", antialias=True)
    return planes.permute(0, 2, 3, 1).clamp(0, 1)


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF tag says. Pillow's own also writes the other tags anew, and fails on odd ones."""
    method = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    if method is None:
        return image
    turned = image.transpose(method)
    turned.info = image.info  # whether it has transparent parts
    return turned


def _notes(file: Image.Image, path: Path) -> list[str]:
    notes = []
    if file.mode.startswith("I;16") or file.mode == "I" or _png_bits(path) == 16:
        notes.append("the picture has 16 bits a channel; it is edited with 8")
    if file.has_transparency_data:
        notes.append("the picture has an alpha channel; what is transparent is edited as white and comes out opaque")
    if getattr(file, "n_frames", 1) > 1:
        notes.append("the picture is animated; its first frame is edited")
    return notes


def _rgb(image: Image.Image, where: str) -> NDArray[np.float32]:
    """(H, W, 3) float32 in [0, 1] over white."""
    if image.mode == "F":
        raise RequestError(
            "holds floating-point values, whose colour space is not known",
            where=where,
            remedy="Save it as an 8-bit or 16-bit sRGB PNG",
        )
    if image.mode == "I" or image.mode.startswith("I;16"):  # Pillow's own conversion would clip it to white
        grey = np.asarray(image, np.float32) / 65535.0
        if grey.max() > 1.0:
            remedy = "Save it as an 8-bit or 16-bit sRGB PNG"
            raise RequestError("has more than 16 bits a channel", where=where, remedy=remedy)
        if isinstance(clear := image.info.get("transparency"), int):
            grey[np.asarray(image) == clear] = 1.0
        return np.repeat(grey.clip(0.0, 1.0)[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"), np.float32) / 255.0


def _png_bits(path: Path) -> int:
    """Bits a channel of a PNG file, 0 for other files: Pillow does not tell that it dropped half of them."""
    with open(path, "rb") as file:
        head = file.read(25)
    return head[24] if head.startswith(b"\x89PNG") and len(head) == 25 else 0
