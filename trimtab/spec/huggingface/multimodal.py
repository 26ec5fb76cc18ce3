"""Models of text with pictures or sound: a tower, a projector and a decoder (LLaVA and its like), or two encoders (CLIP)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from types import MappingProxyType

from trimtab.model import (
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
from trimtab.spec.fields import nearest
from trimtab.spec.huggingface import gpt_like, llama_like, mixtures
from trimtab.spec.huggingface.config import Config
from trimtab.spec.huggingface.heads import Head, Rule, linear, num_labels, small
from trimtab.spec.huggingface.images import num_patches
from trimtab.spec.huggingface.layers import activation, heads_of
from trimtab.spec.huggingface.towers import VISION, Tower, merged, tower_of

LANGUAGE: Mapping[str, Rule] = MappingProxyType({**llama_like.TABLE, **gpt_like.TABLE, **mixtures.TABLE})
"""Decoders that may stand in a nested ``text_config``."""
Projector = Callable[[Config, Tower, int], tuple[PartSpec, ...]]
_VL_HEADS = (Head.GENERATION, Head.NONE)


def language(config: Config, head: Head) -> ModelSpec:
    """The nested decoder; keys of the text may stand in the outer config itself, as older files have them."""
    flat = config.get("text_config") is None and config.has("hidden_size")
    child = config.flat("text_config") if flat else config.child("text_config")
    rule = LANGUAGE.get(child.model_type)
    if rule is None:
        _unknown(child, list(LANGUAGE))
        return LANGUAGE["llama"].read(Config({}, model_type="llama"), Head.NONE)
    return rule.read(child, Head.CAUSAL_LM if head is Head.GENERATION else Head.NONE)


def tower(config: Config, key: str = "vision_config") -> Tower:
    """The nested encoder of pictures or sound."""
    child = config.child(key)
    if child.model_type not in VISION:
        _unknown(child, list(VISION))
        return tower_of(VISION["clip_vision_model"](Config({}, model_type="clip_vision_model"), Head.NONE))
    return tower_of(VISION[child.model_type](child, Head.NONE))


def _unknown(child: Config, known: list[str]) -> None:
    found = child.model_type or "nothing"
    child.note(
        "model_type", f"'{found[:60]}' is not known here", allowed=", ".join(sorted(known)), nearest=nearest(found[:60], known)
    )


class Tied(StrEnum):
    """Which configuration says that the logits are tied to the embedding."""

    OUTER = "outer"
    INNER = "inner"
    EITHER = "either"


def read_with_tower(
    config: Config, head: Head, projector: Projector, *, key: str = "vision_config", tied_by: Tied = Tied.OUTER
) -> ModelSpec:
    """A tower and a projector before a decoder."""
    text, before = language(config, head), tower(config, key)
    outer = config.flag("tie_word_embeddings")
    tied = {Tied.OUTER: outer, Tied.INNER: text.tied_embeddings, Tied.EITHER: outer or text.tied_embeddings}[tied_by]
    return replace(
        text,
        name=config.model_type,
        family=ModelFamily.DECODER,
        stacks=before.stacks + text.stacks,
        parts=before.parts + projector(config, before, text.hidden_size) + text.parts,
        tied_embeddings=tied,
    )


def _features(config: Config) -> int:
    """How many layers of the tower the projector reads."""
    layers = config.get("vision_feature_layer")
    return max(1, len(layers)) if isinstance(layers, list) else 1


def _two_layers(config: Config, before: Tower, width: int) -> tuple[PartSpec, ...]:
    sizes = (before.width * _features(config), width, width)
    return (merged("projector", sizes, tokens=before.tokens, bias=config.flag("multimodal_projector_bias")),)


def _two_layers_and_newline(config: Config, before: Tower, width: int) -> tuple[PartSpec, ...]:
    return _two_layers(config, before, width) + small("end of a row", width)


def _two_layers_of_levels(config: Config, before: Tower, width: int) -> tuple[PartSpec, ...]:
    levels = config.get("vision_feature_layers") if config.has("vision_feature_layers") else config.get("vision_feature_layer")
    wide = before.width * (max(1, len(levels)) if isinstance(levels, list) else 1)
    return (
        merged("projector", (wide, width, width), tokens=before.tokens, bias=True),
        *small("norm of the projector", 2 * wide),
    )


def _one_layer(config: Config, before: Tower, width: int) -> tuple[PartSpec, ...]:
    return (merged("projector", (before.width, width), tokens=before.tokens, bias=True),)


def _projection_dim(config: Config, before: Tower, width: int) -> tuple[PartSpec, ...]:
    out = config.optional("projection_dim") or width
    return (merged("projector", (before.width, out), tokens=before.tokens, bias=True),)


def _pooled(config: Config, before: Tower, width: int) -> tuple[PartSpec, ...]:
    tokens = config.count("mm_tokens_per_image")
    return (
        merged("projector", (before.width, width), tokens=tokens, bias=False),
        *small("norm of the projector", before.width),
    )


def _shuffled_gated(config: Config, before: Tower, width: int) -> tuple[PartSpec, ...]:
    factor = config.count("downsample_factor") ** 2
    inner, tokens = config.optional("alignment_intermediate_size") or width, max(1, before.tokens // factor)
    wide = before.width * factor
    return (
        merged("first layer of the projector", (wide, inner), tokens=tokens, bias=True),
        merged("second layer of the projector", (inner // 2, width), tokens=tokens, bias=True),
        *small("norm of the projector", 2 * wide),
    )


def _merging(config: Config, before: Tower, width: int) -> tuple[PartSpec, ...]:
    square = config.count("spatial_merge_size") ** 2
    tokens = max(1, before.tokens // square)
    sizes = (before.width * _features(config), width, width)
    return (
        merged("merging", (before.width * square, before.width), tokens=tokens, bias=False),
        merged("projector", sizes, tokens=tokens, bias=config.flag("multimodal_projector_bias")),
        *small("norm of the projector", before.width),
    )


def _shuffled(config: Config, before: Tower, width: int) -> tuple[PartSpec, ...]:
    ratio = config.number("downsample_ratio", 0.5)
    config.require(0 < ratio <= 1, "downsample_ratio", f"found {ratio:g}", allowed="more than 0, at most 1")
    wide = before.width * (int(1 / ratio) if 0 < ratio <= 1 else 1) ** 2
    tokens = max(1, int(before.tokens * min(ratio, 1.0) ** 2))
    return (
        merged("projector", (wide, width, width), tokens=tokens, bias=True),
        *small("norm of the projector", 2 * wide),
    )


def _connector(config: Config, before: Tower, width: int) -> tuple[PartSpec, ...]:
    square = config.count("scale_factor") ** 2
    return (merged("connector", (before.width * square, width), tokens=max(1, before.tokens // square), bias=False),)


def _llama4(config: Config, before: Tower, width: int) -> tuple[PartSpec, ...]:
    child = config.child("vision_config", "llama4_vision_model")
    tokens = max(1, int(num_patches(child) * child.number("pixel_shuffle_ratio", 0.5) ** 2))
    return (merged("projector", (child.count("vision_output_dim"), width), tokens=tokens, bias=False),)


def _nothing(config: Config, before: Tower, width: int) -> tuple[PartSpec, ...]:
    return ()


def _text_encoder(config: Config, *, causal: bool) -> tuple[StackSpec, int]:
    hidden = config.count("hidden_size")
    attention = replace(heads_of(config, kv_key=None), qkv_bias=True, output_bias=True)
    stack = StackSpec(
        role=StackRole.ENCODER,
        num_layers=config.count("num_hidden_layers"),
        attention=attention,
        feed_forward=FeedForwardSpec(
            hidden_size=config.count("intermediate_size"), gated=False, activation=activation(config), bias=True
        ),
        norm=NormKind.LAYER,
        norm_bias=True,
        causal=causal,
    )
    return stack, hidden


def read_text_encoder(config: Config, head: Head, *, siglip: bool) -> ModelSpec:
    """CLIP's or SigLIP's encoder of text: learned positions, norms before the blocks; CLIP's sees backwards only."""
    stack, hidden = _text_encoder(config, causal=not siglip)
    parts = (linear("projection", hidden, config.optional("projection_size") or hidden),) if siglip else ()
    return ModelSpec(
        name=config.model_type,
        family=ModelFamily.ENCODER,
        hidden_size=hidden,
        vocab_size=config.count("vocab_size"),
        stacks=(stack,),
        position=PositionKind.LEARNED,
        max_positions=config.count("max_position_embeddings"),
        has_head=False,
        parts=parts,
    )


def read_pair(config: Config, head: Head, *, siglip: bool) -> ModelSpec:
    """CLIP and SigLIP: an encoder of text beside one of pictures; for classes of images the latter alone."""
    child = config.child("vision_config")
    picture = VISION[child.model_type](child, Head.NONE)
    if head is Head.IMAGE_CLASSES:
        classes = linear("classes of an image", picture.hidden_size, num_labels(config))
        return replace(picture, name=config.model_type, parts=(*picture.parts, classes))
    text = read_text_encoder(config.child("text_config"), Head.NONE, siglip=siglip)
    joined = small("scale of the logits", 2 if siglip else 1, place=PartPlace.AFTER)
    if not siglip:
        size = config.count("projection_dim")
        joined += tuple(
            replace(linear(f"projection of {name}", width, size, bias=False))
            for name, width in (("pictures", picture.hidden_size), ("text", text.hidden_size))
        )
    stacks = tuple(replace(stack, hidden_size=picture.width(stack)) for stack in picture.stacks)
    return replace(text, name=config.model_type, stacks=text.stacks + stacks, parts=text.parts + picture.parts + joined)


def _rule(class_name: str, projector: Projector, layout: str, *, key: str = "vision_config", tied_by: Tied = Tied.OUTER) -> Rule:
    return Rule(
        read=lambda config, head: read_with_tower(config, head, projector, key=key, tied_by=tied_by),
        all_heads=_VL_HEADS,
        class_name=class_name,
        layout=layout,
    )


_PAIR_HEADS = (Head.NONE, Head.IMAGE_CLASSES)
TABLE: Mapping[str, Rule] = MappingProxyType(
    {
        "llava": _rule(
            "Llava",
            _two_layers,
            "tower, projector of two layers, decoder; each read by its own model_type",
            tied_by=Tied.EITHER,
        ),
        "llava_next": _rule("LlavaNext", _two_layers_and_newline, "LLaVA with a token for the end of a row"),
        "vipllava": _rule("VipLlava", _two_layers_of_levels, "LLaVA with a norm over several layers of the tower"),
        "gemma3": _rule("Gemma3", _pooled, "tower, mean of patches, a projection and its norm, decoder"),
        "paligemma": _rule("PaliGemma", _projection_dim, "tower, one linear layer, decoder"),
        "aya_vision": _rule("AyaVision", _shuffled_gated, "tower, shuffled pixels through a gated block with a norm, decoder"),
        "mistral3": _rule("Mistral3", _merging, "tower, merging of patches, projector of two layers with a norm, decoder"),
        "internvl": _rule("InternVL", _shuffled, "tower, shuffled pixels through two layers with a norm, decoder"),
        "idefics3": _rule("Idefics3", _connector, "tower, one linear layer over shuffled pixels, decoder"),
        "smolvlm": _rule("SmolVLM", _connector, "as Idefics3"),
        "qwen2_vl": _rule("Qwen2VL", _nothing, "tower that merges four tokens, decoder", tied_by=Tied.EITHER),
        "qwen2_5_vl": _rule("Qwen2_5_VL", _nothing, "tower with RMS norms and gated blocks, decoder", tied_by=Tied.EITHER),
        "qwen3_vl": _rule("Qwen3VL", _nothing, "tower with mergers at several depths, decoder"),
        "qwen3_vl_moe": _rule("Qwen3VLMoe", _nothing, "Qwen3-VL with experts in the decoder"),
        "llama4": _rule("Llama4", _llama4, "tower with an adapter, one linear layer, decoder with experts", tied_by=Tied.INNER),
        "qwen2_audio": _rule("Qwen2Audio", _one_layer, "Whisper's encoder, one linear layer, decoder", key="audio_config"),
        "clip": Rule(
            read=lambda config, head: read_pair(config, head, siglip=False),
            all_heads=_PAIR_HEADS,
            class_name="CLIP",
            layout="encoder of text and encoder of pictures, each with a projection; one scale",
        ),
        "siglip": Rule(
            read=lambda config, head: read_pair(config, head, siglip=True),
            all_heads=_PAIR_HEADS,
            class_name="Siglip",
            layout="encoder of text with a projection, encoder of pictures pooled by attention; a scale and a bias",
        ),
        "siglip2": Rule(
            read=lambda config, head: read_pair(config, head, siglip=True),
            all_heads=_PAIR_HEADS,
            class_name="Siglip2",
            layout="as SigLIP",
        ),
        "clip_text_model": Rule(
            read=lambda config, head: read_text_encoder(config, head, siglip=False),
            all_heads=(Head.NONE,),
            class_name="CLIPText",
            layout="token embedding, learned positions, norms before the blocks and at the end, biases",
        ),
        "siglip_text_model": Rule(
            read=lambda config, head: read_text_encoder(config, head, siglip=True),
            all_heads=(Head.NONE,),
            class_name="SiglipText",
            layout="as CLIP's, with a projection",
        ),
    }
)
