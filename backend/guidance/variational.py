"""VSD's second denoiser: the prior with a LoRA, fitted during the run to what the run itself makes.

ProlificDreamer (arXiv 2305.16213, section 3.2): the LoRA sees the rendered samples with their cameras and learns the
score of their distribution, which VSD subtracts from the prior's.
"""

from __future__ import annotations

import copy

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import TimestepEmbedding
from peft import LoraConfig
from torch import Tensor

from .diffusion import DiffusionPrior
from .distillation import add_noise, native_target
from .multiview import MultiViewUNet

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]  # the layers that get a LoRA, as in the paper's code
POSE_NUMBERS = 16  # of a camera-to-world matrix


class VariationalScore:
    """A trainable denoiser over the prior's frozen weights, with its own optimiser."""

    def __init__(
        self,
        prior: DiffusionPrior,
        generator: torch.Generator,
        *,
        rank: int = 4,
        lr: float = 3e-4,
        drop: float = 0.1,
    ) -> None:
        """rank: of the LoRA. lr: AdamW's. drop: share of training samples without prompt (and camera).

        The prior itself is not changed: its weights are shared, not copied.
        """
        prior.make_ready()  # noise schedule and LoRA are made where the weights are
        unet = _sharing_copy(prior.unet)
        self.model = DiffusionPrior(prior.tokenizer, prior.text_encoder, prior.vae, unet, prior.scheduler)
        self.model.make_ready = prior.make_ready
        seed = int(torch.randint(2**31, (), generator=generator))
        with torch.random.fork_rng(devices=[]):  # peft draws the LoRA from the global generator
            torch.manual_seed(seed)
            unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=ATTENTION))
            self.own_cameras = not prior.knows_cameras
            if self.own_cameras:
                _learn_cameras(unet)
        self.drop, self.generator = drop, generator
        self.parameters = [p for p in unet.parameters() if p.requires_grad]
        for parameter in self.parameters:
            parameter.data = parameter.data.float()  # AdamW's small steps would be lost in half precision
        self.optimizer = torch.optim.AdamW(self.parameters, lr=lr)

    def predict_noise(self, noisy: Tensor, t: Tensor, text: Tensor, poses: Tensor | None) -> Tensor:
        """The noise of the variational score, as DiffusionPrior.predict_noise; no guidance (the paper's scale is 1)."""
        return self.model.predict_noise(noisy, t, text, self._poses(poses, len(noisy)))

    def loss(self, latents: Tensor, text: Tensor, empty: Tensor, poses: Tensor | None) -> Tensor:
        """The diffusion loss of the latents (B, c, h, w), a scalar with gradient in the LoRA alone: equation 10.

        Every sample has its own t over all timesteps, and its own chance to lose prompt and camera; the views of a
        multi-view prior, which are denoised together, share both. text: (B, L, C). empty: (1, L, C), the embedding
        of "".
        """
        count, device, model = len(latents), latents.device, self.model
        clean = latents.detach()
        draws = 1 if isinstance(model.unet, MultiViewUNet) else count
        t = torch.randint(len(model.alphas_cumprod), (draws,), generator=self.generator).expand(count).to(device)
        noise = torch.randn(latents.shape, generator=self.generator).to(device)
        kept = (torch.rand(draws, generator=self.generator) >= self.drop).expand(count).to(device)
        text = torch.where(kept[:, None, None], text, empty)
        poses = self._poses(poses, count)
        if self.own_cameras:  # a prior that knows cameras was never without one, and the LoRA need not be
            poses = poses * kept[:, None]
        alpha_bar = model.alphas_cumprod[t]
        model.make_ready()
        dtype = model.unet.dtype
        noisy = add_noise(clean, noise, alpha_bar).to(dtype)
        predicted = model.unet(
            noisy, t, encoder_hidden_states=text.to(dtype), class_labels=poses.to(model.pose_dtype)
        ).sample
        target = native_target(clean, noise, alpha_bar, model.scheduler.config.prediction_type)
        return torch.nn.functional.mse_loss(predicted.float(), target.float())

    def learn(self, latents: Tensor, text: Tensor, empty: Tensor, poses: Tensor | None) -> Tensor:
        """One step of the optimiser on `loss`; returns the loss before it, without gradient."""
        loss = self.loss(latents, text, empty, poses)
        # A mean's gradient in a single number is so small that a network in float16 loses it on the way back: what goes
        # back is the sum's, divided in the LoRA's own float32.
        count = latents.numel()
        for parameter, gradient in zip(
            self.parameters, torch.autograd.grad(loss * count, self.parameters), strict=True
        ):
            parameter.grad = gradient / count
        self.optimizer.step()
        return loss.detach()

    def tensors(self) -> dict[str, Tensor]:
        """What it has learnt, by parameter name, for a checkpoint; the optimiser has a state_dict of its own."""
        return {name: p.detach() for name, p in self.model.unet.named_parameters() if p.requires_grad}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` gave. Raises ValueError when they are of another LoRA."""
        own = self.tensors()
        if own.keys() != tensors.keys():
            raise ValueError("the LoRA is another one")
        for name, value in tensors.items():
            own[name].copy_(value)

    def _poses(self, poses: Tensor | None, count: int) -> Tensor:
        if poses is None:
            return torch.zeros(count, POSE_NUMBERS, device=self.model.unet.device)
        return poses


def _sharing_copy(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Another network of the same parameters and buffers: adapters put into it leave the first one as it is."""
    shared = {id(t): t for t in [*unet.parameters(), *unet.buffers()]}
    return copy.deepcopy(unet, shared)


def _learn_cameras(unet: UNet2DConditionModel) -> None:
    """Give a denoiser without cameras a trainable embedding of poses, added to that of the timestep.

    It begins at zero, so that the network begins as the prior.
    """
    width = unet.time_embedding.linear_2.out_features
    unet.class_embedding = TimestepEmbedding(POSE_NUMBERS, width).to(unet.device, unet.dtype)
    torch.nn.init.zeros_(unet.class_embedding.linear_2.weight)
    torch.nn.init.zeros_(unet.class_embedding.linear_2.bias)
    unet.register_to_config(class_embed_type="projection", projection_class_embeddings_input_dim=POSE_NUMBERS)
