"""Decoders of one stream: token embedding, layers of attention and feed-forward block, a final norm, a head.

A ``Decoder`` says in which points a model type differs from Llama; ``read_decoder`` is the one reader of them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from trimtab.model import (
    ActivationKind,
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
from trimtab.spec.huggingface.heads import Head, Rule, linear, num_labels, small
from trimtab.spec.huggingface.layers import Windows, activation, heads_of, no_windows, runs

Said = bool | str
"""A fact of the architecture, or the key of the config that says it."""
Extra = Callable[[Config, AttentionSpec], int]
BlockExtra = Callable[[Config, FeedForwardSpec, FeedForwardSpec], int]
Blocks = Callable[[Config, FeedForwardSpec], Sequence[FeedForwardSpec]]
DECODER_HEADS = (Head.CAUSAL_LM, Head.NONE, Head.SEQUENCE_CLASSES, Head.WORD_CLASSES, Head.QUESTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """In what a decoder differs from Llama. ``further`` are further parameters of each layer, ``blocks`` mixtures of experts,
    ``block_extra`` those of a layer by its block (from the dense block and the layer's own), ``parts`` further parts.

    ``offset`` rows of the learned positions stand for no position; ``inner_key`` names the feed-forward width, and ``growth``
    is its multiple of the width where that is null.
    """

    heads: Callable[[Config], AttentionSpec] = heads_of
    qkv_bias: Said = False
    output_bias: Said = False
    gated: bool = True
    mlp_bias: Said = False
    inner_key: str | None = "intermediate_size"
    growth: int | str = 4
    activation_key: str | None = "hidden_act"
    norm: NormKind = NormKind.RMS
    norm_bias: bool = False
    num_norms: int | Callable[[Config], int] = 2
    final_norm: Said = True
    further: Extra | None = None
    windows: Windows = no_windows
    blocks: Blocks | None = None
    block_extra: BlockExtra | None = None
    parts: Callable[[Config, Head], tuple[PartSpec, ...]] | None = None
    position: PositionKind = PositionKind.ROTARY
    position_key: str = "max_position_embeddings"
    offset: int = 0
    head_bias: Said = False
    embedding_norm: int = 0
    traits: tuple[str, ...] = ()


def said(config: Config, fact: Said) -> bool:
    """A fact of the architecture, or what the config says."""
    return config.flag(fact) if isinstance(fact, str) else fact


def read_decoder(config: Config, head: Head, row: Decoder) -> ModelSpec:
    """A decoder's ModelSpec; problems are noted in the config."""
    hidden = config.count("hidden_size")
    attention = replace(row.heads(config), qkv_bias=said(config, row.qkv_bias), output_bias=said(config, row.output_bias))
    num_layers = config.count("num_hidden_layers")
    dense = _dense(config, row, hidden)
    blocks = row.blocks(config, dense) if row.blocks else (dense,) * num_layers
    norms = row.num_norms if isinstance(row.num_norms, int) else row.num_norms(config)
    layer = StackSpec(
        role=StackRole.DECODER,
        num_layers=1,
        attention=attention,
        feed_forward=dense,
        norm=row.norm,
        norm_bias=row.norm_bias,
        num_norms=None if norms == 2 else norms,
        other_parameters=row.further(config, attention) if row.further else 0,
    )
    windows = row.windows(config, num_layers)
    layers = [
        replace(
            layer,
            attention=replace(attention, window=window),
            feed_forward=block,
            other_parameters=layer.other_parameters + (row.block_extra(config, dense, block) if row.block_extra else 0),
        )
        for window, block in zip(windows, blocks, strict=True)
    ]
    vocab = config.count("vocab_size")
    tail = row.parts(config, head) if row.parts else ()
    tail += head_parts(config, head, hidden) + small("bias of the head", _head_bias(config, row, head), place=PartPlace.AFTER)
    learned = row.position is PositionKind.LEARNED
    return ModelSpec(
        name=config.model_type,
        family=ModelFamily.DECODER,
        hidden_size=hidden,
        vocab_size=vocab,
        stacks=runs(layers, final_norm=said(config, row.final_norm)),
        position=row.position,
        max_positions=positions(config, row.position_key, needed=learned),
        tied_embeddings=config.flag("tie_word_embeddings"),
        has_head=head is Head.CAUSAL_LM,
        rope_theta=rope_theta(config),
        norm_epsilon=config.number("rms_norm_eps", config.number("layer_norm_eps", 1e-5)),
        parts=small("norm of the embedding", row.embedding_norm * hidden) + small("spare positions", row.offset * hidden) + tail,
        traits=row.traits,
    )


def positions(config: Config, key: str, *, needed: bool) -> int:
    """Longest sequence; where positions are not learned it only informs, and 2048 stands for none."""
    return config.count(key) if needed else (config.optional(key) or 2048)


def head_parts(config: Config, head: Head, hidden: int) -> tuple[PartSpec, ...]:
    """Heads other than that of the vocabulary, as transformers' generic classes build them."""
    if head is Head.SEQUENCE_CLASSES:
        return (linear("classes of a sequence", hidden, num_labels(config), bias=False),)
    if head is Head.WORD_CLASSES:
        return (linear("classes of tokens", hidden, num_labels(config), per_token=True),)
    if head is Head.QUESTIONS:
        return (linear("span of the answer", hidden, 2, per_token=True),)
    return ()


def rope_theta(config: Config) -> float:
    """Base of the rotary positions, from ``rope_parameters`` or the older ``rope_theta``."""
    given = config.get("rope_parameters")
    if isinstance(given, dict):
        full = given.get("full_attention", given)
        value = full.get("rope_theta") if isinstance(full, dict) else None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e30:
            return float(value)
    return config.number("rope_theta", 10_000.0)


def _dense(config: Config, row: Decoder, hidden: int) -> FeedForwardSpec:
    width = config.optional(row.inner_key) if row.inner_key else None
    return FeedForwardSpec(
        hidden_size=width or hidden * (row.growth if isinstance(row.growth, int) else config.count(row.growth)),
        gated=row.gated,
        activation=activation(config, row.activation_key) if row.activation_key else ActivationKind.GELU,
        bias=said(config, row.mlp_bias),
    )


def _head_bias(config: Config, row: Decoder, head: Head) -> int:
    return config.count("vocab_size") if head is Head.CAUSAL_LM and said(config, row.head_bias) else 0


_ENDINGS: Mapping[str, Mapping[Head, str]] = {
    **{name: {Head.CAUSAL_LM: "LMHeadModel"} for name in ("GPT2", "OpenAIGPT", "CTRL")},
    "Gemma3": {Head.NONE: "TextModel", Head.SEQUENCE_CLASSES: "TextForSequenceClassification"},
}
"""Endings of class names that are not those of the heads."""


def decoder_rule(class_name: str, row: Decoder, layout: str, *, heads: tuple[Head, ...] = DECODER_HEADS) -> Rule:
    """The rule of one row."""
    return Rule(
        read=lambda config, head: read_decoder(config, head, row),
        all_heads=heads,
        class_name=class_name,
        layout=layout,
        endings=_ENDINGS.get(class_name, {}),
    )
