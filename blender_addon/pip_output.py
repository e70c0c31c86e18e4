"""What pip's lines mean: progress for the panel, and the fault behind a failure. Never imports bpy."""

import re

from .messages import BackendError

STEP_PERCENT = 5  # between two lines of progress
MB = 10**6
SMALL_BYTES = 20 * MB  # files below get no percentages

NETWORK = re.compile(
    r"NewConnectionError|ConnectTimeout|ReadTimeout|Failed to establish|Max retries|getaddrinfo|name resolution"
    r"|Connection(Reset|Refused|Aborted)?Error|ProxyError|Network is unreachable|IncompleteRead|ProtocolError"
)
CERTIFICATE = re.compile(r"SSLError|CERTIFICATE_VERIFY_FAILED|certificate verify failed")
FULL = re.compile(r"No space left on device|Errno 28|WinError 112|not enough space on the disk")
RIGHTS = re.compile(r"Permission denied|Errno 13|WinError (5|32)\b|Access is denied|being used by another process")
LONG_PATH = re.compile(r"WinError (206|3)\b|Long Path|filename or extension is too long")
NO_BUILD = re.compile(
    r"No matching distribution found for (\S+)|Could not find a version that satisfies.*?requirement (\S+)"
)


class PipLines:
    """Turns pip's lines into those worth showing: "" for the others. Remembers which file is being fetched."""

    def __init__(self) -> None:
        self.name, self.next_percent = "", STEP_PERCENT

    def read(self, line: str) -> str:
        """The line to show for one line of pip's, or ""."""
        line = line.strip()
        if found := re.fullmatch(r"Progress (\d+) of (\d+)", line):
            return self._progress(int(found[1]), int(found[2]))
        if found := re.match(r"Downloading (\S+)(?: \(([^)]*)\))?", line):
            file = found[1].rsplit("/", 1)[-1]
            self.name, self.next_percent = "-".join(file.split("-")[:2]).removesuffix(".metadata"), STEP_PERCENT
            return f"Downloading {self.name}" + (f" ({found[2]})" if found[2] else "")
        if line.startswith(("Collecting ", "Installing ", "Building ", "Successfully ", "ERROR", "error:")):
            return line[:160]
        return ""

    def _progress(self, done: int, total: int) -> str:
        if total < SMALL_BYTES or 100 * done < self.next_percent * total:
            return ""
        self.next_percent = 100 * done // total + STEP_PERCENT
        return f"Downloading {self.name}: {100 * done // total} % of {total // MB} MB"


def pip_fault(output: str, log: str, python: str) -> BackendError:
    """The error behind the end of what a failed pip printed. python: its version, as text."""
    if FULL.search(output):
        return BackendError("The disk is full", log, "Make room and install again", "install")
    if CERTIFICATE.search(output):
        remedy = "Check the clock, and the proxy or virus scanner that opens secure connections"
        return BackendError("The package index's certificate is not accepted", log, remedy, "install")
    if NETWORK.search(output):
        remedy = "Check the network or the proxy and install again: what was fetched is kept"
        return BackendError("The package index cannot be reached", log, remedy, "install")
    if LONG_PATH.search(output):
        remedy = "Turn on long paths in Windows, then install again"
        return BackendError("A path became too long for Windows", log, remedy, "install")
    if RIGHTS.search(output):
        remedy = "Stop the backend, close what uses its files, and install again"
        return BackendError("A file cannot be written", log, remedy, "install")
    if found := NO_BUILD.search(output):
        name = found[1] or found[2]
        remedy = "Choose a Python that PyTorch supports in the preferences"
        return BackendError(f"There is no {name} for Python {python} on this system", log, remedy, "settings")
    last = [line.strip() for line in output.splitlines() if line.strip()][-1:]
    words = next((line.strip() for line in output.splitlines() if line.startswith("ERROR")), "".join(last))
    return BackendError(f"The installation failed: {words[:200]}", log, "See its log, then install again", "log")
