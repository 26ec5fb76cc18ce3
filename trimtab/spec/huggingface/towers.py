"""Towers: encoders of images and sound whose tokens enter a decoder; each is read as an encoder and stands before the decoder."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from trimtab.model import AttentionSpec, ModelSpec, NormKind, PartSpec, StackRole, StackSpec
from trimtab.spec.huggingface.config import Config
from trimtab.spec.huggingface.heads import Head, Reader, small
from trimtab.spec.huggingface.images import (
    CLIP_VISION,
    SIGLIP_VISION,
    Images,
    image_layers,
    num_patches,
    pair,
    patch_part,
    picture_model,
    read_images,
)
from trimtab.spec.huggingface.layers import runs
from trimtab.spec.huggingface.speech import spectrum_convolutions, whisper_encoder

NOMINAL_SIDE = 448
"""Side in pixels of the picture that is counted where a tower takes pictures of any size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """What stands before the decoder: stacks, parts, and the width and number of the tokens that come out."""

    stacks: tuple[StackSpec, ...]
    parts: tuple[PartSpec, ...]
    width: int
    tokens: int


def tower_of(model: ModelSpec) -> Tower:
    """An encoder as a tower."""
    stacks = tuple(
        replace(stack, role=StackRole.TOWER, hidden_size=model.width(stack), final_norm=stack.final_norm)
        for stack in model.stacks
    )
    return Tower(stacks=stacks, parts=model.parts, width=model.hidden_size, tokens=stacks[-1].num_tokens or 1)


def merged(name: str, sizes: tuple[int, ...], *, tokens: int, bias: bool) -> PartSpec:
    """Linear layers one after the other, over so many tokens."""
    pairs = tuple(itertools.pairwise(sizes))
    weights = sum(inputs * outputs for inputs, outputs in pairs)
    return PartSpec(
        name=name,
        num_parameters=weights + bias * sum(sizes[1:]),
        flops_per_sample=2.0 * weights * tokens,
        activations_per_sample=float(tokens * (sum(sizes[:-1]) + sum(sizes[1:-1]))),
    )


def _nominal_patches(config: Config) -> int:
    rows, columns = pair(config, "patch_size")
    return max(1, NOMINAL_SIDE // rows) * max(1, NOMINAL_SIDE // columns)


def _frames(config: Config) -> int:
    return pair(config, "temporal_patch_size")[0] if config.get("temporal_patch_size") is not None else 1


def read_qwen2_vision(config: Config, head: Head) -> ModelSpec:
    """Qwen2-VL: ViT without positions in a table; four tokens are merged into one of the decoder's width."""
    width, patches = config.count("embed_dim"), _nominal_patches(config)
    row = Images(qkv_bias=True, final_norm=False, inner=lambda c, hidden: max(1, int(hidden * c.number("mlp_ratio", 4))))
    square = config.count("spatial_merge_size") ** 2
    parts = (
        patch_part(config, width, bias=False, patches=patches, frames=_frames(config)),
        *small("norm of the merger", 2 * width),
        merged(
            "merger",
            (square * width, square * width, config.count("hidden_size")),
            tokens=max(1, patches // square),
            bias=True,
        ),
    )
    return picture_model(config, hidden=width, stacks=(image_layers(config, row, hidden=width, tokens=patches),), parts=parts)


def read_qwen2_5_vision(config: Config, head: Head) -> ModelSpec:
    """Qwen2.5-VL: RMS norms, gated blocks with biases, windows but for ``fullatt_block_indexes``."""
    width, patches = config.count("hidden_size"), _nominal_patches(config)
    row = Images(qkv_bias=True, final_norm=False, gated=True, norm=NormKind.RMS)
    layers = image_layers(config, row, hidden=width, tokens=patches)
    side = max(1, config.count("window_size") // pair(config, "patch_size")[0])
    full = set(config.counts("fullatt_block_indexes", low=0)) if config.get("fullatt_block_indexes") else set()
    local = replace(layers, attention=replace(layers.attention, window=max(1, (side * side + 1) // 2)))
    order = [replace(layers if index in full else local, num_layers=1) for index in range(layers.num_layers)]
    square = config.count("spatial_merge_size") ** 2
    parts = (
        patch_part(config, width, bias=False, patches=patches, frames=_frames(config)),
        *small("norm of the merger", width),
        merged(
            "merger",
            (square * width, square * width, config.count("out_hidden_size")),
            tokens=max(1, patches // square),
            bias=True,
        ),
    )
    return picture_model(config, hidden=width, stacks=runs(order, final_norm=False), parts=parts)


def read_qwen3_vision(config: Config, head: Head) -> ModelSpec:
    """Qwen3-VL: a table of positions, and mergers after the layers of ``deepstack_visual_indexes`` too."""
    width, patches = config.count("hidden_size"), _nominal_patches(config)
    row = Images(qkv_bias=True, final_norm=False)
    square, out = config.count("spatial_merge_size") ** 2, config.count("out_hidden_size")
    deep = len(config.counts("deepstack_visual_indexes", low=0)) if config.get("deepstack_visual_indexes") else 0
    tokens = max(1, patches // square)
    merger = merged("merger", (square * width, square * width, out), tokens=tokens, bias=True)
    parts = (
        patch_part(config, width, bias=True, patches=patches, frames=_frames(config)),
        *small("positions", config.count("num_position_embeddings") * width),
        *small("norms of the mergers", 2 * width + deep * 2 * square * width),
        merger,
        *(replace(merger, name=f"merger of level {level + 1}") for level in range(deep)),
    )
    return picture_model(config, hidden=width, stacks=(image_layers(config, row, hidden=width, tokens=patches),), parts=parts)


def _internvl_layer(config: Config, attention: AttentionSpec) -> int:
    hidden = config.count("hidden_size")
    return 2 * hidden + (2 * hidden if config.flag("use_qk_norm") else 0)


def read_internvl_vision(config: Config, head: Head) -> ModelSpec:
    """InternVL: ViT with scales of the blocks; norms of queries and keys, positions and a token for masks by flags."""
    hidden = config.count("hidden_size")
    kind = config.choice("norm_type", ("layer_norm", "rms_norm"))
    row = Images(
        qkv_bias="attention_bias",
        positions=1 if config.flag("use_absolute_position_embeddings") else None,
        final_norm=not config.flag("use_mean_pooling"),
        norm=NormKind.LAYER if kind == "layer_norm" else NormKind.RMS,
        further=_internvl_layer,
        parts=lambda c, h: small("mask token", hidden * c.flag("use_mask_token")),
    )
    model = read_images(config, head, row)
    if row.final_norm and row.norm is NormKind.RMS:
        return replace(model, parts=model.parts + small("bias of the last norm", hidden))
    return model


def read_llama4_vision(config: Config, head: Head) -> ModelSpec:
    """Llama 4: ViT with a norm before and after, then a shuffle of pixels through two layers without biases."""
    model = read_images(config, head, CLIP_VISION)
    tokens = max(1, int(num_patches(config) * config.number("pixel_shuffle_ratio", 0.5) ** 2))
    inner, out = config.count("projector_input_dim"), config.count("projector_output_dim")
    first = merged("adapter", (config.count("intermediate_size"), inner, out), tokens=tokens, bias=False)
    if inner != out:
        config.note("projector_output_dim", f"found {out}", allowed=f"projector_input_dim {inner}", nearest=str(inner))
    return replace(model, parts=(*model.parts, first))


def read_sound(config: Config, head: Head) -> ModelSpec:
    """Whisper's encoder as Qwen2-Audio has it."""
    hidden = config.count("d_model")
    return replace(
        picture_model(config, hidden=hidden, stacks=(whisper_encoder(config),), parts=(spectrum_convolutions(config, hidden),)),
        traits=("keys without a bias",),
    )


def read_siglip2_vision(config: Config, head: Head) -> ModelSpec:
    """SigLIP 2: SigLIP for ``num_patches`` patches, whatever the picture's size."""
    patches, (rows, columns) = config.count("num_patches"), pair(config, "patch_size")
    values = {"image_size": [rows * patches, columns]}
    return read_images(config.over(values), head, SIGLIP_VISION)


_PIXTRAL = Images(
    num_tokens=0,
    qkv_bias=False,
    output_bias=False,
    mlp_bias=False,
    gated=True,
    positions=None,
    patch_bias=False,
    norm_before=True,
    final_norm=False,
    norm=NormKind.RMS,
    traits=("rotary positions of two axes",),
)
_IDEFICS = Images(num_tokens=0, qkv_bias=True, positions=0)

VISION: Mapping[str, Reader] = MappingProxyType(
    {
        "clip_vision_model": lambda config, head: read_images(config, head, CLIP_VISION),
        "siglip_vision_model": lambda config, head: read_images(config, head, SIGLIP_VISION),
        "siglip2_vision_model": read_siglip2_vision,
        "pixtral": lambda config, head: read_images(config, head, _PIXTRAL),
        "idefics3_vision": lambda config, head: read_images(config, head, _IDEFICS),
        "smolvlm_vision": lambda config, head: read_images(config, head, _IDEFICS),
        "qwen2_vl_vision": read_qwen2_vision,
        "qwen2_5_vl_vision": read_qwen2_5_vision,
        "qwen3_vl_vision": read_qwen3_vision,
        "qwen3_vl_moe_vision": read_qwen3_vision,
        "internvl_vision": read_internvl_vision,
        "llama4_vision_model": read_llama4_vision,
        "qwen2_audio_encoder": read_sound,
    }
)
"""Encoders that may stand in a nested configuration, by its ``model_type``."""
