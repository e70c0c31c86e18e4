"""build_addon.py: the zip of this checkout, and what its checks refuse."""

from __future__ import annotations

import os
import shutil
import time
import zipfile
from pathlib import Path

import pytest

import build_addon

from .addon_modules import addon_module

ROOT = Path(__file__).parents[1]
MANIFEST = (ROOT / "blender_addon" / "blender_manifest.toml").read_text()


@pytest.fixture(scope="module")
def zip_path(tmp_path_factory):
    return build_addon.build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture
def checkout(tmp_path):
    """As much of a checkout as the versions and the list of files need."""
    for folder in ("blender_addon", "backend", "requirements"):
        (tmp_path / folder).mkdir()
    (tmp_path / "blender_addon" / "blender_manifest.toml").write_text(MANIFEST)
    for name in ("blender_addon/__init__.py", "backend/__init__.py", "requirements/cpu.txt", "requirements/cuda.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_same_bytes_come_out_twice(zip_path, tmp_path, checkout):
    again = build_addon.build(ROOT, tmp_path)
    assert again.read_bytes() == zip_path.read_bytes()
    first = build_addon.build(checkout, tmp_path / "a").read_bytes()
    file = checkout / "backend" / "__init__.py"
    os.utime(file, (time.time() + 100,) * 2)
    file.chmod(0o600)
    assert build_addon.build(checkout, tmp_path / "b").read_bytes() == first


def test_the_zip_is_sound_and_below_the_limit(zip_path):
    build_addon.check(zip_path)
    assert zip_path.stat().st_size < 60e6
    assert zip_path.name == "diorama-0.1.0.zip"


def test_the_zip_has_one_folder_in_order_and_nothing_that_is_not_needed(zip_path):
    with zipfile.ZipFile(zip_path) as archive:
        names = archive.namelist()
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o100644}
    assert {name.split("/")[0] for name in names} == {"diorama"} and names == sorted(names)
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name or name.endswith(".pyc")]
    assert [name for name in names if name.startswith("diorama/requirements/")] == [
        "diorama/requirements/cpu.txt",
        "diorama/requirements/cuda.txt",
    ]


def test_the_unpacked_extension_brings_its_backend(zip_path, tmp_path):
    with zipfile.ZipFile(zip_path) as archive:
        archive.extractall(tmp_path)
    copy = addon_module("backend_copy")
    source = copy.bundled_source(tmp_path / "diorama")
    assert source == tmp_path / "diorama" and copy.bundled_source(ROOT / "blender_addon") == ROOT
    folder = copy.unpacked(source, tmp_path / "home")
    assert (folder / "backend" / "starter" / "weights" / "vlm" / "model.safetensors").is_file()
    assert copy.fingerprint(folder) == copy.fingerprint(source)


def test_a_file_of_an_unknown_kind_is_refused(checkout, tmp_path):
    (checkout / "backend" / "notes.docx").write_text("")
    with pytest.raises(build_addon.BuildError, match=r"notes\.docx"):
        build_addon.build(checkout, tmp_path / "dist")
    assert list((tmp_path / "dist").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["blender_addon/blender_manifest.toml", "blender_addon/__init__.py", "backend/__init__.py"]
)
def test_versions_that_differ_are_refused(checkout, name):
    file = checkout / name
    file.write_text(file.read_text().replace("0.1.0", "0.1.1").replace('"version": (0, 1, 0)', '"version": (0, 1, 1)'))
    with pytest.raises(build_addon.BuildError, match="versions differ"):
        build_addon.read_version(checkout)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('id = "diorama"', 'id = "Diorama"', "id is not"),
        ('"4.2.0"', '"4.1.0"', "blender_version_min"),
        ("GPL-3.0-or-later", "MIT", "license"),
        ('type = "add-on"', "", "type is not"),
        ("boxes, on your PC", "boxes, on your PC.", "tagline"),
        ("in your user folder", "in your user folder.", "files"),
        ("in your user folder", "in your user folder" + "x" * 64, "files"),
        ("network =", "camera =", "permissions"),
        ("[permissions]", "[permissions", "not TOML"),
    ],
)  # fmt: skip
def test_faults_of_the_manifest_are_named(old, new, fault):
    assert build_addon.manifest_faults(MANIFEST) == []
    assert old in MANIFEST
    assert any(fault in told for told in build_addon.manifest_faults(MANIFEST.replace(old, new)))


@pytest.mark.parametrize(
    "line", ["import torch", "from backend import cli", "import blender_addon.client", "import PIL.Image"]
)
def test_imports_that_blender_does_not_have_are_named(line):
    assert build_addon.import_faults("a.py", "import bpy, json\nfrom . import jobs\n" + line)


def test_a_zip_without_weights_is_refused(checkout, tmp_path):
    with pytest.raises(build_addon.BuildError, match=r"weights/vlm/model\.safetensors is missing"):
        build_addon.check(build_addon.build(checkout, tmp_path / "dist"))


def test_a_damaged_zip_is_refused(zip_path, tmp_path):
    data = bytearray(zip_path.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "damaged.zip").write_bytes(data)
    with pytest.raises(build_addon.BuildError, match="is damaged"):
        build_addon.check(tmp_path / "damaged.zip")


def test_too_large_a_zip_is_refused(zip_path, monkeypatch):
    monkeypatch.setattr(build_addon, "MOST_BYTES", 10**6)
    with pytest.raises(build_addon.BuildError, match="is the most"):
        build_addon.check(zip_path)


@pytest.mark.skipif(os.name != "posix", reason="a script stands in for Blender")
def test_blenders_validator_decides(zip_path, tmp_path, monkeypatch):
    blender = tmp_path / "blender"
    monkeypatch.setenv("BLENDER_BINARY", str(blender))
    for status, script in ((0, "exit 0"), (1, "echo 'Error: tagline'; exit 1")):
        blender.write_text(f'#!/bin/sh\n[ "$*" = "--command extension validate {zip_path}" ] || exit 7\n{script}\n')
        blender.chmod(0o755)
        if status == 0:
            assert build_addon.validate(zip_path) == "fine"
        else:
            with pytest.raises(build_addon.BuildError, match="Error: tagline"):
                build_addon.validate(zip_path)


def test_the_command_tells_what_it_wrote(tmp_path, capsys):
    assert build_addon.main(["--out", str(tmp_path)]) == 0
    assert "diorama-0.1.0.zip" in capsys.readouterr().out
