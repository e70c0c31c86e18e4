"""A small checkpoint in MVDream's original layout, with numbers everyone can make again from the tensors' names."""

from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import CLIPTokenizer

FIXTURE = Path(__file__).parent / "mvdream_original.npz"


def weights(names: list[str], shapes: list[tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Tensors whose random numbers depend on nothing but their names, scaled to keep activations near 1."""
    made = {}
    for name, shape in zip(names, shapes, strict=True):
        noise = np.random.default_rng(crc32(name.encode())).random(shape, dtype=np.float32) * 2 - 1
        if len(shape) > 1 and "embedding" not in name:
            values = noise * (3 / np.prod(shape[1:])) ** 0.5
        else:  # norms' scales lie around 1, biases around 0
            values = 0.2 * noise + (len(shape) == 1 and name.endswith("weight"))
        made[name] = torch.from_numpy(values.astype(np.float32))
    return made


def write_tokenizer(folder: Path, words: int) -> None:
    """A CLIP tokenizer of `words` tokens, of which it uses the letters; 0 is the padding as in Stable Diffusion 2."""
    folder.mkdir(parents=True)
    letters = [chr(ord("a") + i) for i in range(26)]
    tokens = ["!", *letters, *(letter + "</w>" for letter in letters)]
    tokens += [f"<{i}>" for i in range(words - 2 - len(tokens))] + ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=[], pad_token="!", model_max_length=77)
    tokenizer.save_pretrained(folder)
    assert len(tokenizer) == words


def write_checkpoint(file: Path) -> dict[str, np.ndarray]:
    """The fixture's numbers, after writing the checkpoint whose outputs they are and a tokenizer beside it."""
    with np.load(FIXTURE) as stored:
        numbers = dict(stored)
    shapes = [tuple(int(edge) for edge in shape.split(",")) for shape in numbers["shapes"]]
    save_file(weights([str(name) for name in numbers["names"]], shapes), file)
    return numbers
