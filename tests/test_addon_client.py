"""blender_addon/client.py against real sockets: dead, slow, garbage, refusing; what it sends."""

import json
import re
import socket
import sys
import threading
import time

import pytest

from .addon_modules import addon_module, error_of
from .scripted_server import GLB, answer, dripping, free_port, serving, silent

client = addon_module("client")


def test_the_modules_without_bpy_do_not_import_it():
    for name in ("messages", "wire", "replies", "client", "backend_process", "install", "pixels"):
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


def test_one_client_serves_several_threads():
    with serving(answer({"version": "1", "api": 1})) as server:
        one, got = client.Client(server.address, "t"), []
        threads = [threading.Thread(target=lambda: got.append(one.health())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
    assert len(got) == 8
