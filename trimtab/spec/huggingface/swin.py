"""Swin: encoders of images in stages, with attention inside windows (arXiv 2103.14030; 2111.09883 the second version)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from trimtab.model import AttentionSpec, FeedForwardSpec, ModelSpec, NormKind, PartSpec, StackRole, StackSpec
from trimtab.spec.huggingface.config import Config
from trimtab.spec.huggingface.heads import Head, Rule, linear, num_labels, small
from trimtab.spec.huggingface.images import IMAGE_HEADS, inner_by_ratio, num_patches, patch_part, picture_model
from trimtab.spec.huggingface.layers import activation, whole_heads


def _swin_stage(config: Config, *, width: int, heads: int, tokens: int, depth: int, second: bool) -> StackSpec:
    window = config.count("window_size")
    biased = config.flag("qkv_bias")
    size = whole_heads(config, width, heads, key="num_heads")
    table = (2 * window - 1) ** 2 * heads
    if second:  # a small network makes the table; a scale per head; no bias of the keys
        table = heads + 3 * _POSITIONS_WIDTH + _POSITIONS_WIDTH * heads + 2 * width * biased
    return StackSpec(
        role=StackRole.ENCODER,
        num_layers=depth,
        attention=AttentionSpec(
            num_heads=heads,
            num_kv_heads=heads,
            head_size=size,
            qkv_bias=biased and not second,
            output_bias=True,
            window=(window * window + 1) // 2,
        ),
        feed_forward=FeedForwardSpec(
            hidden_size=inner_by_ratio(config, width), gated=False, activation=activation(config), bias=True
        ),
        norm=NormKind.LAYER,
        norm_bias=True,
        causal=False,
        hidden_size=width,
        num_tokens=max(1, tokens),
        final_norm=False,
        other_parameters=table,
    )


_POSITIONS_WIDTH = 512
"""Inner width of the network that makes Swin V2's tables of positions (arXiv 2111.09883, section 3.3)."""


def read_swin(config: Config, head: Head, *, second: bool = False) -> ModelSpec:
    """Swin: stages of layers whose attention stays in windows; between them four tokens become one of twice the width."""
    width, depths = config.count("embed_dim"), config.counts("depths")
    heads = config.counts("num_heads", length=len(depths))
    tokens = num_patches(config)
    table = (tokens + second) * width if config.flag("use_absolute_embeddings") else 0
    parts: tuple[PartSpec, ...] = (patch_part(config, width, bias=True, patches=tokens),)
    parts += small("positions", table) + small("norm of the patches", 2 * width)
    stacks = []
    for index, depth in enumerate(depths):
        stacks.append(_swin_stage(config, width=width, heads=heads[index], tokens=tokens, depth=depth, second=second))
        if index == len(depths) - 1:
            break
        tokens = max(1, tokens // 4)
        merging = PartSpec(
            name=f"merging after stage {index + 1}",
            num_parameters=8 * width * width + (4 if second else 8) * width,
            flops_per_sample=16.0 * width * width * tokens,
            activations_per_sample=8.0 * width * tokens,
        )
        parts, width = (*parts, merging), 2 * width
    stacks[-1] = replace(stacks[-1], final_norm=True)
    if head is Head.IMAGE_CLASSES:
        parts += (linear("classes of an image", width, num_labels(config)),)
    return picture_model(config, hidden=width, stacks=tuple(stacks), parts=parts, traits=("attention in shifted windows",))


TABLE: Mapping[str, Rule] = MappingProxyType(
    {
        "swin": Rule(
            read=read_swin,
            all_heads=IMAGE_HEADS,
            class_name="Swin",
            layout="stages of windowed attention with tables of relative positions; merging of four tokens between them",
        ),
        "swinv2": Rule(
            read=lambda config, head: read_swin(config, head, second=True),
            all_heads=IMAGE_HEADS,
            class_name="Swinv2",
            layout="Swin with tables made by a small network, a scale per head and no bias of the keys",
        ),
    }
)
