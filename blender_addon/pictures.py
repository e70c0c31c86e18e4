"""Pictures of jobs as icons that a panel can draw."""

from pathlib import Path

import bpy.utils.previews


class Pictures:
    """Icons by job id. Blender reads a file when the icon is drawn first."""

    def __init__(self) -> None:
        self._icons = bpy.utils.previews.new()
        self._stamps: dict[str, int] = {}

    def show(self, id: str, path: Path) -> None:
        """Take the picture at `path` for the job; again, when the file has changed."""
        try:
            stamp = path.stat().st_mtime_ns
        except OSError:
            return
        if id not in self._icons:
            self._icons.load(id, str(path), "IMAGE")
        elif self._stamps.get(id) != stamp:
            self._icons[id].reload()
        self._stamps[id] = stamp

    def has(self, id: str) -> bool:
        """True when there is a picture of the job."""
        return id in self._icons

    def icon(self, id: str) -> int:
        """The number of the job's icon, 0 where it has no picture."""
        return self._icons[id].icon_id if id in self._icons else 0

    def close(self) -> None:
        bpy.utils.previews.remove(self._icons)
