"""Encoders of text that are no BERT: ModernBERT, and ALBERT whose layers share their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
from trimtab.spec.huggingface.encoders import Encoder, read_encoder
from trimtab.spec.huggingface.heads import Head, Rule, linear, num_labels, small
from trimtab.spec.huggingface.layers import LAYER_TYPES, activation, runs, whole_heads


def read_modernbert(config: Config, head: Head) -> ModelSpec:
    """ModernBERT: gated blocks, rotary positions, windows in two of three layers, no norm before the first attention."""
    hidden, vocab = config.count("hidden_size"), config.count("vocab_size")
    heads, num_layers = config.count("num_attention_heads"), config.count("num_hidden_layers")
    bias, norm_bias = config.flag("attention_bias"), config.flag("norm_bias")
    size = whole_heads(config, hidden, heads)
    layer = StackSpec(
        role=StackRole.ENCODER,
        num_layers=1,
        attention=AttentionSpec(num_heads=heads, num_kv_heads=heads, head_size=size, qkv_bias=bias, output_bias=bias),
        feed_forward=FeedForwardSpec(
            hidden_size=config.count("intermediate_size"),
            activation=activation(config, "hidden_activation"),
            bias=config.flag("mlp_bias"),
        ),
        norm=NormKind.LAYER,
        norm_bias=norm_bias,
        causal=False,
    )
    window = max(1, config.count("local_attention") // 2)
    layers = []
    for index, local in enumerate(_local(config, num_layers)):
        attention = replace(layer.attention, window=window if local else None)
        layers.append(replace(layer, attention=attention, num_norms=1 if index == 0 else None))
    norm = hidden * (1 + norm_bias)
    parts = small("norm of the embedding", norm)
    if head is not Head.NONE:
        dense = linear("dense layer of the head", hidden, hidden, bias=config.flag("classifier_bias"), per_token=True)
        parts += (dense, *small("norm of the head", norm, place=PartPlace.AFTER))
    if head is Head.MASKED_LM:
        parts += small("bias of the head", vocab * config.flag("decoder_bias"), place=PartPlace.AFTER)
    elif head is not Head.NONE:
        parts += (linear("classes", hidden, num_labels(config), per_token=head is not Head.SEQUENCE_CLASSES),)
    return ModelSpec(
        name=config.model_type,
        family=ModelFamily.ENCODER,
        hidden_size=hidden,
        vocab_size=vocab,
        stacks=runs(layers, final_norm=True),
        position=PositionKind.ROTARY,
        max_positions=config.optional("max_position_embeddings") or 8192,
        tied_embeddings=config.flag("tie_word_embeddings"),
        has_head=head is Head.MASKED_LM,
        parts=parts,
    )


def _local(config: Config, num_layers: int) -> tuple[bool, ...]:
    if config.get("layer_types") is not None:
        return tuple(word != LAYER_TYPES[0] for word in config.words("layer_types", LAYER_TYPES, length=num_layers))
    step = config.count("global_attn_every_n_layers") if config.has("global_attn_every_n_layers") else 3
    return tuple(index % step != 0 for index in range(num_layers))


_ALBERT = Encoder(embedding_key="embedding_size", pooler=(Head.NONE, Head.PRETRAINING, Head.SEQUENCE_CLASSES), two_biases=True)


def read_albert(config: Config, head: Head) -> ModelSpec:
    """ALBERT: the stack has the layers that have weights of their own; what runs again is a part without parameters.

    Its attention is counted at the longest sequence, ``max_position_embeddings``.
    """
    model = read_encoder(config, head, _ALBERT)
    own = config.count("num_hidden_groups") * config.count("inner_group_num")
    runs_of_all = config.count("num_hidden_layers") * config.count("inner_group_num")
    (stack,) = model.stacks
    hidden, inner = model.hidden_size, stack.feed_forward.hidden_size
    again = max(0, runs_of_all - own)
    span = config.count("max_position_embeddings")
    repeated = PartSpec(
        name="layers that run again",
        num_parameters=0,
        flops_per_token=again * (8.0 * hidden * hidden + 4.0 * hidden * inner + 4.0 * hidden * span),
        activations_per_token=float(again * (8 * hidden + 2 * inner)),
    )
    parts = (*model.parts, repeated)
    if config.count("embedding_size") == hidden:  # it is projected even to the same width
        parts += (linear("projection of the embedding", hidden, hidden, per_token=True),)
    return replace(model, stacks=(replace(stack, num_layers=own),), parts=parts)


TABLE: Mapping[str, Rule] = MappingProxyType(
    {
        "modernbert": Rule(
            read=read_modernbert,
            all_heads=(Head.MASKED_LM, Head.NONE, Head.SEQUENCE_CLASSES, Head.WORD_CLASSES, Head.QUESTIONS),
            class_name="ModernBert",
            layout="gated blocks; one norm in the first layer; biases by attention_bias, mlp_bias, norm_bias, classifier_bias",
        ),
        "albert": Rule(
            read=read_albert,
            all_heads=(Head.MASKED_LM, Head.NONE, Head.PRETRAINING, Head.SEQUENCE_CLASSES, Head.WORD_CLASSES, Head.QUESTIONS),
            class_name="Albert",
            layout="BERT with an embedding of its own width and num_hidden_groups layers that run again and again",
        ),
    }
)
