"""blender_addon/client.py's downloads over real sockets: a whole file or none, whatever is cut, stalls or is full."""

import sys
import threading

import pytest

from .addon_modules import addon_module, error_of
from .scripted_server import GLB, answer, serving, silent

client = addon_module("client")


def test_a_download_arrives_whole_and_reports_progress(tmp_path):
    seen = []
    with serving(answer(GLB, content_type="model/gltf-binary")) as server:
        path = tmp_path / "new" / "result.glb"
        client.Client(server.address, "t").download("a", "result.glb", path, lambda *step: seen.append(step))
    assert path.read_bytes() == GLB and seen[-1] == (5012, 5012)
    assert [file.name for file in path.parent.iterdir()] == ["result.glb"]


def cut_chunk(connection, request):
    """A script whose chunked answer ends within a chunk."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1394\r\n" + GLB[:100])


@pytest.mark.parametrize("script", [answer(GLB[:700], length=5012), cut_chunk])
def test_a_cut_download_leaves_no_file(tmp_path, script):
    with serving(script) as server:
        error = error_of(client.Client(server.address, "t").download, "a", "result.glb", tmp_path / "result.glb")
    assert isinstance(error, client.Lost) and "cut" in error.what
    assert list(tmp_path.iterdir()) == []


def test_a_failed_download_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "preview.jpg"
    path.write_bytes(b"old")
    with serving(answer(b"new", length=10)) as server:
        error_of(client.Client(server.address, "t").download, "a", "preview.jpg", path)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("body", [b"", b"glTF", b"<html>", b"glTF\x02\0\0\0\xff\0\0\0short", GLB + b"x"])
def test_a_glb_that_is_none_is_not_kept(tmp_path, body):
    with serving(answer(body)) as server:
        error = error_of(client.Client(server.address, "t").download, "a", "result.glb", tmp_path / "result.glb")
    assert "not a whole GLB" in error.what
    assert list(tmp_path.iterdir()) == []


def test_a_stalled_download_ends(tmp_path):
    def stall(connection, request):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5012\r\n\r\n" + GLB[:10])
        silent(connection, request)

    with serving(stall) as server:
        error = error_of(client.Client(server.address, "t", 0.4).download, "a", "result.glb", tmp_path / "r.glb")
    assert "in time" in error.what and list(tmp_path.iterdir()) == []


def test_a_download_can_be_stopped(tmp_path):
    stop = threading.Event()
    with serving(silent) as server:
        threading.Timer(0.2, stop.set).start()
        with pytest.raises(client.Cancelled):
            client.Client(server.address, "t", stop=stop).download("a", "result.glb", tmp_path / "r.glb")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with serving(answer(GLB)) as server:
        path = tmp_path / "file" / "result.glb"
        assert error_of(client.Client(server.address, "t").download, "a", "result.glb", path).where == str(path)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's disk that is always full")
def test_a_full_disk_is_named(tmp_path, monkeypatch):
    answers = addon_module("replies")
    full = lambda **keywords: (__import__("os").open("/dev/full", 1), str(tmp_path / "part"))  # noqa: E731
    monkeypatch.setattr(answers.tempfile, "mkstemp", full)
    with serving(answer(GLB)) as server:
        error = error_of(client.Client(server.address, "t").download, "a", "result.glb", tmp_path / "result.glb")
    assert error.what == "The disk is full"
