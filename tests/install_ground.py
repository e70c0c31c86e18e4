"""What an installation needs and leaves, in a temporary folder: requirements for tiny wheels, and the wheels."""

import base64
import hashlib
import shutil
import sys
import threading
import zipfile
from pathlib import Path

from .addon_modules import addon_module

install = addon_module("install")
environment = addon_module("environment")


def make_wheel(folder, name="tiny", version="1.0", size=0):
    """A wheel with one module, of at least so many bytes."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n" + "#" * size,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{info}/RECORD,,"]
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(text)}")
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{info}/RECORD", "\n".join(record) + "\n")


class Ground:
    """A home, a source with requirements for a tiny wheel, and what the installer said."""

    def __init__(self, folder):
        self.home, self.source, self.wheels = folder / "home", folder / "source", folder / "wheels"
        (self.source / "requirements").mkdir(parents=True)
        make_wheel(self.wheels)
        self.require("tiny==1.0")
        self.lines, self.cancel = [], threading.Event()

    def require(self, *lines, links=None):
        text = "\n".join(["# comment", "--no-index", f"--find-links {links or self.wheels.as_uri()}", *lines])
        for build in ("cpu", "cuda"):
            (self.source / "requirements" / f"{build}.txt").write_text(text)

    def begin(self, other, purpose):
        """An environment as if it had just been made. Making one takes long."""
        without = shutil.ignore_patterns("tiny*", "__pycache__")
        shutil.copytree(other.home / "env", self.home / "env", symlinks=True, ignore=without)
        (self.home / "env" / environment.STAMP).unlink()
        (self.home / "env" / environment.BEGUN).write_text(purpose)

    def installer(self, bases=(Path(sys.executable),), cuda=False, on_line=None):
        return install.Installer(
            self.source, self.home, on_line or self.lines.append, self.cancel, cuda=cuda, bases=bases
        )
