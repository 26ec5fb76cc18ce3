"""Encoders of images: patches of a picture through layers of attention (ViT and what was made after it), and Swin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from trimtab.model import (
    AttentionSpec,
    FeedForwardSpec,
    ModelFamily,
    ModelSpec,
    NormKind,
    PartPlace,
    PartSpec,
    PositionKind,
    StackRole,
    StackSpec,
)
from trimtab.spec.huggingface.config import Config
from trimtab.spec.huggingface.decoders import Said, said
from trimtab.spec.huggingface.heads import Head, Rule, linear, num_labels, small
from trimtab.spec.huggingface.layers import activation, whole_heads

IMAGE_HEADS = (Head.IMAGE_CLASSES, Head.NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """In what an encoder of images differs from ViT. ``num_tokens`` are the trained tokens beside the patches.

    ``key_bias`` and ``value_bias`` stand for themselves where they may differ from ``qkv_bias``. ``positions`` is None where
    there is no table, else the number of its rows beside those of the patches. ``pooler`` says that the bare model ends in a
    dense layer; ``wide_head`` that classes are read from twice the width; ``further`` are further parameters of each layer,
    ``parts`` further parts.
    """

    num_tokens: int | str = 1
    qkv_bias: Said = "qkv_bias"
    output_bias: Said = True
    mlp_bias: Said = True
    key_bias: Said | None = None
    value_bias: Said | None = None
    norm: NormKind = NormKind.LAYER
    gated: Said = False
    positions: int | None = 1
    patch_bias: bool = True
    norm_before: bool = False
    final_norm: bool = True
    pooler: bool = False
    wide_head: bool = False
    inner: Callable[[Config, int], int] | None = None
    further: Callable[[Config, AttentionSpec], int] | None = None
    parts: Callable[[Config, Head], tuple[PartSpec, ...]] | None = None
    traits: tuple[str, ...] = ()


def pair(config: Config, key: str) -> tuple[int, int]:
    """A height and a width; one number stands for both."""
    value = config.get(key)
    if isinstance(value, list | tuple):
        height, width = config.counts(key, length=2)
        return height, width
    size = config.count(key)
    return size, size


def num_patches(config: Config) -> int:
    """Patches of one picture of ``image_size``."""
    (height, width), (rows, columns) = pair(config, "image_size"), pair(config, "patch_size")
    fits = rows <= height and columns <= width
    config.require(fits, "patch_size", f"found {rows} x {columns}", allowed=f"at most image_size {height} x {width}")
    return max(1, (height // rows) * (width // columns))


def patch_part(config: Config, hidden: int, *, bias: bool, patches: int, frames: int = 1) -> PartSpec:
    """The convolution that makes a token of each patch; ``frames`` pictures share one."""
    rows, columns = pair(config, "patch_size")
    inputs = config.count("in_channels" if config.get("num_channels") is None else "num_channels") * rows * columns * frames
    return PartSpec(
        name="patches",
        num_parameters=inputs * hidden + hidden * bias,
        flops_per_sample=2.0 * patches * inputs * hidden,
        activations_per_sample=float(patches * inputs),
    )


def image_layers(config: Config, row: Images, *, hidden: int, tokens: int) -> StackSpec:
    """All layers, as an encoder over ``tokens`` tokens."""
    heads = config.count("num_attention_heads")
    size = whole_heads(config, hidden, heads)
    query = said(config, row.qkv_bias)
    biases = [query, *(query if fact is None else said(config, fact) for fact in (row.key_bias, row.value_bias))]
    attention = AttentionSpec(
        num_heads=heads,
        num_kv_heads=heads,
        head_size=size,
        qkv_bias=all(biases),
        output_bias=said(config, row.output_bias),
    )
    some = 0 if all(biases) else sum(biases) * heads * size
    inner = row.inner(config, hidden) if row.inner else config.count("intermediate_size")
    return StackSpec(
        role=StackRole.ENCODER,
        num_layers=config.count("num_hidden_layers"),
        attention=attention,
        feed_forward=FeedForwardSpec(
            hidden_size=inner, gated=said(config, row.gated), activation=activation(config), bias=said(config, row.mlp_bias)
        ),
        norm=row.norm,
        norm_bias=row.norm is NormKind.LAYER,
        causal=False,
        num_tokens=tokens,
        final_norm=row.final_norm,
        other_parameters=some + (row.further(config, attention) if row.further else 0),
    )


def read_images(config: Config, head: Head, row: Images) -> ModelSpec:
    """An encoder of images; problems are noted in the config."""
    hidden, patches = config.count("hidden_size"), num_patches(config)
    extra = config.count(row.num_tokens, low=0) + 1 if isinstance(row.num_tokens, str) else row.num_tokens
    table = 0 if row.positions is None else (patches + row.positions) * hidden
    parts: tuple[PartSpec, ...] = (patch_part(config, hidden, bias=row.patch_bias, patches=patches),)
    parts += small("tokens of their own", extra * hidden) + small("positions", table)
    norm_width = 2 * hidden if row.norm is NormKind.LAYER else hidden
    parts += small("norm before the layers", norm_width * row.norm_before)
    parts += row.parts(config, head) if row.parts else ()
    if head is Head.NONE and row.pooler:
        parts += (linear("pooler", hidden, config.optional("pooler_output_size") or hidden),)
    if head is Head.IMAGE_CLASSES:
        parts += (linear("classes of an image", hidden * (2 if row.wide_head else 1), num_labels(config)),)
    return picture_model(
        config,
        hidden=hidden,
        stacks=(image_layers(config, row, hidden=hidden, tokens=patches + extra),),
        parts=parts,
        traits=row.traits,
    )


def picture_model(
    config: Config, *, hidden: int, stacks: tuple[StackSpec, ...], parts: tuple[PartSpec, ...], traits: tuple[str, ...] = ()
) -> ModelSpec:
    """An encoder without a vocabulary; its positions are parts."""
    return ModelSpec(
        name=config.model_type,
        family=ModelFamily.ENCODER,
        hidden_size=hidden,
        vocab_size=0,
        stacks=stacks,
        position=PositionKind.NONE,
        has_head=False,
        norm_epsilon=config.number("layer_norm_eps", 1e-6),
        parts=parts,
        traits=traits,
    )


def inner_by_ratio(config: Config, hidden: int) -> int:
    """Inner width of the feed-forward block as ``mlp_ratio`` times the width."""
    return max(1, int(hidden * config.number("mlp_ratio", 4)))


def _dino_inner(config: Config, hidden: int) -> int:
    """With SwiGLU two thirds of it, rounded up to a multiple of 8."""
    inner = inner_by_ratio(config, hidden)
    return (int(inner * 2 / 3) + 7) // 8 * 8 if config.flag("use_swiglu_ffn") else inner


def _scales(config: Config, attention: AttentionSpec) -> int:
    return 2 * config.count("hidden_size")


def _beit_layer(config: Config, attention: AttentionSpec) -> int:
    """Scales of the two blocks, and a table of relative positions where each layer has one."""
    scales = 2 * config.count("hidden_size") if config.number("layer_scale_init_value", 0.1) > 0 else 0
    return scales + (_beit_table(config) if config.flag("use_relative_position_bias") else 0)


def _beit_table(config: Config) -> int:
    (height, width), (rows, columns) = pair(config, "image_size"), pair(config, "patch_size")
    return ((2 * (height // rows) - 1) * (2 * (width // columns) - 1) + 3) * config.count("num_attention_heads")


def _beit_parts(config: Config, head: Head) -> tuple[PartSpec, ...]:
    hidden = config.count("hidden_size")
    table = (num_patches(config) + 1) * hidden if config.flag("use_absolute_position_embeddings") else 0
    shared = _beit_table(config) if config.flag("use_shared_relative_position_bias") else 0
    mask = hidden if config.flag("use_mask_token") else 0
    return (
        small("positions", table)
        + small("relative positions", shared)
        + small("mask token", mask)
        + small("last norm", 2 * hidden, place=PartPlace.AFTER)
    )


def _mask(config: Config, head: Head) -> tuple[PartSpec, ...]:
    wanted = config.get("use_mask_token") is not False
    return small("mask token", config.count("hidden_size") * wanted)


def siglip_pooling(config: Config, head: Head) -> tuple[PartSpec, ...]:
    """The last block of SigLIP: one trained query attends to all tokens, and a feed-forward block."""
    if config.get("vision_use_head") is False:
        return ()
    hidden, inner, tokens = config.count("hidden_size"), config.count("intermediate_size"), num_patches(config)
    weights = 4 * hidden * hidden + 2 * hidden * inner
    part = PartSpec(
        name="pooling by attention",
        num_parameters=weights + hidden + 4 * hidden + 2 * hidden + inner + hidden,
        place=PartPlace.AFTER,
        flops_per_sample=4.0 * hidden * hidden * (tokens + 1) + 4.0 * hidden * tokens + 4.0 * hidden * inner,
        activations_per_sample=float(3 * hidden * tokens + 4 * hidden + 2 * inner),
    )
    return (part,)


CLIP_VISION = Images(qkv_bias=True, patch_bias=False, norm_before=True)
SIGLIP_VISION = Images(num_tokens=0, qkv_bias=True, positions=0, parts=siglip_pooling)
_VIT = Images(pooler=True)
_VIT_LAYOUT = "patches, a trained token, a table of positions, layer norms before the blocks, biases"
_ROWS: Mapping[str, tuple[str, Images, tuple[Head, ...], str]] = {
    "vit": ("ViT", _VIT, IMAGE_HEADS, _VIT_LAYOUT),
    "deit": ("DeiT", replace(_VIT, num_tokens=2, positions=2), IMAGE_HEADS, "ViT with two trained tokens"),
    "vit_msn": ("ViTMSN", Images(), IMAGE_HEADS, "as ViT"),
    "ijepa": ("IJepa", Images(num_tokens=0, positions=0), IMAGE_HEADS, "ViT without a trained token"),
    "dinov2": (
        "Dinov2",
        Images(gated="use_swiglu_ffn", inner=_dino_inner, further=_scales, parts=_mask, wide_head=True),
        IMAGE_HEADS,
        "ViT with scales of the blocks and a token for masks; classes from twice the width",
    ),
    "dinov2_with_registers": (
        "Dinov2WithRegisters",
        Images(
            num_tokens="num_register_tokens",
            gated="use_swiglu_ffn",
            inner=_dino_inner,
            further=_scales,
            parts=_mask,
            wide_head=True,
        ),
        IMAGE_HEADS,
        "DINOv2 with registers",
    ),
    "dinov3_vit": (
        "DINOv3ViT",
        Images(
            num_tokens="num_register_tokens",
            qkv_bias="query_bias",
            output_bias="proj_bias",
            mlp_bias="mlp_bias",
            key_bias="key_bias",
            value_bias="value_bias",
            gated="use_gated_mlp",
            positions=None,
            further=_scales,
            parts=_mask,
            traits=("rotary positions of two axes",),
        ),
        (Head.NONE,),
        "rotary positions, registers, scales of the blocks; biases one by one",
    ),
    "beit": (
        "Beit",
        Images(
            qkv_bias=True,
            key_bias=False,
            value_bias=True,
            positions=None,
            final_norm=False,
            further=_beit_layer,
            parts=_beit_parts,
        ),
        IMAGE_HEADS,
        "ViT without a bias of the keys, with scales of the blocks; tables of positions by use_..._position_...",
    ),
    "clip_vision_model": ("CLIPVision", CLIP_VISION, (Head.NONE,), "ViT with a norm before the layers; patches without bias"),
    "siglip_vision_model": (
        "SiglipVision",
        SIGLIP_VISION,
        (Head.NONE,),
        "ViT without a trained token; pooling by attention with vision_use_head",
    ),
}


def read_spectrogram(config: Config, head: Head) -> ModelSpec:
    """AST: a picture of sound whose patches overlap; two trained tokens."""
    hidden, (rows, columns) = config.count("hidden_size"), pair(config, "patch_size")
    height, width = config.count("num_mel_bins"), config.count("max_length")
    config.require(rows <= height and columns <= width, "patch_size", f"found {rows} x {columns}", allowed=f"{height} x {width}")
    patches = max(1, (height - rows) // config.count("frequency_stride") + 1) * max(
        1, (width - columns) // config.count("time_stride") + 1
    )
    weights = rows * columns * hidden
    parts: tuple[PartSpec, ...] = (
        PartSpec(
            name="patches",
            num_parameters=weights + hidden,
            flops_per_sample=2.0 * patches * weights,
            activations_per_sample=float(patches * rows * columns),
        ),
        *small("tokens of their own", 2 * hidden),
        *small("positions", (patches + 2) * hidden),
    )
    if head is Head.AUDIO_CLASSES:
        parts += small("norm of the head", 2 * hidden, place=PartPlace.AFTER)
        parts += (linear("classes of a recording", hidden, num_labels(config)),)
    return picture_model(
        config, hidden=hidden, stacks=(image_layers(config, Images(), hidden=hidden, tokens=patches + 2),), parts=parts
    )


TABLE: Mapping[str, Rule] = MappingProxyType(
    {
        **{
            model_type: Rule(
                read=lambda config, head, row=row: read_images(config, head, row),  # type: ignore[misc]
                all_heads=heads,
                class_name=name,
                layout=layout,
            )
            for model_type, (name, row, heads, layout) in _ROWS.items()
        },
        "audio-spectrogram-transformer": Rule(
            read=read_spectrogram,
            all_heads=(Head.AUDIO_CLASSES, Head.NONE),
            class_name="AST",
            layout="DeiT over overlapping patches of a spectrogram",
        ),
    }
)
