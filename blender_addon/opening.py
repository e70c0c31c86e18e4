"""Files and folders shown by the system's own programs, without waiting for those. Never imports bpy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .messages import BackendError
from .processes import WINDOWS


def open_path(path: Path) -> None:
    """Nothing; the system opens the path in whatever it has for it. Returns at once, where Blender's `wm.path_open`
    waits on Linux until that program is closed. Raises BackendError.
    """
    try:
        if WINDOWS:
            os.startfile(path)  # type: ignore[attr-defined]
            return
        opener = "open" if sys.platform == "darwin" else "xdg-open"
        if shutil.which(opener) is None:
            raise BackendError(f"There is no program '{opener}' that could show files", str(path), "Open it by hand")
        # The shell ends at once and hands the program to the system, which buries it: nobody here has to.
        subprocess.run(
            ["/bin/sh", "-c", f'{opener} "$0" &', str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BackendError(f"It cannot be shown: {error}", str(path), "Open it by hand") from error
