"""What diffusers and transformers call the tensors of an original latent diffusion checkpoint, by its structure.

The original numbers the blocks of its networks through; diffusers counts levels, and layers within a level.
"""

from __future__ import annotations

from torch import Tensor

DENOISER_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "camera_embed.0": "class_embedding.linear_1",
    "camera_embed.2": "class_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
PIXEL_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
TEXT_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def denoiser_name(key: str, layers: int) -> str:
    """The name in UNet2DConditionModel. layers: residual blocks of a level on the way down.

    Raises ValueError for a name that is not the network's.
    """
    stem, _, kind = key.rpartition(".")
    if stem in DENOISER_ENDS:
        return f"{DENOISER_ENDS[stem]}.{kind}"
    group, *path = stem.split(".")
    if group == "middle_block":  # residual block, transformer, residual block
        place, layer, inner = "mid_block", int(path[0]) // 2, ".".join(path[1:])
    elif group == "input_blocks":  # 0 is conv_in; each level ends with a downsampling
        level, layer = divmod(int(path[0]) - 1, layers + 1)
        place, inner = f"down_blocks.{level}", ".".join(path[2:])
    elif (
        group == "output_blocks"
    ):  # one residual block more, for conv_in or the downsampling; upsampling is in the last
        level, layer = divmod(int(path[0]), layers + 1)
        place, inner = f"up_blocks.{level}", ".".join(path[2:])
    else:
        raise ValueError(f"{key} is no tensor of MVDream's denoiser")
    if inner in RESIDUAL:
        return f"{place}.resnets.{layer}.{RESIDUAL[inner]}.{kind}"
    if inner in ("op", "conv"):
        return f"{place}.{'downsamplers' if inner == 'op' else 'upsamplers'}.0.conv.{kind}"
    return f"{place}.attentions.{layer}.{inner}.{kind}"


def autoencoder_name(key: str, levels: int) -> str:
    """The name in AutoencoderKL. levels: resolutions of the encoder. Raises ValueError for a name that is not its."""
    side, *path, kind = key.split(".")
    if side in ("quant_conv", "post_quant_conv"):
        return key
    new: str
    match path:
        case ["conv_in" | "conv_out"]:
            new = path[0]
        case ["norm_out"]:
            new = "conv_norm_out"
        case ["mid", "attn_1", name]:
            new = f"mid_block.attentions.0.{PIXEL_ATTENTION[name]}"
        case ["mid", block, name]:
            new = f"mid_block.resnets.{int(block.removeprefix('block_')) - 1}.{name}"
        case ["down", level, "block", layer, name]:
            new = f"down_blocks.{level}.resnets.{layer}.{name}"
        case ["down", level, "downsample", "conv"]:
            new = f"down_blocks.{level}.downsamplers.0.conv"
        case ["up", level, "block", layer, name]:  # numbered by resolution; diffusers numbers them in running order
            new = f"up_blocks.{levels - 1 - int(level)}.resnets.{layer}.{name}"
        case ["up", level, "upsample", "conv"]:
            new = f"up_blocks.{levels - 1 - int(level)}.upsamplers.0.conv"
        case _:
            raise ValueError(f"{key} is no tensor of the autoencoder")
    return f"{side}.{new.replace('nin_shortcut', 'conv_shortcut')}.{kind}"


def text_tensors(original: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """CLIPTextModel's tensors from OpenCLIP's text transformer, of which the first `layers` layers are kept."""
    new = {
        "embeddings.token_embedding.weight": original["token_embedding.weight"],
        "embeddings.position_embedding.weight": original["positional_embedding"],
        "final_layer_norm.weight": original["ln_final.weight"],
        "final_layer_norm.bias": original["ln_final.bias"],
    }
    for layer in range(layers):
        old_place, place = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
        for kind in ("weight", "bias"):
            for old, name in TEXT_LAYER.items():
                new[f"{place}.{name}.{kind}"] = original[f"{old_place}.{old}.{kind}"]
            joined = original[f"{old_place}.attn.in_proj_{kind}"]
            for name, part in zip("qkv", joined.chunk(3), strict=True):
                new[f"{place}.self_attn.{name}_proj.{kind}"] = part
    return new
