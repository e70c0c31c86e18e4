"""Four views of one object denoised together: self-attention across views, cameras in the time embedding.

MVDream, arXiv 2308.16512, section 3.1. The network itself is diffusers'; what is new stands here.
"""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor

from ..errors import RequestError

VIEWS = 4  # of an object, 90 degrees apart
ELEVATION_DEG = (0.0, 30.0)  # from which it was shown objects (arXiv 2308.16512)
AZIMUTH_TOLERANCE_DEG = 1.0
# MVDream's front is at +X and ours at -Y: its scripts start their rings at azimuth 90 where ours is 0. A quarter turn
# about Z takes our world to MVDream's; apart from it both use Blender's axes, OpenGL's camera axes and unit distance.
TO_MVDREAM = ((0.0, -1.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


class CrossViewAttention:
    """Self-attention in which the pixels of an object's views all see each other."""

    def __init__(self) -> None:
        self.attend = AttnProcessor2_0()

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """(B, L, C) for hidden states (B, L, C), where each run of four rows is one object."""
        assert encoder_hidden_states is None and attention_mask is None, "only for self-attention without a mask"
        batch, length, channels = hidden_states.shape
        joined = hidden_states.reshape(batch // VIEWS, VIEWS * length, channels)
        return self.attend(attn, joined, temb=temb).reshape(batch, length, channels)


class MultiViewUNet(UNet2DConditionModel):
    """UNet2DConditionModel for batches that hold four views of each object. Make one with `multi_view_unet`."""

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DConditionOutput | tuple[Tensor]:
        """The prediction for latents (B, c, h, w), in their order, with timesteps (B,) and text (B, L, C).

        class_labels: (B, 16), the poses of render/cameras.py. Raises RequestError when they are not rings of four.
        """
        if class_labels is None:
            raise RequestError(
                "this prior denoises four views of an object, each with its camera, and not single pictures",
                where="settings.prior",
                remedy="Choose a prior that is not multi-view for pictures",
            )
        order = ring_order(class_labels)
        noise = (
            super().forward(sample[order], timestep[order], encoder_hidden_states[order], class_labels[order]).sample
        )
        noise = noise[order.argsort()]
        return UNet2DConditionOutput(sample=noise) if return_dict else (noise,)


def multi_view_unet(**config: object) -> MultiViewUNet:
    """A network of the given UNet2DConditionModel settings, freshly initialised, with attention across views."""
    unet = MultiViewUNet(class_embed_type="projection", projection_class_embeddings_input_dim=16, **config)
    unet.set_attn_processor(
        {
            name: CrossViewAttention() if name.endswith("attn1.processor") else AttnProcessor2_0()
            for name in unet.attn_processors
        }
    )
    return unet


def ring_order(poses: Tensor) -> Tensor:
    """The order (B,) int64 that puts the four views of a ring next to each other.

    poses: (B, 16), rings one after the other; a ring of 4n views counts as n rings of four. Within four the order does
    not matter, since attention does not know it. Raises RequestError where there are no rings of four.
    """
    count = len(poses)
    azimuth_deg = torch.rad2deg(torch.atan2(poses[:, 3], -poses[:, 7]).float()).cpu()
    for stride in range(1, count // VIEWS + 1):
        if count % (VIEWS * stride):
            continue
        order = torch.arange(count).reshape(-1, VIEWS, stride).transpose(1, 2).reshape(-1, VIEWS)
        turns = azimuth_deg[order].diff(dim=1) % 360.0
        if (turns - 90.0).abs().max() < AZIMUTH_TOLERANCE_DEG or (turns - 270.0).abs().max() < AZIMUTH_TOLERANCE_DEG:
            return order.flatten().to(poses.device)
    raise RequestError(
        "the multi-view prior needs rings of four views, 90 degrees apart",
        where="settings.views",
        remedy="Set views to 4, 8, 12 or 16",
    )


def pose_turn() -> Tensor:
    """The matrix (16, 16) that takes a flattened camera pose from our world to MVDream's."""
    return torch.kron(torch.tensor(TO_MVDREAM), torch.eye(4))
