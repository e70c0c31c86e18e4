"""Where the backend is, as the user chose it, and the folders that belong to the add-on."""

from pathlib import Path

import bpy
from bpy.props import EnumProperty, StringProperty

from . import layouts
from .link import Config

LOCATIONS = (
    ("INSTALL", "Install One for Me", "An environment of its own in the extension's user folder", "IMPORT", 0),
    ("PYTHON", "Use This Python", "A Python that has the backend's requirements", "CONSOLE", 1),
    ("REMOTE", "Remote Backend", "A backend that runs on another machine", "URL", 2),
)
DEVICES = (
    ("auto", "Automatic", "A GPU where there is one"),
    ("cpu", "CPU", "Slow, and runs everywhere"),
    ("cuda", "CUDA", "An NVIDIA GPU"),
    ("mps", "Metal", "An Apple GPU"),
)
BUILDS = (
    ("AUTO", "Automatic", "CUDA where an NVIDIA GPU is found, else CPU"),
    ("CPU", "CPU", "Runs everywhere, slowly"),
    ("CUDA", "CUDA", "About 5 GB to download; needs an NVIDIA GPU"),
)


def _changed(preferences: "DioramaPreferences", context: bpy.types.Context) -> None:
    from . import jobs  # jobs needs config() below

    jobs.settings_changed()


class DioramaPreferences(bpy.types.AddonPreferences):
    bl_idname = __package__

    location: EnumProperty(name="Backend", items=LOCATIONS, update=_changed)
    build: EnumProperty(name="Build", description="Which PyTorch is installed", items=BUILDS)
    torch_index: StringProperty(
        name="PyTorch Index",
        description="Where pip finds the build of PyTorch that you want: the address, or the whole command that "
        "pytorch.org shows for it",
    )
    python: StringProperty(name="Python", subtype="FILE_PATH", update=_changed)
    address: StringProperty(name="Address", description="Such as http://192.168.1.20:8000", default="", update=_changed)
    token: StringProperty(
        name="Token",
        description="What stands in the remote data folder's file 'token'",
        subtype="PASSWORD",
        update=_changed,
    )
    device: EnumProperty(name="Device", items=DEVICES, update=_changed)

    def draw(self, context: bpy.types.Context) -> None:
        layouts.draw_preferences(self.layout, self, context)


def preferences() -> DioramaPreferences | None:
    """The add-on's preferences; None where Blender enabled it for this session only (`--addons`)."""
    entry = bpy.context.preferences.addons.get(__package__)
    return entry.preferences if entry is not None else None


def user_folder() -> Path:
    """The folder for everything the add-on writes; never inside the extension."""
    if __package__.startswith("bl_ext."):
        return Path(bpy.utils.extension_path_user(__package__, path="", create=True))
    return Path(bpy.utils.user_resource("DATAFILES", path="diorama", create=True))  # installed as a legacy add-on


def config() -> Config:
    """A copy of what a thread needs to know of the preferences."""
    chosen = preferences()
    if chosen is None:
        return Config(
            "INSTALL", "", "", "", "auto", None, "", user_folder(), Path(__file__).parent, bpy.app.online_access
        )
    python = bpy.path.abspath(chosen.python) if chosen.python else ""
    return Config(
        location=chosen.location,
        python=python,
        address=chosen.address.strip(),
        token=chosen.token.strip(),
        device=chosen.device,
        cuda={"AUTO": None, "CPU": False, "CUDA": True}[chosen.build],
        torch_index=chosen.torch_index.strip(),
        home=user_folder(),
        addon=Path(__file__).parent,
        online=bpy.app.online_access,
    )
