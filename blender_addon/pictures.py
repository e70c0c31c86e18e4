"""Pictures of jobs as icons that a panel can draw."""

from pathlib import Path

import bpy.utils.previews

MOST = 300  # pictures in memory, 256 kB each; then all are forgotten but the newest


class Pictures:
    """Icons by job id. Blender reads a file when the icon is drawn first, and draws nothing until then."""

    def __init__(self) -> None:
        self._icons = bpy.utils.previews.new()
        self._keys: dict[str, str] = {}

    def show(self, id: str, path: Path) -> None:
        """Take the picture at `path` for the job; again, when the file has changed."""
        try:
            stamp = path.stat().st_mtime_ns
        except OSError:
            return
        key = f"{id} {path.name} {stamp}"
        if key not in self._icons:
            if len(self._icons) >= MOST:
                self._icons.clear()
                self._keys.clear()
            preview = self._icons.load(key, str(path), "IMAGE")
            if id in self._keys:
                tuple(preview.image_size)  # has it read now, 7 ms: a live picture would blink
        self._keys[id] = key

    def has(self, id: str) -> bool:
        """True when there is a picture of the job."""
        return id in self._keys

    def icon(self, id: str) -> int:
        """The number of the job's icon, 0 where it has no picture."""
        return self._icons[self._keys[id]].icon_id if id in self._keys else 0

    def close(self) -> None:
        bpy.utils.previews.remove(self._icons)
