"""The picture to edit: every kind of file a user may give, read with a note or refused with the way out."""

import numpy as np
import pytest
import torch
from PIL import Image

from backend.errors import RequestError
from backend.image.picture import fit_picture, read_picture

SIZE = (48, 40)  # width, height


@pytest.fixture
def save(tmp_path):
    """Saves a Pillow image; returns its path."""

    def save_image(image: Image.Image, name: str = "in.png", **options):
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save_image


def gradient() -> np.ndarray:
    """(H, W, 3) uint8, no two corners alike."""
    x, y = np.meshgrid(np.linspace(0, 255, SIZE[0]), np.linspace(0, 255, SIZE[1]))
    return np.stack([x, y, 255 - x], -1).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "off"), [("in.png", 0), ("in.webp", 60), ("in.jpg", 60), ("in.tiff", 0), ("in.bmp", 0)]
)
def test_plain_pictures_are_read_without_a_note(save, name, off) -> None:
    picture, notes = read_picture(save(Image.fromarray(gradient()), name))
    assert picture.shape == (1, SIZE[1], SIZE[0], 3) and picture.dtype == torch.float32
    assert notes == []
    assert np.abs(picture[0].numpy() * 255 - gradient()).max() <= off + 1e-3


def test_transparent_parts_become_white_with_a_note(save) -> None:
    alpha = np.full((*gradient().shape[:2], 1), 255, np.uint8)
    alpha[:10] = 0
    picture, notes = read_picture(save(Image.fromarray(np.concatenate([gradient(), alpha], -1))))
    assert picture[0, :10].min() == 1.0
    assert np.abs(picture[0, 10:].numpy() * 255 - gradient()[10:]).max() < 1e-3
    assert len(notes) == 1 and "alpha" in notes[0]


def test_a_palette_with_a_transparent_colour_is_one_with_alpha(save) -> None:
    image = Image.fromarray(gradient()).quantize(8)
    picture, notes = read_picture(save(image, transparency=0))
    assert len(notes) == 1 and "alpha" in notes[0]
    assert picture.max() == 1.0


def test_sixteen_bits_of_grey_are_scaled_and_noted(save) -> None:
    grey = np.linspace(0, 65535, SIZE[0] * SIZE[1]).round().astype(np.uint16).reshape(SIZE[1], SIZE[0])
    picture, notes = read_picture(save(Image.fromarray(grey)))
    assert len(notes) == 1 and "16 bits" in notes[0]
    assert np.abs(picture[0, :, :, 0].numpy() - grey / 65535).max() < 1e-4
    assert torch.equal(picture[..., 0], picture[..., 2])


def test_sixteen_bits_of_colour_are_noted(tmp_path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + struct.pack(">3H", 65535, 32768, 0) * 40
    head = struct.pack(">IIBBBBB", 40, 40, 16, 2, 0, 0, 0)
    (tmp_path / "deep.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row * 40)) + chunk(b"IEND", b"")
    )
    picture, notes = read_picture(tmp_path / "deep.png")
    assert len(notes) == 1 and "16 bits" in notes[0]
    assert picture[0, 5, 5].tolist() == pytest.approx([1.0, 0.5, 0.0], abs=0.01)


def test_a_photo_is_turned_upright(save) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right to see it upright
    picture, _ = read_picture(save(Image.fromarray(gradient()), exif=exif))
    assert np.abs(picture[0].numpy() * 255 - np.rot90(gradient(), -1)).max() < 1e-3


def test_of_an_animation_the_first_frame_is_read_with_a_note(save) -> None:
    frames = [Image.new("RGB", SIZE, colour) for colour in ("red", "blue")]
    picture, notes = read_picture(save(frames[0], "in.gif", save_all=True, append_images=frames[1:]))
    assert any("animated" in note for note in notes)
    assert picture[0, 5, 5].tolist() == pytest.approx([1, 0, 0], abs=0.01)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "LA", "YCbCr"])
def test_every_mode_becomes_three_colours(save, mode) -> None:
    image = Image.fromarray(gradient()).convert(mode)
    picture, _ = read_picture(save(image, "in.tiff"))
    assert picture.shape[-1] == 3 and picture.min() >= 0 and picture.max() <= 1


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0" + b"\0" * 40, b"GIF89a"]
)
def test_a_file_that_is_no_picture_is_refused(tmp_path, content) -> None:
    (tmp_path / "in.png").write_bytes(content)
    with pytest.raises(RequestError, match=r"in\.png: "):
        read_picture(tmp_path / "in.png")


def test_a_picture_cut_short_is_refused(save) -> None:
    path = save(Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(RequestError, match=r"in\.png: "):
        read_picture(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", ["in.tiff", "in.gif", "in.avif", "in.webp", "in.jpg", "in.png"])
def test_damage_anywhere_is_refused_in_plain_words_or_read(save, name) -> None:
    whole = save(Image.fromarray(gradient()), name).read_bytes()
    rng, refused = np.random.default_rng(0), 0
    path = save(Image.fromarray(gradient()), name)
    for _ in range(150):
        bytes_ = np.frombuffer(whole, np.uint8).copy()
        bytes_[rng.integers(0, min(len(bytes_), 300), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(bytes_.tobytes())
        try:
            read_picture(path)
        except RequestError:
            refused += 1
    assert refused > 5


def test_a_photo_with_odd_tags_is_read_and_turned(save) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0
    image = Image.fromarray(gradient())
    path = save(image, "in.png", exif=b"Exif\0\0" + exif.tobytes()[6:])
    assert read_picture(path)[0].shape == (1, SIZE[0], SIZE[1], 3)


def test_a_transparent_grey_of_sixteen_bits_becomes_white(save) -> None:
    grey = np.full(SIZE[::-1], 40000, np.uint16)
    grey[:10] = 7
    picture, _ = read_picture(save(Image.fromarray(grey), transparency=7))
    assert picture[0, :10].min() == 1.0 and picture[0, 10:].max() < 0.7


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(save) -> None:
    with pytest.raises(RequestError, match="Scale it down to 8192"):
        read_picture(save(Image.new("1", (9000, 9000))))


def test_what_is_not_there_or_a_folder_is_refused(tmp_path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(RequestError, match="cannot be read"):
            read_picture(path)


@pytest.mark.parametrize(
    ("size", "says"), [((16, 200), "is 16 x 200 px"), ((8, 8), "32 px or more"), ((40, 400), "Crop")]
)
def test_too_small_and_too_long_are_refused(save, size, says) -> None:
    with pytest.raises(RequestError, match=says):
        read_picture(save(Image.new("RGB", size)))


def test_a_decompression_bomb_is_refused(save, monkeypatch) -> None:
    path = save(Image.fromarray(gradient()))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(RequestError, match="too many pixels"):
        read_picture(path)


def test_floating_point_pictures_are_refused_with_the_way_out(save) -> None:
    with pytest.raises(RequestError, match="8-bit or 16-bit"):
        read_picture(save(Image.fromarray(np.zeros((40, 40), np.float32)), "in.tiff"))


@pytest.mark.parametrize(
    ("size", "fitted"), [((64, 64), (64, 64)), ((512, 512), (64, 64)), ((100, 200), (48, 88)), ((40, 40), (64, 64))]
)
def test_a_picture_is_fitted_to_the_priors_area_in_whole_steps(size, fitted) -> None:
    picture = torch.rand(1, *size, 3)
    found = fit_picture(picture, 64, 8)
    assert found.shape == (1, *fitted, 3)
    assert found.min() >= 0 and found.max() <= 1
    if size == fitted:
        assert found is picture
