"""blender_addon/client.py's event streams over real sockets: in order, each once, however often they are cut."""

import threading
import time

from .addon_modules import addon_module, error_of
from .scripted_server import answer, event, free_port, serving, silent, stream

client = addon_module("client")


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


def test_a_backend_that_is_gone_for_good_is_not_waited_for():
    start = time.monotonic()
    got = client.Client(f"http://127.0.0.1:{free_port()}", "t").events("a", gone=lambda: True)
    assert error_of(list, got).mend == "start"
    assert time.monotonic() - start < 3.0  # with every attempt 17 s pass


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
