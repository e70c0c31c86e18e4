"""A model hub on this machine that speaks as much of the real one's protocol as downloads need."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves one repository, `someone/model`, from a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.sent: list[tuple[str, int]] = []  # files that were asked for, and from which byte on
        self.cut_at = 0  # break connections after this byte of a file
        self.cuts = 0  # so many times

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        files = sorted(p for p in self.server.folder.rglob("*") if p.is_file())
        names = [p.relative_to(self.server.folder).as_posix() for p in files]
        if path == "/api/models/someone/model":
            self._json({"id": "someone/model", "sha": REVISION, "siblings": [{"rfilename": n} for n in names]})
        elif path == f"/api/models/someone/model/tree/{REVISION}":
            rows = zip(names, files, strict=True)
            self._json([{"type": "file", "path": n, "size": f.stat().st_size, "oid": _oid(f)} for n, f in rows])
        elif path.startswith(f"/someone/model/resolve/{REVISION}/") and (n := path.split(f"{REVISION}/")[1]) in names:
            self._file(self.server.folder / n, n, body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _json(self, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _file(self, file: Path, name: str, body: bool) -> None:
        data = file.read_bytes()
        start = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{_oid(file)}"')
        self.send_header("X-Repo-Commit", REVISION)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if not body:
            return
        self.server.sent.append((name, start))
        if self.server.cuts and len(data) > self.server.cut_at:
            self.server.cuts -= 1
            self.wfile.write(data[start : self.server.cut_at])
            self.close_connection = True
        else:
            self.wfile.write(data[start:])


def _oid(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@contextmanager
def hub(folder: Path) -> Iterator[Hub]:
    """A hub that serves the folder until the block ends."""
    server = Hub(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
