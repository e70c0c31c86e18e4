"""Fingerprints of models: a result counts for the weights that it was made and judged with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def weights_digest(folders: Iterable[Path]) -> str:
    """A fingerprint of all safetensors files in the folders."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.safetensors")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
