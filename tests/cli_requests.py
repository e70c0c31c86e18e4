"""Requests for the command line that are small and run on untrained networks, and what it says of them."""

import json
from pathlib import Path

from backend.cli import main


def small_request(folders: tuple[Path, Path]) -> dict:
    """The smallest request that does all a run does. folders: of a prior and of a vision-language model."""
    settings = {"prior": str(folders[0]), "vlm": str(folders[1]), "steps": 3, "views": 2, "resolution": 8}
    settings |= {"final_resolution": 9, "refine_at": 0.6, "reward_from": 0, "texture_px": 64, "preview_px": 32}
    return {"slots": [{"name": "cube", "prompt": "a red cube"}], "seed": 1, "settings": settings}


def written(content: object, path: Path) -> str:
    """The path as text, at which now stands the request (or any text or bytes)."""
    data = content if isinstance(content, bytes) else (content if isinstance(content, str) else json.dumps(content))
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def refused(capsys, *arguments: str, status: int = 2) -> str:
    """The one message of a command that must fail."""
    assert main(["generate", *arguments]) == status
    out, err = capsys.readouterr()
    assert out == ""
    message = [line for line in err.splitlines() if not line.startswith(("warning: ", "["))]
    assert len(message) == 1, err
    assert message[0].startswith("error: ")
    assert "Traceback" not in err
    return message[0]
