"""A table of what a question costs the VLM critic, forward and backward: the first, and each one more.

python -m tests.bench.vlm [THREADS]

The later questions share the first one's pictures; the aim is at most 35 % of its cost for each. Networks have random
weights. Those of real size are built only on a GPU.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from transformers import (
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from backend.guidance.preprocess import Preprocessing
from backend.guidance.questions import FULL, SHORT, Wording, about_object
from backend.guidance.vlm import VisionLanguageModel
from backend.starter.vlm_model import FRAMES, MEAN, MERGE, PATCH, STD, build_network
from backend.starter.vocabulary import chat_tokenizer
from tests.small_vlms import build_qwen3

AIM = 0.35
REPEATS = 5
LATER = 4  # questions after the first
VIEWS = 4
QWEN2_5 = Preprocessing(14, MERGE, FRAMES, MEAN, STD, 56 * 56, 12_845_056)
QWEN3 = Preprocessing(16, MERGE, FRAMES, MEAN, STD, 256 * 256, 16_777_216)


def seconds(vlm: VisionLanguageModel, images: torch.Tensor, questions: list[str]) -> float:
    """Forward and backward to the pixels, the shortest of several runs; on the CPU in processor time.

    Other load on the machine only ever adds, and to processor time less than to the clock's.
    """
    clock = time.process_time if images.device.type == "cpu" else time.perf_counter
    best = float("inf")
    for _ in range(REPEATS + 1):
        leaf = images.clone().requires_grad_()
        _wait(images.device)
        start = clock()
        vlm.log_odds(leaf, questions).sum().backward()
        _wait(images.device)
        best = min(best, clock() - start)
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def row(name: str, vlm: VisionLanguageModel, px: int, wording: Wording) -> None:
    """Prints one line of the table."""
    device = vlm.network.device
    images = torch.rand(VIEWS, px, px, 3, generator=torch.Generator().manual_seed(0)).to(device)
    asked = [question.text for prompt in ("a cube", "a sphere") for question in about_object(prompt, wording)]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    first, all_of_them = seconds(vlm, images, asked[:1]), seconds(vlm, images, asked[: 1 + LATER])
    share = (all_of_them - first) / LATER / first
    memory = f"{torch.cuda.max_memory_allocated(device) / 2**30:6.1f}" if device.type == "cuda" else "     -"
    words = len(vlm.packed([(1, 1)], asked[:1]).ids)
    verdict = "ok" if share <= AIM else "MISSED"
    times = f"{1000 * first:>10.1f}{1000 * share * first:>10.1f}{share:>8.0%}"
    print(f"{name:26}{px:>5}{words:>7}{times}  {verdict:7}{memory}")


def real(kind: type[PreTrainedModel], config: object, device: torch.device) -> PreTrainedModel:
    """A network of real size with random weights, made where it is to run."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            return kind(config)  # type: ignore[arg-type]
    finally:
        torch.set_default_dtype(torch.float32)


def qwen3_config(hidden: int, inner: int, layers: int, heads: int, vision: dict[str, object]) -> Qwen3VLConfig:
    """The architecture of Qwen3-VL in one of its sizes, as its config.json gives it; the smaller ones share the words'
    vectors between input and output.
    """
    text = dict(vocab_size=151936, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers)
    text |= dict(num_attention_heads=heads, num_key_value_heads=8, head_dim=128)
    rope = dict(rope_type="default", rope_theta=5e6, mrope_section=[24, 20, 20], mrope_interleaved=True)
    return Qwen3VLConfig(
        text_config=text | {"rope_parameters": rope},
        vision_config=vision | {"out_hidden_size": hidden},
        tie_word_embeddings=hidden < 4096,
    )


SMALLER_VISION = dict(depth=24, hidden_size=1024, intermediate_size=4096, deepstack_visual_indexes=[5, 11, 17])
REAL: dict[str, tuple[Preprocessing, Callable[[torch.device], PreTrainedModel]]] = {
    "Qwen3-VL-2B": (
        QWEN3,
        lambda d: real(Qwen3VLForConditionalGeneration, qwen3_config(2048, 6144, 28, 16, SMALLER_VISION), d),
    ),
    "Qwen3-VL-4B": (
        QWEN3,
        lambda d: real(Qwen3VLForConditionalGeneration, qwen3_config(2560, 9728, 36, 32, SMALLER_VISION), d),
    ),
    "Qwen3-VL-8B": (
        QWEN3,
        lambda d: real(Qwen3VLForConditionalGeneration, qwen3_config(4096, 12288, 36, 32, {}), d),
    ),
    "Qwen2.5-VL-7B": (QWEN2_5, lambda d: real(Qwen2_5_VLForConditionalGeneration, QWEN2_5_7B, d)),
}
QWEN2_5_7B = Qwen2_5_VLConfig(
    text_config={
        **dict(vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28),
        **dict(num_attention_heads=28, num_key_value_heads=4),
        "rope_parameters": dict(rope_type="default", rope_theta=1e6, mrope_section=[16, 24, 24]),
    },
    vision_config=dict(depth=32, hidden_size=1280, intermediate_size=3420, num_heads=16, out_hidden_size=3584),
)


def main(threads: int) -> None:
    """Prints the table."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {threads} thread(s)"
    print(f"vlm, {VIEWS} views, forward and backward, shortest of {REPEATS}; {machine}")
    print(f"{'network':26}{'px':>5}{'words':>7}{'first ms':>10}{'more ms':>10}{'share':>8}  {'aim':7}{'peak GiB':>6}")
    starter = Preprocessing(PATCH, MERGE, FRAMES, MEAN, STD, 64 * 64, 64 * 64 * 16)
    tokenizer = chat_tokenizer()
    row("starter (Qwen2.5-VL)", VisionLanguageModel(build_network().to(device), tokenizer, starter), 64, SHORT)
    small = QWEN3._replace(min_pixels=64 * 64)
    row("small Qwen3-VL", VisionLanguageModel(build_qwen3(128).to(device), tokenizer, small), 128, FULL)
    if device.type != "cuda":
        print("networks of real size: not measured, there is no GPU here")
        return
    for name, (preprocessing, build) in REAL.items():
        network = build(device)
        network.config.image_token_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        vlm = VisionLanguageModel(network, tokenizer, preprocessing)
        row(name, vlm, 256, FULL)
        del network, vlm
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
