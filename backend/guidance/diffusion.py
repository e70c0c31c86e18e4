"""The diffusion prior: a text-to-image latent diffusion model in diffusers layout, frozen. No losses here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler, ModelMixin, UNet2DConditionModel
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModel, PreTrainedTokenizerBase

from ..errors import ModelError
from ..render.views import OBJECT_VIEWS
from .fit import check_fit
from .loading import check_weights, checkpoint_file, read_config, refuse_missing, refuse_own_tokenizer
from .memory import in_chunks, ready
from .multiview import ELEVATION_DEG, MultiViewUNet
from .mvdream import Parts, is_port, load_checkpoint, load_port_denoiser
from .text import unknown_words, words_cut

Part = TypeVar("Part", bound=ModelMixin)


class DiffusionPrior:
    """Tokenizer, text encoder, autoencoder, denoiser and noise schedule of one model."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder: CLIPTextModel,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler: DDIMScheduler,
    ) -> None:
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder.eval().requires_grad_(False)
        self.vae = vae.eval().requires_grad_(False)
        self.unet = unet.eval().requires_grad_(False)
        self.scheduler = scheduler
        self.encode_at_once = 0  # pictures; 0: all, with every activation kept for the gradient
        self.make_ready = ready  # called before denoiser or text encoder is used, which may wait elsewhere
        self.alphas_cumprod = scheduler.alphas_cumprod.to(unet.device)  # (T,), alpha_bar of DDPM (arXiv 2006.11239)

    @property
    def image_px(self) -> int:
        """Edge of the pictures it was trained on, pixels."""
        return self.unet.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def knows_cameras(self) -> bool:
        """Whether the denoiser takes camera poses (class embedding from 16 numbers, as MVDream feeds them)."""
        return self.unet.config.class_embed_type == "projection"

    @property
    def elevation_deg(self) -> tuple[float, float]:
        """The elevations it knows objects from: least and largest."""
        return ELEVATION_DEG if isinstance(self.unet, MultiViewUNet) else OBJECT_VIEWS.elevation_deg

    @property
    def pose_dtype(self) -> torch.dtype:
        """What poses are embedded in: a LoRA's own embedding of them (guidance/variational.py) is float32 always."""
        return next(self.unet.class_embedding.parameters()).dtype

    def use_tiles(self, edge_px: int) -> None:
        """Let the autoencoder work on larger pictures tile by tile, with few activations kept for the gradient.

        Tiles overlap by a quarter and are blended there. edge_px: of a tile, a multiple of 32; 0: whole pictures.
        """
        self.vae.use_tiling = edge_px > 0
        if not edge_px:
            self.vae.disable_gradient_checkpointing()
            return
        self.vae.enable_gradient_checkpointing()
        self.vae.tile_sample_min_size = edge_px
        self.vae.tile_latent_min_size = edge_px // 2 ** (len(self.vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Text embeddings: (N, L, C). Of a prompt longer than the tokenizer takes the end is lost: see words_cut."""
        self.make_ready()
        ids = self.tokenizer(
            list(prompts), padding="max_length", max_length=self.tokenizer.model_max_length, truncation=True
        )["input_ids"]
        return self.text_encoder(torch.tensor(ids, device=self.unet.device)).last_hidden_state

    def encode(self, images: Tensor) -> Tensor:
        """Latents (B, c, h, w), scaled to unit variance, differentiable in images: (B, H, W, 3) sRGB in [0, 1]."""
        pixels = (images.permute(0, 3, 1, 2) * 2 - 1).to(self.vae.dtype).contiguous(memory_format=torch.channels_last)
        return in_chunks(self._encode, pixels, self.encode_at_once).to(images.dtype)

    def _encode(self, pixels: Tensor) -> Tensor:
        return self.vae.encode(pixels).latent_dist.mean * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (B, H, W, 3), sRGB in [0, 1], of scaled latents (B, c, h, w)."""
        scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        pixels = in_chunks(lambda rows: self.vae.decode(rows).sample, scaled, self.encode_at_once)
        return (pixels.permute(0, 2, 3, 1).float() / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def predict_noise(self, noisy: Tensor, t: Tensor, text: Tensor, poses: Tensor | None) -> Tensor:
        """The noise epsilon the denoiser sees in `noisy` (B, c, h, w), whether it was trained on epsilon or on v.

        t: (B,) int64 timesteps. text: (B, L, C). poses: (B, 16) camera-to-world, or None for a model without cameras.
        """
        self.make_ready()
        out = self.unet(
            noisy.to(self.unet.dtype),
            t,
            encoder_hidden_states=text,
            class_labels=poses.to(self.pose_dtype) if self.knows_cameras and poses is not None else None,
        ).sample.to(noisy.dtype)
        if self.scheduler.config.prediction_type == "v_prediction":  # arXiv 2202.00512, appendix D
            alpha_bar = self.alphas_cumprod[t][:, None, None, None]
            return alpha_bar.sqrt() * out + (1 - alpha_bar).sqrt() * noisy
        return out

    def unknown_words(self, text: str) -> list[str]:
        """The words of `text` the tokenizer has no token for, each once, in order."""
        return unknown_words(self.tokenizer, text)

    def words_cut(self, text: str) -> str:
        """The end of `text` that does not fit into the text encoder's longest sequence; "" when all of it fits."""
        return words_cut(self.tokenizer, text)


def load_prior(folder: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> DiffusionPrior:
    """The model in a folder of diffusers layout, or MVDream's in its own (a file, or the folder it lies in), frozen.

    Raises ModelError when a part is missing, damaged or of another kind.
    """
    checkpoint = checkpoint_file(folder)
    parts = load_checkpoint(checkpoint, dtype) if checkpoint else _load_folder(folder, dtype)
    layout = torch.channels_last
    return DiffusionPrior(
        parts.tokenizer,
        parts.text_encoder.to(device),
        parts.vae.to(device).to(memory_format=layout),
        parts.unet.to(device).to(memory_format=layout),
        parts.scheduler,
    )


def _load_folder(folder: Path, dtype: torch.dtype) -> Parts:
    if not (folder / "model_index.json").is_file():
        raise ModelError(
            "there is no model here", where=str(folder), remedy="Give a folder that holds model_index.json"
        )
    part = "model_index.json"
    try:
        read_config(folder / part)
        check_fit(folder)
        part = "tokenizer"
        refuse_own_tokenizer(folder / part)
        tokenizer = AutoTokenizer.from_pretrained(folder / part, trust_remote_code=False)
        part = "text_encoder"
        variant = check_weights(folder / part, "model").variant
        text_encoder, info = CLIPTextModel.from_pretrained(
            folder / part, use_safetensors=True, variant=variant, dtype=dtype, output_loading_info=True
        )
        refuse_missing(info)
        part = "vae"
        vae = _load_part(AutoencoderKL, folder / part, torch.float32 if dtype == torch.float16 else dtype)  # gradients
        part = "unet"
        unet: UNet2DConditionModel
        if is_port(folder / part):
            unet = load_port_denoiser(folder / part, dtype)
        else:
            unet = _load_part(UNet2DConditionModel, folder / part, dtype)
        part = "scheduler"
        scheduler = DDIMScheduler.from_pretrained(folder / part)
    except ModelError:
        raise
    except Exception as error:  # the libraries raise many kinds for a damaged file
        raise ModelError(
            f"the model cannot be loaded ({type(error).__name__}: {error})",
            where=str(folder / part),
            remedy="Restore the folder's files, or download the model again",
        ) from error
    return Parts(tokenizer, text_encoder, vae, unet, scheduler)


def _load_part(kind: type[Part], folder: Path, dtype: torch.dtype) -> Part:
    read_config(folder / "config.json")
    variant = check_weights(folder, "diffusion_pytorch_model").variant
    network, info = kind.from_pretrained(
        folder,
        use_safetensors=True,
        variant=variant,
        torch_dtype=dtype,
        low_cpu_mem_usage=False,
        output_loading_info=True,
    )
    refuse_missing(info)
    return network
