"""What several commands do alike."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from ..errors import RequestError


def named_values(items: Iterable[str], example: str) -> Iterator[tuple[str, str]]:
    """Name and value of each NAME=VALUE that --set was given. Raises RequestError, which shows the example."""
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise RequestError(f"expected NAME=VALUE, got {item!r}", where="--set", remedy=f"Such as --set {example}")
        yield name.strip(), value


def warn(text: str) -> None:
    """Print a warning beside the progress bar."""
    print(f"warning: {text}", file=sys.stderr)
