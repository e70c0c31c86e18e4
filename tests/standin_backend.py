"""A small service that keeps to the backend's contract, or breaks it, for tests of what starts and stops backends."""

import contextlib
import json
import subprocess
import sys
import textwrap
from pathlib import Path

from .addon_modules import addon_module

process = addon_module("backend_process")

# As much of the service as start and stop need: ready line, service.json, token, health, jobs, clients, shutdown.
SERVICE = """
import argparse, http.server, json, os, pathlib, sys, threading, time
from . import __version__
from . import behaviour
options = argparse.ArgumentParser()
options.add_argument("command")
options.add_argument("--data", type=pathlib.Path)
options.add_argument("--device")
options.add_argument("--port", type=int)
options.add_argument("--parent-pid", type=int)
options = options.parse_args()
options.data.mkdir(parents=True, exist_ok=True)
clients = {options.parent_pid}
behaviour.before_ready(options)

class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, what, status=200):
        data = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        token_ok = self.headers.get("Authorization") == "Bearer secret"
        if self.path == "/v1/health":
            health = {"version": __version__, "api": 1, "state": "ready", "device": options.device}
            self.answer({**health, "token_ok": token_ok})
        elif not token_ok:
            self.answer({"error": {"what": "the token is wrong", "where": "", "remedy": ""}}, 401)
        else:
            job = {"id": "a", "state": behaviour.JOB}
            self.answer({"jobs": [job], "next": None, "presets": [], "pids": list(clients)})
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/v1/clients" and not clients:
            self.answer({"error": {"what": "the service ends", "where": "clients", "remedy": ""}}, 409)
        elif self.path == "/v1/clients":
            clients.add(json.loads(body)["pid"])
            self.answer({"pids": list(clients)})
        else:
            self.answer({})
            threading.Thread(target=server.shutdown).start()
    def do_DELETE(self):
        clients.discard(int(self.path.rpartition("/")[2]))
        self.answer({"pids": list(clients)})
        if not clients:
            threading.Thread(target=server.shutdown).start()

server = http.server.ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
told = {"address": f"http://127.0.0.1:{server.server_port}", "pid": os.getpid(), "version": __version__}
told["data"] = str(options.data)
(options.data / "token").write_text("secret")
(options.data / "service.json").write_text(json.dumps(told))
print("a line that is not JSON", flush=True)
print(json.dumps(told), flush=True)
print("listening", file=sys.stderr, flush=True)
server.serve_forever()
behaviour.before_end()
(options.data / "service.json").unlink()
"""


def make_source(folder, version="0.1.0", before_ready="pass", before_end="pass", job="done"):
    """A folder with a stand-in backend of that version."""
    package = folder / "backend"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f'__version__ = "{version}"\n')
    (package / "__main__.py").write_text(SERVICE)
    parts = [f"JOB = {job!r}"]
    for head, body in (("before_ready(options)", before_ready), ("before_end()", before_end)):
        parts.append(f"def {head}:\n{textwrap.indent(textwrap.dedent(body), '    ')}")
    (package / "behaviour.py").write_text("\n".join(parts) + "\n")
    (folder / "requirements").mkdir()
    (folder / "requirements" / "cpu.txt").write_text("torch==2.13.0\n")
    return folder


@contextlib.contextmanager
def backends(folder):
    """make(version=...) -> Backend; all on one data folder, ended afterwards."""
    made = []

    def make(**keywords):
        source = make_source(folder / f"extension {len(made)}", **keywords)
        made.append(process.Backend(Path(sys.executable), source, folder / "data", folder / "home", "cpu"))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def service_file(backend):
    return json.loads((backend.data / "service.json").read_text())


def write_service_file(backend, **told):
    backend.data.mkdir(parents=True, exist_ok=True)
    (backend.data / "service.json").write_text(json.dumps(told))


def dead_pid():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid
