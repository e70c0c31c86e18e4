"""A server on a real socket that answers as it is scripted: whole, cut, slow, or with garbage."""

import json
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress

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


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
