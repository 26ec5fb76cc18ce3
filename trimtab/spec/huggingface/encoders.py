"""Encoders of text after BERT: embeddings with a norm, layers with the norms after the blocks, a head for masked words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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

LM_HEADS = (Head.MASKED_LM, Head.CAUSAL_LM, Head.PRETRAINING)
ENCODER_HEADS = (Head.MASKED_LM, Head.NONE, Head.SEQUENCE_CLASSES, Head.WORD_CLASSES, Head.QUESTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """In what an encoder differs from BERT. ``pooler`` are the classes with a dense layer on the first token, ``dense_head``
    says that the head for sequences begins with one; ``discriminator`` that pretraining tells replaced words from others.

    ``embedding_key`` names the width of the embedding where it may differ from that of the layers. ``two_biases``: where the
    logits are not tied to the embedding, their bias is not tied to that of the head either. ``further`` are further parameters
    of each layer, ``parts`` further parts.
    """

    embedding_key: str | None = None
    positions: Said = True
    types_key: str | None = "type_vocab_size"
    inner_key: str = "intermediate_size"
    activation_key: str = "hidden_act"
    embedding_norm: bool = True
    final_norm: bool = False
    pooler: tuple[Head, ...] = ()
    dense_head: bool = False
    discriminator: bool = False
    norm_at_width: bool = False
    biased_projection: bool = True
    qkv_bias: Said = True
    two_biases: bool = True
    further: Callable[[Config, AttentionSpec], int] | None = None
    parts: Callable[[Config, Head], tuple[PartSpec, ...]] | None = None
    traits: tuple[str, ...] = ("norms after the blocks",)


def encoder_layer(config: Config, row: Encoder, hidden: int) -> StackSpec:
    """All layers of the encoder."""
    heads = config.count("num_attention_heads")
    size = whole_heads(config, hidden, heads)
    attention = AttentionSpec(
        num_heads=heads, num_kv_heads=heads, head_size=size, qkv_bias=said(config, row.qkv_bias), output_bias=True
    )
    return StackSpec(
        role=StackRole.ENCODER,
        num_layers=config.count("num_hidden_layers"),
        attention=attention,
        feed_forward=FeedForwardSpec(
            hidden_size=config.count(row.inner_key), gated=False, activation=activation(config, row.activation_key), bias=True
        ),
        norm=NormKind.LAYER,
        norm_bias=True,
        causal=False,
        final_norm=row.final_norm,
        other_parameters=row.further(config, attention) if row.further else 0,
    )


def read_encoder(config: Config, head: Head, row: Encoder) -> ModelSpec:
    """An encoder's ModelSpec; problems are noted in the config."""
    hidden, vocab = config.count("hidden_size"), config.count("vocab_size")
    width = (config.optional(row.embedding_key) if row.embedding_key else None) or hidden
    has_positions = said(config, row.positions)
    rows = config.count("max_position_embeddings") if has_positions else 0
    parts = _embedding_parts(config, row, hidden, width)
    has_head = head in LM_HEADS and not (row.discriminator and head is Head.PRETRAINING)
    tied = config.flag("tie_word_embeddings") if config.get("tie_word_embeddings") is not None else True
    if width != hidden:
        parts = small("token embedding", vocab * width) + small("positions", rows * width) + parts
        if has_head:
            parts += (_vocabulary_head(vocab, width, tied=tied),)
    tail = _head_parts(config, head, row, width) + (row.parts(config, head) if row.parts else ())
    return ModelSpec(
        name=config.model_type,
        family=ModelFamily.ENCODER,
        hidden_size=hidden,
        vocab_size=vocab if width == hidden else 0,
        stacks=(encoder_layer(config, row, hidden),),
        position=PositionKind.LEARNED if has_positions and width == hidden else PositionKind.NONE,
        max_positions=rows or 2048,
        tied_embeddings=tied,
        has_head=has_head and width == hidden,
        norm_epsilon=config.number("layer_norm_eps", 1e-12),
        parts=parts + tail,
        traits=row.traits,
    )


def _embedding_parts(config: Config, row: Encoder, hidden: int, width: int) -> tuple[PartSpec, ...]:
    types = config.count(row.types_key, low=0) if row.types_key else 0
    normed = hidden if row.norm_at_width else width
    parts = small("token types", types * width) + small("norm of the embedding", 2 * normed * row.embedding_norm)
    if width == hidden:
        return parts
    bias = hidden * row.biased_projection
    projection = PartSpec(
        name="projection of the embedding",
        num_parameters=width * hidden + bias,
        flops_per_token=2.0 * width * hidden,
        activations_per_token=float(width),
    )
    return (*parts, projection)


def _vocabulary_head(vocab: int, width: int, *, tied: bool) -> PartSpec:
    return PartSpec(
        name="logits",
        num_parameters=0 if tied else vocab * width,
        place=PartPlace.AFTER,
        flops_per_token=2.0 * vocab * width,
        activations_per_token=float(width),
    )


def _head_parts(config: Config, head: Head, row: Encoder, width: int) -> tuple[PartSpec, ...]:
    hidden = config.count("hidden_size")
    parts: tuple[PartSpec, ...] = ()
    if head in row.pooler:
        parts += (linear("pooler", hidden, hidden),)
    if row.discriminator and head is Head.PRETRAINING:
        return (
            *parts,
            linear("replaced words", hidden, hidden, per_token=True),
            linear("replaced or not", hidden, 1, per_token=True),
        )
    if head in LM_HEADS:
        untied = config.get("tie_word_embeddings") is False
        bias = config.count("vocab_size") * (2 if untied and row.two_biases else 1)
        parts += (linear("transform of the head", hidden, width, per_token=True),)
        parts += small("norm and bias of the head", 2 * width + bias, place=PartPlace.AFTER)
    if head is Head.PRETRAINING:
        parts += (linear("next sentence", hidden, 2),)
    if head is Head.SEQUENCE_CLASSES:
        parts += (linear("dense layer of the head", hidden, hidden),) if row.dense_head else ()
        parts += (linear("classes of a sequence", hidden, num_labels(config)),)
    if head in (Head.WORD_CLASSES, Head.QUESTIONS):
        parts += (linear("outputs for tokens", hidden, num_labels(config), per_token=True),)
    return parts


def _relative(config: Config, attention: AttentionSpec) -> int:
    """DeBERTa: projections of the relative positions in each layer, unless they share those of the words."""
    if not config.flag("relative_attention") or config.flag("share_att_key"):
        return 0
    given = config.get("pos_att_type")
    kinds = [kind.strip() for kind in given.lower().split("|")] if isinstance(given, str) else (given or [])
    hidden = config.count("hidden_size")
    return sum(kind in kinds for kind in ("c2p", "p2c")) * (hidden * hidden + hidden)


def _first_relative(config: Config, attention: AttentionSpec) -> int:
    """DeBERTa's first version: biases of queries and values only, and other projections of the relative positions."""
    hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
    extra = 2 * hidden + (2 * heads * heads if config.flag("talking_head") else 0)
    if config.flag("relative_attention"):
        given = config.get("pos_att_type")
        kinds = [kind.strip() for kind in given.lower().split("|")] if isinstance(given, str) else (given or [])
        extra += hidden * hidden * ("c2p" in kinds) + (hidden * hidden + hidden) * ("p2c" in kinds)
    return extra


def _relative_parts(config: Config, head: Head) -> tuple[PartSpec, ...]:
    """DeBERTa: the table of relative positions, its norm, and the convolution beside the first layer."""
    hidden = config.count("hidden_size")
    parts: tuple[PartSpec, ...] = ()
    if config.flag("relative_attention"):
        buckets = config.get("position_buckets")
        longest = config.get("max_relative_positions")
        rows = config.count("position_buckets") if isinstance(buckets, int) and buckets > 0 else 0
        if not rows:
            known = isinstance(longest, int) and longest >= 1
            rows = config.count("max_relative_positions" if known else "max_position_embeddings")
        parts += small("relative positions", 2 * rows * hidden)
    if "layer_norm" in [name.strip() for name in str(config.get("norm_rel_ebd")).lower().split("|")]:
        parts += small("norm of the relative positions", 2 * hidden)
    kernel = config.optional("conv_kernel_size", low=0) or 0
    if kernel:
        groups = config.optional("conv_groups") or 1
        weights = hidden * (hidden // groups) * kernel
        parts += (
            PartSpec(
                name="convolution",
                num_parameters=weights + 3 * hidden,
                flops_per_token=2.0 * weights,
                activations_per_token=3.0 * hidden,
            ),
        )
    return parts


def _task_types(config: Config, head: Head) -> tuple[PartSpec, ...]:
    rows = config.count("task_type_vocab_size") if config.flag("use_task_id") else 0
    return small("task types", rows * config.count("hidden_size"))


def _four_positions(config: Config, head: Head) -> tuple[PartSpec, ...]:
    return small("positions on the page", 4 * config.count("max_2d_position_embeddings") * config.count("hidden_size"))


def _buckets(config: Config, head: Head) -> tuple[PartSpec, ...]:
    return small("relative positions", config.count("relative_attention_num_buckets") * config.count("num_attention_heads"))


_BERT_POOLER = (Head.NONE, Head.PRETRAINING, Head.SEQUENCE_CLASSES)
_BERT = Encoder(pooler=_BERT_POOLER)
_ROBERTA = Encoder(pooler=(Head.NONE,), dense_head=True)
_BERT_LAYOUT = "embeddings with positions, types and a norm; biases everywhere; dense layer, norm and bias before the logits"
_ALL = (*ENCODER_HEADS, Head.CAUSAL_LM)

_ROWS: Mapping[str, tuple[str, Encoder, tuple[Head, ...], str]] = {
    "bert": ("Bert", _BERT, (*_ALL, Head.PRETRAINING), _BERT_LAYOUT),
    "roberta": ("Roberta", _ROBERTA, _ALL, "BERT with other heads"),
    "xlm-roberta": ("XLMRoberta", _ROBERTA, _ALL, "as RoBERTa"),
    "camembert": ("Camembert", _ROBERTA, _ALL, "as RoBERTa"),
    "data2vec-text": ("Data2VecText", _ROBERTA, _ALL, "as RoBERTa"),
    "xlm-roberta-xl": (
        "XLMRobertaXL",
        Encoder(pooler=(Head.NONE,), dense_head=True, embedding_norm=False, final_norm=True, traits=()),
        _ALL,
        "RoBERTa with norms before the blocks and at the end",
    ),
    "roberta-prelayernorm": (
        "RobertaPreLayerNorm",
        Encoder(pooler=(Head.NONE,), dense_head=True, final_norm=True, traits=()),
        _ALL,
        "RoBERTa with norms before the blocks and at the end",
    ),
    "megatron-bert": (
        "MegatronBert",
        Encoder(pooler=_BERT_POOLER, embedding_norm=False, final_norm=True, traits=()),
        (*_ALL, Head.PRETRAINING),
        "BERT with norms before the blocks and at the end",
    ),
    "ernie": ("Ernie", Encoder(pooler=_BERT_POOLER, parts=_task_types), (*_ALL, Head.PRETRAINING), "BERT with task types"),
    "layoutlm": (
        "LayoutLM",
        Encoder(pooler=tuple(Head), parts=_four_positions),
        ENCODER_HEADS[:4],
        "BERT with four tables of positions on the page",
    ),
    "mpnet": (
        "MPNet",
        Encoder(types_key=None, pooler=(Head.NONE,), dense_head=True, parts=_buckets),
        ENCODER_HEADS,
        "BERT without types, with one table of relative positions",
    ),
    "distilbert": (
        "DistilBert",
        Encoder(types_key=None, inner_key="hidden_dim", activation_key="activation", dense_head=True, two_biases=False),
        ENCODER_HEADS,
        "BERT without types and pooler",
    ),
    "electra": (
        "Electra",
        Encoder(embedding_key="embedding_size", dense_head=True, discriminator=True, two_biases=False),
        (*_ALL, Head.PRETRAINING),
        "BERT with an embedding of its own width; as discriminator two layers tell replaced words",
    ),
    "deberta-v2": (
        "DebertaV2",
        Encoder(
            embedding_key="embedding_size",
            positions="position_biased_input",
            norm_at_width=True,
            biased_projection=False,
            pooler=(Head.SEQUENCE_CLASSES,),
            further=_relative,
            parts=_relative_parts,
            traits=("norms after the blocks", "attention with relative positions"),
        ),
        ENCODER_HEADS,
        "BERT with relative positions in each layer, a table of them with a norm, and a convolution",
    ),
    "deberta": (
        "Deberta",
        Encoder(
            embedding_key="embedding_size",
            positions="position_biased_input",
            norm_at_width=True,
            biased_projection=False,
            qkv_bias=False,
            pooler=(Head.SEQUENCE_CLASSES,),
            further=_first_relative,
            parts=_relative_parts,
            traits=("norms after the blocks", "attention with relative positions"),
        ),
        ENCODER_HEADS,
        "BERT with biases of queries and values only, and relative positions in each layer",
    ),
    "big_bird": (
        "BigBird",
        Encoder(pooler=tuple(Head), qkv_bias="use_bias", traits=("norms after the blocks", "sparse attention")),
        ENCODER_HEADS[:2],
        "BERT with biases of q, k, v by use_bias",
    ),
    "roformer": (
        "RoFormer",
        Encoder(
            embedding_key="embedding_size",
            positions=False,
            dense_head=True,
            traits=("norms after the blocks", "rotary positions"),
        ),
        _ALL,
        "BERT with rotary positions",
    ),
}

TABLE: Mapping[str, Rule] = MappingProxyType(
    {
        model_type: Rule(
            read=lambda config, head, row=row: read_encoder(config, head, row),  # type: ignore[misc]
            all_heads=heads,
            class_name=name,
            layout=layout,
            endings={Head.CAUSAL_LM: "LMHeadModel"} if name == "Bert" else {},
        )
        for model_type, (name, row, heads, layout) in _ROWS.items()
    }
)
