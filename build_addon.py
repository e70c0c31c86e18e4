"""Writes the Blender extension: `python build_addon.py` makes dist/diorama-VERSION.zip, the same bytes each time.

`--check` then looks it over: with own checks, and with Blender's validator where a blender is on PATH or BLENDER_BINARY
names one.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomllib

ROOT = Path(__file__).parent
TOP = "diorama"
ADDON, BACKEND, REQUIREMENTS = "blender_addon", "backend", ("requirements/cpu.txt", "requirements/cuda.txt")
# What may stand in the folders above. Anything else is an error: nothing gets in, or is left out, by accident.
SUFFIXES = {".py", ".toml", ".md", ".json", ".jsonl", ".jinja", ".safetensors", ".txt"}
NAMES = {"LICENSE"}
IGNORED = {"__pycache__", ".DS_Store", ".mypy_cache", ".ruff_cache"}
DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold
MOST_BYTES = 60 * 10**6
MUST_HAVE = (
    *(
        "__init__.py",
        "blender_manifest.toml",
        "LICENSE",
        "LICENSES.md",
        "requirements/cpu.txt",
        "requirements/cuda.txt",
    ),
    *("backend/__init__.py", "backend/__main__.py", "backend/LICENSE", "backend/service/server.py"),
    "backend/starter/weights/prior/unet/diffusion_pytorch_model.safetensors",
    "backend/starter/weights/vlm/model.safetensors",
)
BLENDERS_MODULES = {
    "addon_utils",
    "bpy",
    "bpy_extras",
    "mathutils",
    "gpu",
    "gpu_extras",
    "blf",
    "bmesh",
    "bl_math",
    "imbuf",
    "aud",
}
BLENDERS_PACKAGES = {"numpy"}  # come with every Blender
VALIDATE_S = 300


class BuildError(Exception):
    """The extension cannot be built, or is not as it has to be; the message says why."""


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 when the zip was written and, with --check, is sound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the zip (default: dist)")
    parser.add_argument("--check", action="store_true", help="look the zip over when it is written")
    parsed = parser.parse_args(arguments)
    try:
        zip_path = build(ROOT, parsed.out)
        print(f"{zip_path}  {zip_path.stat().st_size / 1e6:.1f} MB  sha256 {_sha256(zip_path)}")
        if parsed.check:
            check(zip_path)
            print("own checks: fine")
            print(f"blender --command extension validate: {validate(zip_path)}")
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def build(root: Path, out: Path) -> Path:
    """The zip, written whole or not at all. Raises BuildError."""
    version = read_version(root)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{TOP}-{version}.zip"
    part = path.with_suffix(".part")
    try:
        # Stored, not deflated: the weights hardly shrink, and the bytes do not hang on the version of zlib.
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for name, file in sorted(members(root)):
                entry = zipfile.ZipInfo(name, DATE)
                entry.create_system, entry.external_attr = 3, 0o100644 << 16  # Unix, on every system
                archive.writestr(entry, file.read_bytes())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def members(root: Path) -> Iterator[tuple[str, Path]]:
    """(name in the zip, file). Raises BuildError for a file of a kind that is not expected."""
    for file in _files(root / ADDON):
        yield f"{TOP}/{file.relative_to(root / ADDON).as_posix()}", file
    for file in _files(root / BACKEND):
        yield f"{TOP}/{file.relative_to(root).as_posix()}", file
    for name in REQUIREMENTS:
        yield f"{TOP}/{name}", root / name


def read_version(root: Path) -> str:
    """The version of add-on and backend. Raises BuildError when manifest, bl_info and backend do not agree."""
    manifest = tomllib.loads((root / ADDON / "blender_manifest.toml").read_text("utf-8"))["version"]
    told = re.search(r'^__version__ = "(.+)"', (root / BACKEND / "__init__.py").read_text("utf-8"), re.MULTILINE)
    backend = told[1] if told else "none"
    info = bl_info((root / ADDON / "__init__.py").read_text("utf-8"))
    addon = ".".join(map(str, info.get("version", ())))
    if not manifest == backend == addon:
        raise BuildError(f"versions differ: manifest {manifest}, backend {backend}, bl_info {addon}")
    return manifest


def bl_info(source: str) -> dict[str, Any]:
    """The dictionary bl_info of a module, {} where it has none."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "bl_info" for t in node.targets):
            return ast.literal_eval(node.value)
    return {}


def check(zip_path: Path) -> None:
    """Nothing; raises BuildError, naming every fault that was found."""
    with zipfile.ZipFile(zip_path) as archive:
        names = archive.namelist()
        faults = [f"{name} is damaged" for name in [archive.testzip()] if name]
        faults += [f"{name} is outside {TOP}/" for name in names if not name.startswith(f"{TOP}/") or ".." in name]
        faults += [f"{name} is missing" for name in MUST_HAVE if f"{TOP}/{name}" not in names]
        if not faults:
            faults += manifest_faults(archive.read(f"{TOP}/blender_manifest.toml").decode())
        for name in names:
            if name.endswith(".py") and not name.startswith(f"{TOP}/backend/"):
                faults += import_faults(name, archive.read(name).decode())
    if zip_path.stat().st_size >= MOST_BYTES:
        faults.append(f"{zip_path.stat().st_size / 1e6:.1f} MB, and {MOST_BYTES / 1e6:.0f} MB is the most")
    if faults:
        raise BuildError("; ".join(faults))


def manifest_faults(text: str) -> list[str]:
    """What Blender's rules for manifests do not allow."""
    try:
        manifest = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return [f"the manifest is not TOML: {error}"]
    wanted = {"schema_version": "1.0.0", "id": TOP, "type": "add-on", "blender_version_min": "4.2.0"}
    faults = [f"{key} is not {value!r}" for key, value in wanted.items() if manifest.get(key) != value]
    texts = ("version", "name", "tagline", "maintainer")
    faults += [f"{key} is missing" for key in texts if not isinstance(manifest.get(key), str) or not manifest[key]]
    if manifest.get("license") != ["SPDX:GPL-3.0-or-later"]:
        faults.append("license is not GPL-3.0-or-later")
    permissions = manifest.get("permissions", {})
    if set(permissions) != {"files", "network"}:
        faults.append("permissions are not files and network")
    for key, line in [("tagline", manifest.get("tagline", "")), *permissions.items()]:
        if not 0 < len(line) <= 64 or not line[-1].isalnum() or "\n" in line:
            faults.append(f"{key}: one line of at most 64 characters, without a final period")
    return faults


def import_faults(name: str, source: str) -> list[str]:
    """Imports that Blender's Python does not have, or that do not work inside an extension."""
    known = sys.stdlib_module_names | BLENDERS_MODULES | BLENDERS_PACKAGES
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module or ""]
        else:
            continue
        for module in modules:
            package = module.split(".")[0]
            if package not in known:
                faults.append(f"{name}:{node.lineno} imports {module}")
    return faults


def validate(zip_path: Path) -> str:
    """What Blender's own validator said: "fine", or that there is no Blender. Raises BuildError for faults."""
    blender = os.environ.get("BLENDER_BINARY") or shutil.which("blender")
    if not blender:
        return "not run, there is no blender on PATH"
    command = [blender, "--command", "extension", "validate", str(zip_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=VALIDATE_S)
    if result.returncode != 0:
        raise BuildError(f"Blender's validator: {(result.stdout + result.stderr).strip()[-2000:]}")
    return "fine"


def _files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        if file.is_dir() or IGNORED & set(file.relative_to(folder).parts) or file.suffix == ".pyc":
            continue
        if file.suffix not in SUFFIXES and file.name not in NAMES:
            raise BuildError(f"{file} is of a kind that the extension does not have; remove it, or add it to SUFFIXES")
        yield file


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
