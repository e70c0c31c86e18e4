"""How the open picture is sent: what is seen of it, whatever it was read from, and what that costs the main thread."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import bpy
import numpy as np
import pytest

from .backends import LIMIT_S, timed
from .made_pictures import picture, pixels, write_texts

pytestmark = pytest.mark.blender


def as_read(png: bytes, tmp_path: Path) -> np.ndarray:
    """What Blender reads from the PNG: (H, W, 4), the bottom row first."""
    path = tmp_path / "sent.png"
    path.write_bytes(png)
    image = bpy.data.images.load(str(path), check_existing=False)
    width, height = image.size
    values = np.array(image.pixels[:]).reshape(height, width, 4)
    bpy.data.images.remove(image)
    return values


def sent(addon, image: bpy.types.Image, tmp_path: Path) -> np.ndarray:
    return as_read(addon.open_picture.png_of(image)(), tmp_path)


def test_a_picture_is_sent_as_it_is_seen(addon, tmp_path) -> None:
    np.testing.assert_allclose(sent(addon, picture(), tmp_path), pixels((80, 60)), atol=0.5 / 255 + 1e-3)


def test_transparency_is_sent_and_light_becomes_srgb(addon, tmp_path) -> None:
    image = picture("light", float_buffer=True, alpha=True)
    values = pixels((80, 60))
    values[..., 3] = 0.5
    image.alpha_mode = "STRAIGHT"
    image.pixels = values.ravel()
    found = sent(addon, image, tmp_path)
    light = values[..., :3]
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(found[..., :3], expected, atol=0.01)
    np.testing.assert_allclose(found[..., 3], 0.5, atol=0.01)


def test_a_large_picture_is_sent_smaller_and_looks_the_same(addon, tmp_path) -> None:
    found = sent(addon, picture("large", (2500, 2200)), tmp_path)
    assert found.shape == (1100, 1250, 4)
    np.testing.assert_allclose(found, pixels((1250, 1100)), atol=0.01)


def test_a_picture_that_is_read_stays_as_it_was(addon) -> None:
    image = picture()
    write_texts()
    before = (image.pixels[:], image.is_dirty, image.packed_file, image.users)
    collected = addon.collect_picture.collect_edit(bpy.context.scene, image)
    assert collected.part.data().startswith(b"\x89PNG")
    assert (image.pixels[:], image.is_dirty, image.packed_file, image.users) == before


def saved(path: Path, size: tuple[int, int] = (80, 60), file_format: str = "PNG") -> bpy.types.Image:
    """A picture that was read from a file at `path`."""
    image = picture("to save", size)
    image.filepath_raw, image.file_format = str(path), file_format
    image.save()
    bpy.data.images.remove(image)
    return bpy.data.images.load(str(path), check_existing=False)


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    """The PNG with one more chunk after its first."""
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return png[:33] + chunk + png[33:]


@pytest.mark.parametrize("packed", [False, True])
def test_an_unchanged_png_is_sent_as_it_is(addon, tmp_path, packed) -> None:
    image = saved(tmp_path / "mine.png")
    if packed:
        image.pack()
        os.unlink(tmp_path / "mine.png")
    assert addon.open_picture.own_png(image) is not None
    np.testing.assert_allclose(sent(addon, image, tmp_path), pixels((80, 60)), atol=0.5 / 255 + 1e-3)


def test_what_was_painted_since_is_sent(addon, tmp_path) -> None:
    image = saved(tmp_path / "mine.png")
    image.pixels = np.full(80 * 60 * 4, 1.0, np.float32)
    assert sent(addon, image, tmp_path).min() == 1.0
    image.pack()
    assert addon.open_picture.own_png(image) is not None
    assert sent(addon, image, tmp_path).min() == 1.0


def test_what_turns_a_picture_for_others_and_not_for_blender_is_left_out(addon, tmp_path) -> None:
    path = tmp_path / "mine.png"
    bpy.data.images.remove(saved(path))
    turned = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # EXIF: a quarter turn
    path.write_bytes(with_chunk(path.read_bytes(), b"eXIf", turned))
    image = bpy.data.images.load(str(path), check_existing=False)
    assert tuple(image.size) == (80, 60)
    assert b"eXIf" not in addon.open_picture.own_png(image)()
    np.testing.assert_allclose(sent(addon, image, tmp_path), pixels((80, 60)), atol=0.5 / 255 + 1e-3)


def test_a_file_that_does_not_hold_what_is_seen_is_not_sent(addon, tmp_path) -> None:
    own_png = addon.open_picture.own_png
    assert own_png(picture()) is None
    assert own_png(saved(tmp_path / "mine.jpg", file_format="JPEG")) is None
    opaque = saved(tmp_path / "opaque.png")
    opaque.alpha_mode = "NONE"
    assert own_png(opaque) is None
    light = picture("light", float_buffer=True)
    light.pack()
    assert own_png(light) is None
    changed = saved(tmp_path / "changed.png")
    assert own_png(changed) is not None
    bpy.data.images.remove(saved(tmp_path / "changed.png", (64, 64)))
    assert own_png(changed) is None
    os.unlink(tmp_path / "changed.png")
    assert own_png(changed) is None
    np.testing.assert_allclose(sent(addon, changed, tmp_path), pixels((80, 60)), atol=0.5 / 255 + 1e-3)


@pytest.mark.parametrize("left", [0, 33, 200, -1])
def test_a_file_that_was_damaged_or_removed_meanwhile_is_told(addon, tmp_path, left) -> None:
    path = tmp_path / "mine.png"
    read = addon.open_picture.own_png(saved(path))
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(addon.messages.BackendError, match="cannot be sent"):
        read()
    path.unlink()
    with pytest.raises(addon.messages.BackendError, match="cannot be sent"):
        read()


def test_the_button_holds_the_main_thread_up_by_no_more_than_a_callback_may(addon, timing, tmp_path) -> None:
    write_texts()
    large = saved(tmp_path / "large.png", (2048, 2048))
    assert large.size[0] == 2048  # Blender has read it, as for an editor that shows it
    for packed in (False, True):
        if packed:
            large.pack()
        cost = timed("edit", lambda: addon.collect_picture.collect_edit(bpy.context.scene, large))
        assert cost.cpu_s < LIMIT_S, (packed, cost)
