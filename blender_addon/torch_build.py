"""Which build of PyTorch pip brings, and how the user chooses another. Never imports bpy."""

import platform
import re
import sys

from .messages import BackendError

SELECTOR = "https://pytorch.org/get-started/locally/"  # shows the address for a system and a build


def pip_brings_cuda() -> bool:
    """Whether the usual PyTorch for this system has CUDA inside: several GB that a machine without a GPU never uses."""
    return sys.platform.startswith("linux") and platform.machine() in ("x86_64", "AMD64")


def index_address(typed: str) -> str:
    """The address in what the user typed, which may be the whole command that pytorch.org shows; "" for nothing.

    Raises BackendError where there is none.
    """
    if not typed.strip():
        return ""
    found = re.findall(r"\b(?:https?|file)://\S+", typed)
    if not found:
        what, remedy = (
            f"{typed.strip()!r:.60} is no address",
            "Copy the command that pytorch.org shows, or leave it empty",
        )
        raise BackendError(what, "PyTorch Index in the preferences", remedy, "settings")
    return found[-1].rstrip("'\"")


def advice(build: str) -> str:
    """What to know before the installation, for the build AUTO, CPU or CUDA; "" where nothing is to be chosen."""
    if pip_brings_cuda() and build != "CUDA":
        return (
            "Without an NVIDIA GPU, paste here the command that pytorch.org shows for Linux, Pip and CPU: "
            "about 1 GB to download. Left empty, PyTorch may come with CUDA, about 5 GB"
        )
    if sys.platform == "win32" and build != "CPU":
        return (
            "For an NVIDIA GPU, paste here the command that pytorch.org shows for Windows, Pip and CUDA: about 5 GB "
            "to download. Left empty, PyTorch comes for the CPU, about 1 GB"
        )
    return ""
