"""blender_addon/client.py against real sockets: dead, slow, cut, garbage, refusing."""

import json
import re
import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from .addon_modules import addon_module

client = addon_module("client")

GLB = b"glTF\x02\x00\x00\x00" + (5012).to_bytes(4, "little") + bytes(5000)


class Server:
    """Answers each connection with the next script of the list (the last one for ever): script(connection, request)."""

    def __init__(self, *scripts):
        self.scripts, self.requests = list(scripts), []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
            with connection:
                request = read_request(connection)
                self.requests.append(request)
                with suppress(OSError):
                    script(connection, request)

    def close(self):
        self.closing.set()
        self.socket.close()


@contextmanager
def serving(*scripts):
    server = Server(*scripts)
    try:
        yield server
    finally:
        server.close()


def read_request(connection):
    """The whole request: head and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, body = data.split(b"\r\n\r\n", 1)
    length = re.search(rb"(?i)content-length: (\d+)", head)
    while length and len(body) < int(length[1]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answer(body, status="200 OK", content_type="application/json", length=None):
    """A script that sends one whole answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length or len(data)}\r\n\r\n"
    return lambda connection, request: connection.sendall(head.encode() + data)


def stream(*events):
    """A script that sends server-sent events and closes."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n"
    return lambda connection, request: connection.sendall(head + "".join(events).encode())


def event(number, name, data):
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n"


def silent(connection, request):
    """A script that takes the request and says nothing."""
    connection.settimeout(20)
    connection.recv(1)


def dripping(connection, request):
    """A script that sends one byte of a header now and then, for ever."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def error_of(call, *arguments, **keywords):
    with pytest.raises(client.BackendError) as caught:
        call(*arguments, **keywords)
    return caught.value


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_the_modules_without_bpy_do_not_import_it():
    for name in ("messages", "wire", "replies", "client", "backend_process", "install"):
        addon_module(name)
    assert "bpy" not in sys.modules


def test_an_answer_is_read_and_the_token_sent():
    with serving(answer({"version": "0.1.0", "api": 1, "state": "ready", "device": "cpu", "token_ok": True})) as server:
        assert client.Client(server.address, "secret\n").health()["token_ok"]
        assert b"\r\nAuthorization: Bearer secret\r\n" in server.requests[0]
        assert b"\r\nHost: 127.0.0.1:" in server.requests[0]


def test_a_dead_backend_offers_to_start_it():
    error = error_of(client.Client(f"http://127.0.0.1:{free_port()}", "t").health)
    assert (error.what, error.mend) == ("The backend is not running", "start")
    assert isinstance(error, client.Lost)


def test_no_machine_of_that_name_points_to_the_settings():
    error = error_of(client.Client("http://nowhere.invalid:1", "t", 2).health)
    assert error.mend == "settings"


@pytest.mark.parametrize("script", [silent, dripping])
def test_a_slow_backend_ends_within_the_time_limit(script):
    with serving(script) as server:
        start = time.monotonic()
        error = error_of(client.Client(server.address, "t", 0.5).health)
        assert 0.4 < time.monotonic() - start < 2
        assert error.mend == "restart" and "in time" in error.what


@pytest.mark.parametrize(
    "script",
    [
        lambda connection, request: connection.sendall(b"\x00\xff\x13 SSH-2.0 go away\r\n\r\n"),
        lambda connection, request: connection.sendall(b"HTTP/1.1 banana OK\r\n\r\n"),
        answer(b"<html>printer</html>", content_type="text/html"),
        answer(b"\xff\xfe\x00"),
        answer(b"[1, 2]"),
        answer(b"[" * 100000),
        answer({"printer": "ready"}),
        answer(b"<h1>no</h1>", "404 Not Found", "text/html"),
        answer({"error": "no"}, "400 Bad Request"),
        answer({"error": {"what": 3, "where": "", "remedy": ""}}, "500 Oh"),
        answer(b"", "302 Found"),
    ],
)
def test_garbage_is_named_as_something_else(script):
    with serving(script) as server:
        error = error_of(client.Client(server.address, "t").health)
        assert "not a Diorama backend" in error.what and error.where == server.address


def test_a_connection_that_is_closed_without_an_answer_is_lost():
    with serving(lambda connection, request: None) as server:
        error = error_of(client.Client(server.address, "t").health)
        assert isinstance(error, client.Lost) and "cut" in error.what


def test_half_an_answer_is_not_taken_for_one():
    with serving(answer(b'{"version": "0.1.0"}', length=99)) as server:
        assert "cut after 20 of 99 bytes" in error_of(client.Client(server.address, "t").health).what


def test_a_wrong_token_offers_a_restart_of_the_own_backend():
    refusal = {"error": {"what": "wrong token", "where": "Authorization", "remedy": ""}}
    with serving(answer(refusal, "401 Unauthorized")) as server:
        error = error_of(client.Client(server.address, "old").jobs)
        assert (error.what, error.mend) == ("The backend refuses this token", "restart")


def test_the_services_own_words_arrive():
    refusal = {"error": {"what": "expected text, got ''", "where": "slots[2].prompt", "remedy": "Type a prompt"}}
    with serving(answer(refusal, "400 Bad Request")) as server:
        error = error_of(client.Client(server.address, "t").submit, {"slots": []})
        assert (error.what, error.where, error.remedy, error.mend) == (*refusal["error"].values(), "")
        assert str(error) == "slots[2].prompt: expected text, got ''. Type a prompt"


def test_a_fault_of_the_service_offers_the_log():
    with serving(answer({"error": {"what": "Bug", "where": "", "remedy": ""}}, "500 Oh")) as server:
        assert error_of(client.Client(server.address, "t").job, "a").mend == "log"


@pytest.mark.parametrize("address", ["", "127.0.0.1:80", "ftp://a", "http://", "http://a:99999999", "http://u:p@a/"])
def test_an_address_that_is_none_points_to_the_settings(address):
    assert error_of(client.Client, address, "t").mend == "settings"


def test_a_token_with_a_line_break_is_refused_before_it_is_sent():
    assert error_of(client.Client, "http://127.0.0.1:1", "a\r\nX: y").mend == "settings"


def test_ids_cannot_leave_their_place_in_the_path():
    with serving(answer({})) as server:
        client.Client(server.address, "t").job("../../v1/shutdown?x")
        assert server.requests[0].startswith(b"GET /v1/jobs/..%2F..%2Fv1%2Fshutdown%3Fx HTTP/1.1")


def test_meshes_travel_in_the_same_form_as_the_request():
    with serving(answer({"id": "a"}, "201 Created")) as server:
        client.Client(server.address, "t").submit({"prompt": "a mug"}, addon_module("parts").meshes_part(GLB))
        head, body = server.requests[0].split(b"\r\n\r\n", 1)
        boundary = re.search(rb"boundary=(\w+)", head)[1]
        parts = body.split(b"--" + boundary)
        assert b'name="request"' in parts[1] and parts[1].endswith(b'{"prompt": "a mug"}\r\n')
        assert b'name="meshes"' in parts[2] and parts[2].endswith(b"\r\n\r\n" + GLB + b"\r\n")
        assert parts[3] == b"--\r\n"


def test_an_upload_that_is_refused_early_says_why():
    body = json.dumps({"error": {"what": "Too large", "where": "meshes", "remedy": "Reduce it"}}).encode()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 413 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 20):
                pass

    threading.Thread(target=serve, daemon=True).start()
    with listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert (
            error_of(client.Client(address, "t").submit, {}, addon_module("parts").meshes_part(bytes(20 << 20))).what
            == "Too large"
        )


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
            client.Client(server.address, "t").download("a", "result.glb", tmp_path / "r.glb", stop=stop)


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


def test_events_arrive_in_order_and_end_after_done():
    script = stream(": hello\n\n", event(1, "state", {"state": "running"}), ": beat\n\n", event(2, "done", {"id": "a"}))
    with serving(script) as server:
        got = list(client.Client(server.address, "t").events("a"))
    assert got == [(1, "state", {"state": "running"}), (2, "done", {"id": "a"})]


def test_chunked_events_arrive():
    def chunked(connection, request):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        text = event(1, "progress", {"step": 1}) + event(2, "done", {})
        for letter in text.encode():  # the least friendly way to cut a stream
            connection.sendall(b"1\r\n%c\r\n" % letter)
        connection.sendall(b"0\r\n\r\n")

    with serving(chunked) as server:
        assert [item[0] for item in client.Client(server.address, "t").events("a")] == [1, 2]


def test_a_cut_stream_goes_on_after_the_last_event():
    first = stream(
        event(1, "progress", {"step": 1}), event(2, "progress", {"step": 2}), 'id: 3\nevent: done\ndata: {"i'
    )
    with serving(first, answer({"state": "running"}), stream(event(3, "done", {"id": "a"}))) as server:
        assert [item[0] for item in client.Client(server.address, "t").events("a")] == [1, 2, 3]
    assert b"Last-Event-ID" not in server.requests[0]
    assert b"\r\nLast-Event-ID: 2\r\n" in server.requests[2]


def test_a_stream_that_ends_without_done_ends_with_the_job():
    with serving(stream(event(1, "state", {})), answer({"id": "a", "state": "interrupted"})) as server:
        got = list(client.Client(server.address, "t").events("a"))
    assert got[-1] == (1, "done", {"id": "a", "state": "interrupted"})


def test_events_of_a_dead_backend_end_in_an_error(monkeypatch):
    monkeypatch.setattr(client, "RECONNECTS", 2)
    got = client.Client(f"http://127.0.0.1:{free_port()}", "t").events("a")
    assert error_of(list, got).mend == "start"


def test_events_of_a_silent_backend_end_soon_after_stop():
    stop = threading.Event()
    with serving(silent) as server:
        threading.Timer(0.2, stop.set).start()
        start = time.monotonic()
        assert list(client.Client(server.address, "t").events("a", stop=stop)) == []
        assert time.monotonic() - start < 0.9


def test_events_of_an_unknown_job_end_at_once():
    refusal = {"error": {"what": "No job a", "where": "a", "remedy": ""}}
    with serving(answer(refusal, "404 Not Found")) as server:
        assert error_of(list, client.Client(server.address, "t").events("a")).what == "No job a"
        assert len(server.requests) == 1


def test_garbage_instead_of_events_is_named():
    with serving(stream("id: 1\ndata: {{{\n\n")) as server:
        assert "not a Diorama backend" in error_of(list, client.Client(server.address, "t").events("a")).what


def test_one_client_serves_several_threads():
    with serving(answer({"version": "1", "api": 1})) as server:
        one, got = client.Client(server.address, "t"), []
        threads = [threading.Thread(target=lambda: got.append(one.health())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
    assert len(got) == 8
