"""The PNG format: what a file's head says, the file with nothing but its picture, a new file. Never imports bpy."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEAD_BYTES = 25  # of a file, to read_head
# Others say which way is up, or hold further frames: Blender shows a picture without them, the backend heeds them.
PICTURE_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


class Head(NamedTuple):
    """What the first chunk says."""

    width: int
    height: int
    bits: int  # a channel


def read_head(data: bytes) -> Head | None:
    """The head of a file that begins with `data`; None where it is no PNG."""
    if len(data) < HEAD_BYTES or not data.startswith(SIGNATURE + b"\0\0\0\rIHDR"):
        return None
    return Head(*struct.unpack(">IIB", data[16:25]))


def bare(data: bytes) -> bytes:
    """The file with the chunks that its picture is made of. Raises ValueError where it is no PNG or is cut off."""
    if read_head(data) is None:
        raise ValueError("is no PNG")
    return SIGNATURE + b"".join(chunk for kind, chunk in _chunks(data) if kind in PICTURE_CHUNKS)


def write(picture: Any) -> bytes:
    """(H, W, 3 or 4) uint8, the top row first, as a PNG file; each row unfiltered."""
    height, width, channels = picture.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, -1)], axis=1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 6, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    return SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each chunk's kind, and the whole of it: length, kind, data, checksum. The last one is IEND."""
    at, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise ValueError("is cut off")
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise ValueError("is cut off")
        yield kind, data[at : at + 12 + length]
        at += 12 + length
