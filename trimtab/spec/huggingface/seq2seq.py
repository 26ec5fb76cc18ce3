"""Encoder-decoders of text: T5 and BART with what was made after them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from trimtab.model import (
    ActivationKind,
    AttentionSpec,
    ExpertsSpec,
    FeedForwardSpec,
    ModelFamily,
    ModelSpec,
    NormKind,
    PositionKind,
    StackRole,
    StackSpec,
)
from trimtab.spec.huggingface.config import Config
from trimtab.spec.huggingface.heads import Head, Rule, small
from trimtab.spec.huggingface.layers import activation, runs, whole_heads

_RELATIVE = "attention biases by relative position"
_SCALED = "scaled embeddings"


def read_t5(config: Config, head: Head, *, table_per_layer: bool = False) -> ModelSpec:
    """T5: heads of ``d_kv``, no biases, RMS norms, a table of relative positions in the first layer of each stack."""
    heads = config.count("num_heads")
    attention = AttentionSpec(num_heads=heads, num_kv_heads=heads, head_size=config.count("d_kv"))
    table = config.count("relative_attention_num_buckets") * heads
    block = _t5_block(config)
    encoder = StackSpec(
        role=StackRole.ENCODER,
        num_layers=config.count("num_layers"),
        attention=attention,
        feed_forward=block,
        causal=False,
        other_parameters=table if table_per_layer else 0,
    )
    decoder = StackSpec(
        role=StackRole.DECODER,
        num_layers=config.optional("num_decoder_layers") or encoder.num_layers,
        attention=attention,
        feed_forward=block,
        cross_attention=True,
        other_parameters=table if table_per_layer else 0,
    )
    stacks = (encoder,) if head is Head.ENCODER else (encoder, decoder)
    return ModelSpec(
        name=config.model_type,
        family=ModelFamily.ENCODER if head is Head.ENCODER else ModelFamily.ENCODER_DECODER,
        hidden_size=config.count("d_model"),
        vocab_size=config.count("vocab_size"),
        stacks=stacks,
        position=PositionKind.NONE,
        max_positions=config.optional("n_positions") or 512,
        tied_embeddings=True,
        has_head=head is Head.GENERATION,
        norm_epsilon=config.number("layer_norm_epsilon", 1e-6),
        parts=() if table_per_layer else small("relative positions", table * len(stacks)),
        traits=(_RELATIVE,),
    )


def _t5_block(config: Config) -> FeedForwardSpec:
    said = config.get("feed_forward_proj")
    words = said.split("-") if isinstance(said, str) else [""]
    known = ("relu", "gelu", "gelu_new", "silu", "swish")
    right = words[-1] in known and (len(words) == 1 or (len(words) == 2 and words[0] == "gated"))
    kind = words[-1] if right else "relu"
    config.require(right, "feed_forward_proj", f"found {said!r:.60}", allowed="relu, gelu, silu, or one of them after gated-")
    kinds = {"relu": ActivationKind.RELU, "silu": ActivationKind.SILU, "swish": ActivationKind.SILU}
    return FeedForwardSpec(
        hidden_size=config.count("d_ff"), gated=words[0] == "gated", activation=kinds.get(kind, ActivationKind.GELU)
    )


def read_switch(config: Config, head: Head) -> ModelSpec:
    """Switch Transformers: T5 of which some layers have experts, one of them for each token."""
    heads, num_encoder = config.count("num_heads"), config.count("num_layers")
    num_decoder = config.optional("num_decoder_layers") or num_encoder
    attention = AttentionSpec(num_heads=heads, num_kv_heads=heads, head_size=config.count("d_kv"))
    dense = FeedForwardSpec(hidden_size=config.count("d_ff"), gated=False, activation=activation(config, "dense_act_fn"))
    experts = ExpertsSpec(num_experts=config.count("num_experts"), top_k=1, router_bias=config.flag("router_bias"))
    sparse = replace(dense, experts=experts)
    stacks: tuple[StackSpec, ...] = ()
    for role, num in ((StackRole.ENCODER, num_encoder), (StackRole.DECODER, num_decoder)):
        decodes = role is StackRole.DECODER
        wanted = config.count(f"num_sparse_{role}_layers", low=0)
        step = num // wanted if wanted else num
        layer = StackSpec(
            role=role, num_layers=1, attention=attention, feed_forward=dense, causal=decodes, cross_attention=decodes
        )
        kinds = [step > 0 and (step == 1 or index % step == 1) for index in range(num)]
        layers = [replace(layer, feed_forward=sparse if has_experts else dense) for has_experts in kinds]
        stacks += runs(layers, final_norm=True)
    hidden, vocab, tied = config.count("d_model"), config.count("vocab_size"), config.flag("tie_word_embeddings")
    return ModelSpec(
        name=config.model_type,
        family=ModelFamily.ENCODER_DECODER,
        hidden_size=hidden,
        vocab_size=vocab,
        stacks=stacks,
        position=PositionKind.NONE,
        max_positions=config.optional("n_positions") or 512,
        tied_embeddings=tied,
        has_head=head is Head.GENERATION,
        parts=small("relative positions", 2 * config.count("relative_attention_num_buckets") * heads)
        + small("embeddings of their own of the stacks", 0 if tied else 2 * vocab * hidden),
        traits=(_RELATIVE,),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bart:
    """In what an encoder-decoder differs from BART. ``offset`` rows of the positions stand for no position."""

    positions: PositionKind = PositionKind.LEARNED
    offset: int = 2
    embedding_norm: bool = True
    final_norm: bool = False
    traits: tuple[str, ...] = ("norms after the blocks",)
    shared_key: str | None = None


def bart_stack(config: Config, role: StackRole, *, final_norm: bool, key_bias: bool = True) -> StackSpec:
    """All layers of the encoder or the decoder of BART and its like; without ``key_bias`` keys have none (Whisper)."""
    side = str(role)
    hidden, heads = config.count("d_model"), config.count(f"{side}_attention_heads")
    size = whole_heads(config, hidden, heads, key=f"{side}_attention_heads")
    cross = role is StackRole.DECODER
    return StackSpec(
        role=role,
        num_layers=config.count(f"{side}_layers"),
        attention=AttentionSpec(num_heads=heads, num_kv_heads=heads, head_size=size, qkv_bias=key_bias, output_bias=True),
        feed_forward=FeedForwardSpec(
            hidden_size=config.count(f"{side}_ffn_dim"),
            gated=False,
            activation=activation(config, "activation_function"),
            bias=True,
        ),
        norm=NormKind.LAYER,
        norm_bias=True,
        causal=cross,
        cross_attention=cross,
        final_norm=final_norm,
        other_parameters=0 if key_bias else 2 * heads * size * (2 if cross else 1),
    )


def read_bart(config: Config, head: Head, row: Bart) -> ModelSpec:
    """BART and its like; problems are noted in the config."""
    hidden, vocab = config.count("d_model"), config.count("vocab_size")
    stacks = tuple(bart_stack(config, role, final_norm=row.final_norm) for role in (StackRole.ENCODER, StackRole.DECODER))
    scaled = (_SCALED,) if config.flag("scale_embedding") else ()
    apart = row.shared_key is not None and not config.flag(row.shared_key)
    tied = config.flag("tie_word_embeddings")
    num_tables = 1 if apart else 0 if tied else 2
    return ModelSpec(
        name=config.model_type,
        family=ModelFamily.ENCODER_DECODER,
        hidden_size=hidden,
        vocab_size=vocab,
        stacks=stacks,
        position=row.positions,
        max_positions=config.count("max_position_embeddings"),
        tied_embeddings=tied,
        has_head=head is Head.GENERATION,
        parts=small("spare positions", 2 * row.offset * hidden)
        + small("norms of the embeddings", 4 * hidden * row.embedding_norm)
        + small("embeddings of their own of the stacks", num_tables * vocab * hidden),
        traits=row.traits + scaled,
    )


_GENERATION = (Head.GENERATION, Head.NONE)
_FIXED = Bart(positions=PositionKind.SINUSOIDAL, offset=0, embedding_norm=False, final_norm=True, traits=())
_BART_ROWS: Mapping[str, tuple[str, Bart, str]] = {
    "bart": ("Bart", Bart(), "layer norms after the blocks, biases everywhere, norms of the embeddings, two spare positions"),
    "plbart": ("PLBart", Bart(), "as BART"),
    "mvp": ("Mvp", Bart(), "as BART"),
    "mbart": ("MBart", Bart(final_norm=True, traits=()), "BART with norms before the blocks and at the end of each stack"),
    "blenderbot": (
        "Blenderbot",
        Bart(offset=0, embedding_norm=False, final_norm=True, traits=()),
        "norms before the blocks and at the end of each stack, none of the embeddings",
    ),
    "blenderbot-small": ("BlenderbotSmall", Bart(offset=0), "BART without spare positions"),
    "pegasus": ("Pegasus", _FIXED, "fixed positions; norms before the blocks and at the end of each stack"),
    "m2m_100": ("M2M100", _FIXED, "as Pegasus"),
    "marian": (
        "Marian",
        Bart(positions=PositionKind.SINUSOIDAL, offset=0, embedding_norm=False, shared_key="share_encoder_decoder_embeddings"),
        "fixed positions; norms after the blocks; no norms of the embeddings",
    ),
}

_T5_LAYOUT = "no biases, RMS norms, heads of d_kv; one table of relative positions in each stack; gated with feed_forward_proj"
TABLE: Mapping[str, Rule] = MappingProxyType(
    {
        "t5": Rule(read=read_t5, all_heads=(*_GENERATION, Head.ENCODER), class_name="T5", layout=_T5_LAYOUT),
        "mt5": Rule(read=read_t5, all_heads=(*_GENERATION, Head.ENCODER), class_name="MT5", layout=_T5_LAYOUT),
        "longt5": Rule(read=read_t5, all_heads=_GENERATION, class_name="LongT5", layout=_T5_LAYOUT + "; local attention only"),
        "switch_transformers": Rule(
            read=read_switch,
            all_heads=_GENERATION,
            class_name="SwitchTransformers",
            layout="T5 with experts in num_sparse_encoder_layers and num_sparse_decoder_layers layers, one per token",
        ),
        "umt5": Rule(
            read=lambda config, head: read_t5(config, head, table_per_layer=True),
            all_heads=(*_GENERATION, Head.ENCODER),
            class_name="UMT5",
            layout="T5 with a table of relative positions in every layer",
        ),
        **{
            model_type: Rule(
                read=lambda config, head, row=row: read_bart(config, head, row),  # type: ignore[misc]
                all_heads=_GENERATION,
                class_name=name,
                layout=layout,
                endings={Head.GENERATION: "MTModel"} if name == "Marian" else {},
            )
            for model_type, (name, row, layout) in _BART_ROWS.items()
        },
    }
)
