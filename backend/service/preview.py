"""The picture of a job that runs."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..errors import OutputError
from ..export.files import atomic_write
from ..export.pictures import contact_sheet

WIDTH_PX = 384  # smaller sheets are enlarged to about this
QUALITY = 88


def write_preview(pictures: Tensor, path: Path) -> bool:
    """Whether the views were written as one JPEG, whole or not at all.

    pictures: (B, H, W, 3) sRGB in [0, 1]. A picture that cannot be written, on a full disk or while somebody reads it
    on Windows, is no reason to end a run.
    """
    sheet = contact_sheet(list(pictures.detach().cpu().numpy()))
    factor = max(1, round(WIDTH_PX / sheet.width))
    large = sheet.resize((sheet.width * factor, sheet.height * factor), Image.Resampling.BICUBIC)
    try:
        with atomic_write(path) as file:
            large.save(file, "JPEG", quality=QUALITY)
    except OutputError as error:
        print(error, file=sys.stderr)
        return False
    return True
