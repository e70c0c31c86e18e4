"""What is installed, what is missing, and what to do about it: `python -m backend doctor`."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

OLDEST_PYTHON = (3, 11)
OLDEST_TORCH = (2, 6)
PACKAGES = (  # by the names they are imported by
    *("diffusers", "transformers", "huggingface_hub", "tokenizers", "safetensors", "peft", "xatlas", "trimesh"),
    *("pydantic", "numpy", "scipy", "PIL", "fast_simplification"),
    *("fastapi", "starlette", "uvicorn", "python_multipart"),
)
NEEDED_MEMORY = 4 * 2**30  # bytes: the starter preset's peak with room to spare
NEEDED_DISK = 2**30  # bytes: results, checkpoints and Warp's kernel cache
STARTER_WEIGHTS = Path(__file__).parent / "starter" / "weights"
INSTALL = "Run: python -m pip install -r requirements/cpu.txt (with an NVIDIA GPU: requirements/cuda.txt)"

BITSANDBYTES = (0, 46, 1)  # the oldest that transformers takes
GET_BITSANDBYTES = f'python -m pip install "bitsandbytes>={".".join(map(str, BITSANDBYTES))}"'

KAOLIN = "0.18.0"
KAOLIN_PAGE = "https://nvidia-kaolin.s3.us-east-2.amazonaws.com/torch-{torch}_cu{cuda}.html"  # NVIDIA's own wheel page
KAOLIN_WHEELS = {  # torch: the CUDA builds that Kaolin's installation notes list wheels for
    "2.6.0": ("118", "124", "126"),
    "2.7.0": ("118", "126", "128"),
    "2.7.1": ("118", "126", "128"),
    "2.8.0": ("126", "128", "129"),
}


class Check(NamedTuple):
    """One line of the report. An empty remedy means that there is nothing to do."""

    name: str  # what was looked at
    ok: bool  # False: generating cannot work until the remedy is done
    text: str  # what was found
    remedy: str  # what to do; beside ok=True it is advice


def diagnose(weights: Path = STARTER_WEIGHTS, out: Path | None = None) -> list[Check]:
    """All checks, in the order they are printed; runs without torch too. `out`: where results are to be written."""
    return [
        check_python(sys.version_info[:3]),
        check_torch(),
        check_device(),
        check_warp(),
        check_kaolin(),
        check_four_bit(),
        check_packages(PACKAGES),
        check_model("prior", weights / "prior"),
        check_model("vlm", weights / "vlm"),
        check_disk(out or Path.cwd()),
    ]


def print_report(checks: list[Check] | None = None) -> int:
    """0 where everything needed is fine, else 1; prints one line a check, and its remedy under it."""
    checks = diagnose() if checks is None else checks
    for check in checks:
        mark = "FAIL" if not check.ok else "note" if check.remedy else "ok"
        print(f"{mark:5}{check.name:13}{check.text}")
        if check.remedy:
            print(f"{'':18}-> {check.remedy}")
    failed = [check.name for check in checks if not check.ok]
    print(f"\nNot ready: {', '.join(failed)}" if failed else "\nReady to generate.")
    return 1 if failed else 0


def check_python(version: tuple[int, ...]) -> Check:
    """Whether Python is new enough."""
    text = ".".join(map(str, version))
    wanted = ".".join(map(str, OLDEST_PYTHON))
    ok = version >= OLDEST_PYTHON
    return Check("Python", ok, text, "" if ok else f"Make the environment anew with Python {wanted} or newer")


def check_torch() -> Check:
    """Whether torch can be imported and is new enough."""
    torch, fault = _try_import("torch")
    if torch is None:
        return Check("torch", False, fault, INSTALL)
    version = _release(torch.__version__)
    ok = tuple(map(int, version.split(".")[:2])) >= OLDEST_TORCH
    wanted = ".".join(map(str, OLDEST_TORCH))
    return Check("torch", ok, torch.__version__, "" if ok else f"torch {wanted} or newer is needed. {INSTALL}")


def check_device() -> Check:
    """The device that `--device auto` takes, with its memory."""
    torch, _ = _try_import("torch")
    if torch is None:
        return Check("device", False, "unknown without torch", INSTALL)
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        text = f"cuda: {torch.cuda.get_device_name()}, {_gib(free)} of {_gib(total)} free"
        enough = free >= NEEDED_MEMORY
        return Check(
            "device", True, text, "" if enough else "Close other programs that use the GPU, or take --device cpu"
        )
    memory = _physical_memory()
    known = f"{_gib(memory)} of memory" if memory else "memory not known on this system"
    advice = ""
    if memory and memory < NEEDED_MEMORY:
        advice = f"Less than {_gib(NEEDED_MEMORY)}: close other programs, or expect the run to be stopped by the system"
    if torch.backends.mps.is_available():
        advice = advice or "There is an Apple GPU: try --device mps"
    if shutil.which("nvidia-smi"):
        advice = (
            "There is an NVIDIA driver, but this torch cannot use it. For the GPU: "
            + "python -m pip install -r requirements/cuda.txt, and a driver that is new enough for its CUDA"
        )
    return Check("device", True, f"cpu: {os.cpu_count()} cores, {known}", advice)


def check_warp() -> Check:
    """Whether NVIDIA Warp, the renderer's kernel compiler, starts."""
    warp, fault = _try_import("warp")
    if warp is None:
        return Check("Warp", False, fault, INSTALL)
    try:
        if hasattr(warp, "LOG_ERROR"):  # newer Warps have log levels in the place of `quiet`
            warp.config.log_level = warp.LOG_ERROR
        else:
            warp.config.quiet = True
        warp.init()
        devices = ", ".join(str(device) for device in warp.get_devices())
    except Exception as error:  # whatever a broken driver or a read-only cache folder raises
        return Check("Warp", False, f"{warp.__version__} does not start: {error}", _warp_remedy())
    return Check("Warp", True, f"{warp.__version__}, devices: {devices}", "")


def _warp_remedy() -> str:
    return "Check that the folder WARP_CACHE_PATH (default: ~/.cache/warp) can be written, then reinstall warp-lang"


def check_kaolin() -> Check:
    """Kaolin's version, or how to get the wheel that fits; always ok, as the backend has its own FlexiCubes."""
    torch, _ = _try_import("torch")
    advice = "" if torch is None else kaolin_advice(_release(torch.__version__), torch.version.cuda)
    try:
        version = importlib.metadata.version("kaolin")
    except importlib.metadata.PackageNotFoundError:
        return Check("Kaolin", True, "not installed, not needed: the backend's own FlexiCubes is used", advice)
    if _release(version) in ("0.0", "0.1"):
        text = f"{version} is the package index's empty placeholder, not Kaolin"
        return Check("Kaolin", True, text, f"python -m pip uninstall kaolin. {advice}".strip())
    kaolin, fault = _try_import("kaolin")
    if kaolin is None:
        return Check("Kaolin", True, f"{version} is installed but broken: {fault}", advice)
    return Check("Kaolin", True, version, "")


def check_four_bit() -> Check:
    """Whether the setting vlm_four_bit can be used; always ok, as nothing else needs bitsandbytes."""
    torch, _ = _try_import("torch")
    advice = GET_BITSANDBYTES if torch is not None and torch.cuda.is_available() else ""
    only = "needed only for the setting vlm_four_bit, on CUDA"
    try:
        version = importlib.metadata.version("bitsandbytes")
    except importlib.metadata.PackageNotFoundError:
        return Check("bitsandbytes", True, f"not installed, {only}", advice)
    if tuple(map(int, re.findall(r"\d+", version)[:3])) < BITSANDBYTES:
        return Check("bitsandbytes", True, f"{version} is too old; {only}", advice)
    return Check("bitsandbytes", True, version, "")


def kaolin_advice(torch_version: str, cuda: str | None) -> str:
    """How to get the Kaolin wheel for this torch ("2.8.0") and its CUDA ("12.8"; None: a build without CUDA)."""
    newest = list(KAOLIN_WHEELS)[-1]
    tag = (cuda or "").replace(".", "")
    if tag in KAOLIN_WHEELS.get(torch_version, ()):
        return f"python -m pip install kaolin=={KAOLIN} -f {KAOLIN_PAGE.format(torch=torch_version, cuda=tag)}"
    if cuda is None:
        return (
            f"Kaolin helps on an NVIDIA GPU only: there, requirements/cuda.txt has torch {newest} and its Kaolin wheel"
        )
    return (
        f"NVIDIA publishes no Kaolin {KAOLIN} wheel for torch {torch_version} with CUDA {cuda}; "
        f"for Kaolin, make an environment from requirements/cuda.txt (torch {newest})"
    )


def check_packages(names: tuple[str, ...]) -> Check:
    """Whether every package among `names` (import names) can be imported."""
    faults = [fault for name in names if (fault := _try_import(name)[1])]
    if faults:
        return Check("packages", False, "; ".join(faults), INSTALL)
    return Check("packages", True, f"all {len(names)} needed ones found", "")


def check_model(name: str, folder: Path) -> Check:
    """Whether the bundled model in `folder` has weights, whole ones: a truncated file is found by its header."""
    restore = "Take that folder from a fresh download of the program (in a git clone: git checkout -- backend/starter)"
    files = sorted(folder.rglob("*.safetensors"))
    label = f"model {name}"
    if not files:
        return Check(label, False, f"no weights in {folder}", restore)
    safetensors, fault = _try_import("safetensors")
    if safetensors is None:
        return Check(label, False, fault, INSTALL)
    for file in files:
        try:
            with safetensors.safe_open(file, framework="np"):
                pass
        except Exception as error:  # safetensors' own error class, or OSError
            return Check(label, False, f"{file} is damaged: {error}", restore)
    size = sum(file.stat().st_size for file in files)
    return Check(label, True, f"{size / 1e6:.1f} MB in {folder}", "")


def check_disk(folder: Path) -> Check:
    """Whether the disk of `folder` (or of its nearest parent that exists) has room, and the folder can be written."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return Check("disk", False, f"{folder} cannot be written", "Choose another folder with --out")
    ok = free >= NEEDED_DISK
    remedy = "" if ok else f"Free at least {_gib(NEEDED_DISK)}, or choose a folder on another disk with --out"
    return Check("disk", ok, f"{_gib(free)} free in {folder}", remedy)


def _try_import(name: str) -> tuple[Any, str]:
    """The module and "", or None and why it cannot be imported."""
    try:
        return importlib.import_module(name), ""
    except ModuleNotFoundError as error:
        if error.name == name:
            return None, f"{name} is not installed"
        return None, f"{name} cannot be imported: {error}"
    except Exception as error:  # a broken binary raises OSError, ImportError, AttributeError and more
        return None, f"{name} cannot be imported: {error}"


def _release(version: str) -> str:
    """ "2.13.0" of "2.13.0+cpu"."""
    return version.split("+")[0]


def _physical_memory() -> int | None:
    """Bytes of main memory, None where the system does not say (Windows)."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
