"""`python -m backend`."""

import io
import os
import sys

from .doctor import INSTALL, print_report

# GNU OpenMP's threads wait by spinning, which two programs on the same cores do against each other: see
# docs/performance.md. It reads this when torch is loaded, here or in the service's worker.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def start() -> int:
    """The command line's exit status; 2 where this Python lacks a package."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # Windows' code pages lack letters that names may have
            stream.reconfigure(errors="backslashreplace")
    try:
        from .cli import main

        return main()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == __package__:
            raise
        if sys.argv[1:2] == ["doctor"]:  # it is asked just then, and needs no package
            return print_report()
        print(f"error: the package {error.name!r} is not installed in {sys.executable}. {INSTALL},", file=sys.stderr)
        print("or take the environment that make demo makes: source .venv/bin/activate", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(start())
