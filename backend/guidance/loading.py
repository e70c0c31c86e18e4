"""What the loading of frozen networks has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def refuse_missing(info: Mapping[str, Any]) -> None:
    """Raise ValueError when the files lacked tensors, which the libraries would fill with noise and a warning.

    info: what `from_pretrained(..., output_loading_info=True)` returns beside the network.
    """
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(f"{len(missing)} tensors are missing, the first is {missing[0]}")
