"""Decoders after GPT: layer norms, blocks of two matrices, biases; learned, rotary or no positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from trimtab.model import AttentionSpec, NormKind, PartPlace, PartSpec, PositionKind
from trimtab.spec.fields import shown
from trimtab.spec.huggingface.config import Config
from trimtab.spec.huggingface.decoders import Decoder, decoder_rule
from trimtab.spec.huggingface.heads import Head, Rule, small
from trimtab.spec.huggingface.layers import heads_of, whole_heads

_PARALLEL = "attention and feed-forward block in parallel"
_PARTIAL = "rotary positions in a part of each head"
_SLOPES = "attention biases that grow with the distance"


def _equal_heads(config: Config) -> AttentionSpec:
    """As many key-value heads as heads, which divide the width."""
    heads = config.count("num_attention_heads")
    size = whole_heads(config, config.count("hidden_size"), heads)
    return AttentionSpec(num_heads=heads, num_kv_heads=heads, head_size=size)


def _one_or_all(config: Config) -> AttentionSpec:
    """One key-value head with ``multi_query``, else as many as heads."""
    attention = _equal_heads(config)
    num = 1 if config.flag("multi_query") else attention.num_heads
    return AttentionSpec(num_heads=attention.num_heads, num_kv_heads=num, head_size=attention.head_size)


def _falcon_heads(config: Config) -> AttentionSpec:
    """``num_kv_heads`` count only in the new architecture; before it one with ``multi_query``, else all."""
    if config.flag("new_decoder_architecture"):
        return heads_of(config, kv_key="num_kv_heads")
    return _one_or_all(config)


def _falcon_norms(config: Config) -> int:
    if not config.flag("parallel_attn"):
        return 2
    given = config.optional("num_ln_in_parallel_attn")
    return 2 if given == 2 or (given is None and config.flag("new_decoder_architecture")) else 1


def _local_layers(config: Config, num_layers: int) -> Sequence[int | None]:
    """GPT-Neo: ``attention_types`` lists patterns of global and local layers, each with how often it stands."""
    given = config.get("attention_types") or [[["global", "local"], 12]]
    window = config.count("window_size")
    try:
        kinds = [kind for pattern, times in given for _ in range(min(int(times), num_layers)) for kind in pattern]
    except (TypeError, ValueError):
        config.note("attention_types", f"found {shown(given)}", allowed="a list such as [[['global', 'local'], 12]]")
        return (None,) * num_layers
    said = f"{len(kinds)} layers"
    if not config.require(len(kinds) == num_layers, "attention_types", said, allowed=f"{num_layers}, as num_layers says"):
        return (None,) * num_layers
    return tuple(window if kind == "local" else None for kind in kinds)


def _opt_norms(config: Config) -> int:
    return 2 if config.flag("layer_norm_elementwise_affine") else 0


def _opt_parts(config: Config, head: Head) -> tuple[PartSpec, ...]:
    """The final norm, where there is one with weights."""
    hidden = config.count("hidden_size")
    width = config.optional("word_embed_proj_dim")
    config.require(
        width in (None, hidden), "word_embed_proj_dim", f"found {width}", allowed=f"hidden_size {hidden}", nearest=str(hidden)
    )
    last = config.flag("do_layer_norm_before") and not config.flag("_remove_final_layer_norm")
    return small("final norm", 2 * hidden * (last and config.flag("layer_norm_elementwise_affine")), place=PartPlace.AFTER)


def _gpt(**changes: object) -> Decoder:
    fields: dict[str, object] = {
        "heads": _equal_heads,
        "qkv_bias": True,
        "output_bias": True,
        "mlp_bias": True,
        "gated": False,
        "inner_key": "n_inner",
        "activation_key": "activation_function",
        "norm": NormKind.LAYER,
        "norm_bias": True,
        "position": PositionKind.LEARNED,
    }
    return Decoder(**{**fields, **changes})  # type: ignore[arg-type]


_ROTARY_GPT = _gpt(
    qkv_bias=False,
    output_bias=False,
    num_norms=1,
    position=PositionKind.ROTARY,
    head_bias=True,
    traits=(_PARALLEL, _PARTIAL),
)

_ROWS: Mapping[str, tuple[str, Decoder, str]] = {
    "gpt2": ("GPT2", _gpt(), "q, k, v in one matrix; two matrices; learned positions; biases everywhere"),
    "gpt-sw3": ("GPT2", _gpt(), "as GPT-2"),
    "gpt_bigcode": ("GPTBigCode", _gpt(heads=_one_or_all), "GPT-2 with one key-value head by multi_query"),
    "openai-gpt": (
        "OpenAIGPT",
        _gpt(inner_key=None, activation_key="afn", final_norm=False, traits=("norms after the blocks",)),
        "norms after the blocks, none at the end",
    ),
    "gpt_neo": (
        "GPTNeo",
        _gpt(qkv_bias=False, inner_key="intermediate_size", windows=_local_layers),
        "GPT-2 without biases in q, k, v",
    ),
    "gptj": ("GPTJ", _ROTARY_GPT, "one layer norm before parallel blocks; no biases in the attention; a bias in the head"),
    "codegen": ("CodeGen", _ROTARY_GPT, "as GPT-J"),
    "gpt_neox": (
        "GPTNeoX",
        _gpt(
            qkv_bias="attention_bias",
            output_bias="attention_bias",
            inner_key="intermediate_size",
            activation_key="hidden_act",
            position=PositionKind.ROTARY,
            traits=(_PARALLEL, _PARTIAL),
        ),
        "2 layer norms before parallel blocks; biases in the attention by attention_bias",
    ),
    "falcon": (
        "Falcon",
        _gpt(
            heads=_falcon_heads,
            qkv_bias="bias",
            output_bias="bias",
            mlp_bias="bias",
            inner_key="ffn_hidden_size",
            activation_key="activation",
            num_norms=_falcon_norms,
            position=PositionKind.ROTARY,
            traits=(_PARALLEL,),
        ),
        "biases by bias; key-value heads by new_decoder_architecture and multi_query; norms by parallel_attn",
    ),
    "opt": (
        "OPT",
        _gpt(
            qkv_bias="enable_bias",
            output_bias="enable_bias",
            mlp_bias="enable_bias",
            inner_key="ffn_dim",
            norm_bias=True,
            num_norms=_opt_norms,
            final_norm=False,
            parts=_opt_parts,
            offset=2,
        ),
        "biases by enable_bias; norms before or after the blocks; two spare positions; word_embed_proj_dim of the embedding",
    ),
    "mpt": (
        "Mpt",
        _gpt(
            qkv_bias=False,
            output_bias=False,
            mlp_bias=False,
            inner_key=None,
            activation_key=None,
            norm_bias=False,
            position=PositionKind.NONE,
            traits=(_SLOPES,),
        ),
        "no biases at all, nor positions",
    ),
    "gpt_neox_japanese": (
        "GPTNeoXJapanese",
        _gpt(
            qkv_bias=False,
            output_bias=False,
            mlp_bias=False,
            inner_key=None,
            growth="intermediate_multiple_size",
            activation_key="hidden_act",
            position=PositionKind.ROTARY,
            parts=lambda config, head: small("bias of the last layer", config.count("hidden_size")),
            traits=(_PARTIAL,),
        ),
        "no biases but one in the attention of the last layer",
    ),
    "bloom": (
        "Bloom",
        _gpt(inner_key=None, activation_key=None, position=PositionKind.NONE, embedding_norm=2, traits=(_SLOPES,)),
        "GPT-2 with a norm of the embedding and no positions",
    ),
    "biogpt": (
        "BioGpt",
        _gpt(
            inner_key="intermediate_size",
            activation_key="hidden_act",
            position_key="max_position_embeddings",
            offset=2,
            traits=("scaled embeddings",),
        ),
        "GPT-2 with two spare positions",
    ),
    "xglm": (
        "XGLM",
        _gpt(inner_key="ffn_dim", position=PositionKind.SINUSOIDAL, traits=("scaled embeddings",)),
        "GPT-2 with fixed positions",
    ),
    "ctrl": (
        "CTRL",
        _gpt(
            inner_key="dff", activation_key=None, position=PositionKind.SINUSOIDAL, head_bias=True, traits=("scaled embeddings",)
        ),
        "fixed positions; a bias in the head",
    ),
}

TABLE: Mapping[str, Rule] = MappingProxyType(
    {model_type: decoder_rule(name, row, layout) for model_type, (name, row, layout) in _ROWS.items()}
)
