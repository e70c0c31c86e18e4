"""The frozen networks of one run."""

from __future__ import annotations

from typing import NamedTuple

import diffusers
import torch
import transformers

from ..models_table import require_model
from ..schema import Settings
from .diffusion import DiffusionPrior, load_prior
from .memory import Turns
from .rewards import RewardModel, load_reward
from .text import known_words
from .vlm import VisionLanguageModel, load_vlm

# The settings that `load_models` heeds: where two runs agree in them, they can share their networks.
HEEDED = (
    "prior",
    "vlm",
    "network_dtype",
    "encode_at_once",
    "vae_tile_px",
    "offload_idle",
    "vlm_px",
    "vlm_four_bit",
    "reward",
    "reward_folder",
)


class Models(NamedTuple):
    """Loaded once, shared by all jobs whose settings agree in HEEDED."""

    prior: DiffusionPrior
    vlm: VisionLanguageModel
    reward: RewardModel | None = None  # of candidates; None: the VLM's own

    def set_up(self, settings: Settings, device: torch.device) -> Models:
        """The same networks, made to use as much of the device's memory as the settings allow."""
        self.prior.encode_at_once = settings.encode_at_once
        self.prior.use_tiles(settings.vae_tile_px)
        if takes_turns(settings.offload_idle, device):
            take_turns(self.prior, self.vlm, settings.vlm_four_bit, device)
        return self

    def warnings(self, prompts: list[str], negative: str = "") -> list[str]:
        """A line for the models that do not know some words of the prompts, and one for each prompt that would be cut.

        negative: the prompt of what is not to be seen; the prior alone reads it.
        """
        read = [*prompts, negative]
        whole = read if self.prior.knows_cameras else [*(f"{prompt}, overhead view" for prompt in prompts), negative]
        lines = [line for prompt in dict.fromkeys(whole) if (line := cut_warning(self.prior, prompt))]
        if self.reward is not None:
            cut = {prompt: words for prompt in prompts if (words := self.reward.words_cut(prompt))}
            lines += [f"of {prompt!r} the reward model does not see: {words!r}" for prompt, words in cut.items()]
        both: dict[str, list[str]] = {}  # unknown and known words -> the models of which it is said
        for name, model, texts in (("diffusion prior", self.prior, read), ("vision-language model", self.vlm, prompts)):
            unknown = list(dict.fromkeys(w for prompt in texts for w in model.unknown_words(prompt)))
            if unknown:
                known = ", ".join(known_words(model.tokenizer))
                both.setdefault(f"not know: {', '.join(unknown)}. Known words: {known}", []).append(name)
        return lines + [
            f"the {' and the '.join(names)} {'do' if names[1:] else 'does'} {said}" for said, names in both.items()
        ]


def cut_warning(prior: DiffusionPrior, prompt: str) -> str:
    """What the user is told of a prompt the prior cannot read to its end; "" when it can."""
    cut = prior.words_cut(prompt)
    if not cut:
        return ""
    room = prior.tokenizer.model_max_length - prior.tokenizer.num_special_tokens_to_add()
    return f"the diffusion prior reads {room} tokens of a prompt; of {prompt!r} it does not see: {cut!r}"


def load_models(settings: Settings, device: torch.device) -> Models:
    """The networks of the settings. Raises ModelError when one is missing or damaged."""
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()  # the run has its own
    folders = require_model(settings.prior, "prior"), require_model(settings.vlm, "vlm")
    dtype = network_dtype(settings.network_dtype, device)
    prior = load_prior(folders[0], device, dtype)
    if takes_turns(settings.offload_idle, device):  # not both on the device, not even while they are loaded
        prior.unet.to("cpu")
    vlm = load_vlm(folders[1], device, vlm_dtype(dtype), settings.vlm_four_bit, settings.vlm_px)
    models = Models(prior, vlm)
    if settings.reward != "vlm":
        models = models._replace(reward=load_reward(settings.reward, settings.reward_folder, device))
    return models.set_up(settings, device)


def takes_turns(offload_idle: bool, device: torch.device) -> bool:
    """Whether prior and VLM take turns on the device: on CUDA alone, elsewhere nothing is saved."""
    return offload_idle and device.type == "cuda"


def take_turns(prior: DiffusionPrior, vlm: VisionLanguageModel, four_bit: bool, device: torch.device) -> None:
    """Have both wait in the CPU's memory while the other one works. four_bit: the VLM's weights are, and stay."""
    turns = Turns(device)  # the autoencoder is small, and so are 4-bit weights: they stay
    prior.make_ready = turns.add([prior.unet, prior.text_encoder])
    if not four_bit:
        vlm.make_ready = turns.add([vlm.network])


def network_dtype(name: str, device: torch.device) -> torch.dtype:
    """What the frozen networks compute in; always float32 on the CPU, where less is slower."""
    return torch.float32 if device.type == "cpu" else getattr(torch, name)


def vlm_dtype(dtype: torch.dtype) -> torch.dtype:
    """What the VLM computes in beside a prior of this dtype: in float16 its own small gradients would be lost, and its
    large activations run over."""
    return torch.bfloat16 if dtype == torch.float16 else dtype
