"""Report, pictures, and files that are whole or not there."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.errors import OutputError
from backend.export.files import atomic_write, check_writable
from backend.export.glb import export_scene
from backend.export.pictures import contact_sheet, write_contact_sheet, write_turntable
from backend.export.report import build_report, write_report

from .small_disk import small_disk
from .solids import plain, slot


def report(**changes):
    values = {
        "request": {"prompt": "a red cube on top of a blue sphere"},
        "settings": {"steps": 200},
        "seed": 7,
        "models": {"prior": "starter"},
        "timings_s": {"optimise": 61.23456},
        "slots": [{"name": "cube", "notes": ["the surface is not closed"]}, {"name": "sphere", "notes": []}],
        "relations": [
            {"subject": "cube", "relation": "on top of", "object": "sphere", "fulfilled": False},
            {"subject": "cube", "relation": "next to", "object": "sphere", "fulfilled": True},
        ],
        "penetration_m3": {},
        "rewards": {"content": np.float32(1.5), "quality": float("inf")},
        "warnings": ["unknown word: ziggurat"],
    }
    return build_report(**(values | changes))


def ramp(height: int, width: int, shift: float) -> np.ndarray:
    """A frame whose left half stands still and whose right half changes with `shift`."""
    x = np.linspace(0, 1, width)[None, :, None].repeat(height, 0).repeat(3, 2)
    return np.where(x < 0.5, x, (x + shift) % 1.0)


@pytest.fixture
def full_disk(tmp_path):
    """A folder on a file system of 64 KiB."""
    with small_disk(tmp_path / "disk", "64k") as folder:
        yield folder


def test_the_report_says_again_as_warnings_what_could_not_be_done():
    assert report()["warnings"] == [
        "unknown word: ziggurat",
        "cube: the surface is not closed",
        "not fulfilled: cube on top of sphere",
    ]


def test_the_report_is_strict_json_with_everything_in_it(tmp_path):
    write_report(report(), tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    read = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert read["seed"] == 7 and read["settings"] == {"steps": 200} and read["models"] == {"prior": "starter"}
    assert read["rewards"] == {"content": 1.5, "quality": None}
    assert read["timings_s"] == {"optimise": 61.235}
    assert [s["name"] for s in read["slots"]] == ["cube", "sphere"]


def test_the_report_takes_what_the_export_says(tmp_path):
    (exported,) = export_scene([slot("s", "box", colour=plain)], tmp_path / "a.glb", 64, 1000, {})
    summary = report(slots=[exported.summary()])["slots"][0]
    assert json.loads(json.dumps(summary)) == summary
    assert summary["closed"] is True and summary["faces"] <= 1000 and summary["faces_before"] == 3072
    assert summary["size_m"] == pytest.approx([1.0, 1.0, 1.0], abs=0.02)


def test_a_block_that_fails_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def stop_half_way():
        with atomic_write(path) as file:
            file.write(b"half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_half_way()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_written_file_has_the_usual_permissions(tmp_path):
    with atomic_write(tmp_path / "a") as file:
        file.write(b"x")
    (tmp_path / "b").write_text("x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_missing_folders_are_made(tmp_path):
    write_report(report(), tmp_path / "new" / "deep" / "report.json")
    assert (tmp_path / "new" / "deep" / "report.json").is_file()


def test_a_folder_below_a_file_is_refused_before_the_run_with_a_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        check_writable(tmp_path / "file" / "out")
    assert caught.value.where == str(tmp_path / "file" / "out")
    assert "could not be written" in caught.value.what and "choose another output folder" in caught.value.remedy


def test_a_file_in_the_folder_s_place_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="in the way"):
        check_writable(tmp_path / "out")


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    check_writable(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_under_the_result_s_name_is_not_replaced(tmp_path):
    (tmp_path / "report.json").mkdir()
    with pytest.raises(OutputError, match=r"report\.json"):
        write_report(report(), tmp_path / "report.json")
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize("kind", ["glb", "report", "sheet", "turntable"])
def test_a_full_disk_is_named_and_leaves_nothing_behind(full_disk, kind):
    noise = [np.random.default_rng(i).random((200, 200, 3)) for i in range(2)]
    writers = {
        "glb": lambda path: export_scene([slot("s", colour=plain)], path, 256, 5000, {}),
        "report": lambda path: write_report(report(warnings=[str(i) * 50 for i in range(3000)]), path),
        "sheet": lambda path: write_contact_sheet(noise, path),
        "turntable": lambda path: write_turntable(noise, path),
    }
    with pytest.raises(OutputError, match=r"(?i)no space left.*free some disk space"):
        writers[kind](full_disk / "result")
    assert list(full_disk.iterdir()) == []


def test_the_contact_sheet_shows_each_frame_in_its_cell():
    frames = [np.full((20, 30, 3), level) for level in (0.0, 0.25, 0.5, 0.75, 1.0)]
    sheet = np.asarray(contact_sheet(frames))
    assert sheet.shape == (2 * 28 + 8, 3 * 38 + 8, 3)
    for index, frame in enumerate(frames):
        x, y = 8 + index % 3 * 38, 8 + index // 3 * 28
        assert (sheet[y : y + 20, x : x + 30] == round(frame[0, 0, 0] * 255)).all()


def test_captions_get_their_own_room_and_long_ones_do_not_run_into_the_next_cell():
    frames = [np.zeros((20, 60, 3))] * 2
    bare = np.asarray(contact_sheet(frames, columns=2))
    sheet = np.asarray(contact_sheet(frames, ["a caption much too long for its frame", ""], columns=2))
    assert sheet.shape[0] > bare.shape[0]
    strip = sheet[8 + 20 : -8]
    assert (strip[:, 8:68] < 200).any()
    assert (strip[:, 68:] > 200).all()


def test_values_out_of_range_are_clipped_in_pictures():
    sheet = np.asarray(contact_sheet([np.array([[[-1.0, 2.0, np.nan]]])]))
    assert sheet[8, 8].tolist() == [0, 255, 0]


def test_the_turntable_loops_for_ever_and_still_parts_stand_still(tmp_path):
    frames = [ramp(32, 64, shift) for shift in np.linspace(0, 1, 12, endpoint=False)]
    write_turntable(frames, tmp_path / "turntable.gif", seconds_per_turn=2.4)
    with Image.open(tmp_path / "turntable.gif") as gif:
        assert gif.n_frames == 12
        assert gif.info["loop"] == 0
        assert gif.info["duration"] == 200
        shown = []
        for index in range(gif.n_frames):
            gif.seek(index)
            shown.append(np.asarray(gif.convert("RGB"), np.int64))
    for picture, frame in zip(shown, frames, strict=True):
        assert np.array_equal(picture[:, :32], shown[0][:, :32])
        assert np.abs(picture - frame * 255).max() < 16


def test_a_contact_sheet_on_disk_is_a_png(tmp_path: Path):
    write_contact_sheet([np.zeros((8, 8, 3))] * 3, tmp_path / "preview.png", ["front", "left", "back"])
    with Image.open(tmp_path / "preview.png") as picture:
        assert picture.format == "PNG"
