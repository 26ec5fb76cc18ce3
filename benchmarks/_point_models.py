"""The model of a row: a ``ModelSpec`` made from the shape that a file of points gives, and named by nothing but that shape.

What the file leaves open follows the family of the model: a block without a gate (GELU) belongs to the GPT family, with layer
norms, biases and learned positions; a gated one to the Llama family, with RMS norms, no biases and rotary positions.

- ``sliding_window`` with ``global_every`` n: each n-th layer sees everything, the others the window. With ``sliding_every`` n:
  layers 0, n, 2n ... have the window. With neither: as ``global_every`` 6, the pattern of the Gemma models that are given so.
- ``attn_chunk`` C: queries see their own chunk of C tokens, so C/2 keys in the mean: a window of C/2 in ``attention_span``.
- ``first_dense_layers`` k: the first k layers of a mixture of experts are dense; ``moe_every`` n: of the others, layers n-1,
  2n-1 ... have experts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby

from benchmarks._point_fields import Fields
from trimtab.model import (
    ActivationKind,
    AttentionSpec,
    ExpertsSpec,
    FeedForwardSpec,
    LatentSpec,
    ModelFamily,
    ModelSpec,
    NormKind,
    PositionKind,
    StackRole,
    StackSpec,
)

_GLOBAL_EVERY = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Act:
    kind: ActivationKind
    gated: bool
    classic: bool


_ACTS = {
    "swiglu": _Act(kind=ActivationKind.SILU, gated=True, classic=False),
    "geglu": _Act(kind=ActivationKind.GELU, gated=True, classic=False),
    "gelu": _Act(kind=ActivationKind.GELU, gated=False, classic=True),
    "relu": _Act(kind=ActivationKind.RELU, gated=False, classic=True),
    # MaxText's default of 2023: a block of two matrices with ReLU, RMS norms and rotary positions.
    "maxtext-2023-default": _Act(kind=ActivationKind.RELU, gated=False, classic=False),
}
_POSITIONS = {
    "learned": PositionKind.LEARNED,
    "rotary": PositionKind.ROTARY,
    "sinusoidal": PositionKind.SINUSOIDAL,
    "none": PositionKind.NONE,
    # ALiBi has no parameters. Where the source leaves both open the table of learned positions is too small to matter.
    "alibi": PositionKind.NONE,
    "alibi-or-learned": PositionKind.NONE,
}


def read_model(fields: Fields) -> ModelSpec | None:
    """The model of one entry of ``models``; None where a problem was noted.

    Learned positions get ``max_positions`` 1 here: how many there are depends on the row (``model_of_row``).
    """
    num_before = len(fields.problems)
    kind = fields.choice("type", ("dense", "moe")) or "dense"
    act = _ACTS.get(fields.choice("act", _ACTS) or "swiglu", _ACTS["swiglu"])
    position = _POSITIONS.get(fields.choice("pos", _POSITIONS) or ("learned" if act.classic else "rotary"), PositionKind.NONE)
    num_layers, width = fields.need_integer("layers"), fields.need_integer("hidden")
    attention = _attention(fields, bias=act.classic)
    dense = FeedForwardSpec(hidden_size=fields.need_integer("ffn_hidden"), gated=act.gated, activation=act.kind, bias=act.classic)
    experts = _experts(fields, dense) if kind == "moe" else None
    vocab, tied = fields.need_integer("vocab"), fields.flag("tied_embeddings")
    if attention is None or len(fields.problems) > num_before:
        return None
    windows, blocks = _windows(fields, num_layers), _blocks(fields, num_layers, dense, experts)
    base = StackSpec(
        role=StackRole.DECODER,
        num_layers=1,
        attention=attention,
        feed_forward=dense,
        norm=NormKind.LAYER if act.classic else NormKind.RMS,
        norm_bias=act.classic,
        final_norm=False,
    )
    return ModelSpec(
        name=f"decoder-{num_layers}x{width}",
        family=ModelFamily.DECODER,
        hidden_size=width,
        vocab_size=vocab,
        stacks=_runs(base, windows, blocks),
        position=position,
        max_positions=1,
        tied_embeddings=bool(tied),
    )


def model_of_row(model: ModelSpec, *, seq_len: int) -> ModelSpec:
    """The model with as many learned positions as the sequences of a row are long."""
    return replace(model, max_positions=seq_len) if model.position is PositionKind.LEARNED else model


def _attention(fields: Fields, *, bias: bool) -> AttentionSpec | None:
    num_heads, num_kv_heads = fields.need_integer("heads"), fields.need_integer("kv_heads")
    if num_heads % num_kv_heads:
        fields.fail("kv_heads", f"found {num_kv_heads}", allowed=f"a divisor of the {num_heads} heads")
        return None
    latent = None
    if fields.choice("attention", ("mla", "gqa", "mha")) == "mla":
        latent = LatentSpec(
            kv_rank=fields.need_integer("kv_lora_rank"),
            rope_size=fields.need_integer("qk_rope_head_dim", least=0),
            value_size=fields.need_integer("v_head_dim"),
            query_rank=fields.integer("q_lora_rank"),
        )
    head_size = fields.need_integer("head_dim" if latent is None else "qk_nope_head_dim")
    return AttentionSpec(
        num_heads=num_heads, num_kv_heads=num_kv_heads, head_size=head_size, qkv_bias=bias, output_bias=bias, latent=latent
    )


def _experts(fields: Fields, dense: FeedForwardSpec) -> FeedForwardSpec:
    num_experts, top_k = fields.need_integer("experts"), fields.need_integer("topk")
    width = fields.need_integer("moe_ffn_hidden")
    num_shared = fields.integer("shared_experts", least=0) or 0
    shared = (fields.integer("shared_ffn_hidden") or num_shared * width) if num_shared else 0
    if top_k > num_experts:
        fields.fail("topk", f"found {top_k}", allowed=f"1 to the {num_experts} experts")
        return dense
    return replace(dense, hidden_size=width, experts=ExpertsSpec(num_experts=num_experts, top_k=top_k, shared_size=shared))


def _windows(fields: Fields, num_layers: int) -> list[int | None]:
    """The attention window of every layer."""
    chunk, window = fields.integer("attn_chunk", least=2), fields.integer("sliding_window")
    if window is None:
        return [None if chunk is None else chunk // 2] * num_layers
    sliding_every = fields.integer("sliding_every")
    if sliding_every is not None:
        return [window if index % sliding_every == 0 else None for index in range(num_layers)]
    global_every = fields.integer("global_every") or _GLOBAL_EVERY
    return [None if (index + 1) % global_every == 0 else window for index in range(num_layers)]


def _blocks(fields: Fields, num_layers: int, dense: FeedForwardSpec, experts: FeedForwardSpec | None) -> list[FeedForwardSpec]:
    """The feed-forward block of every layer."""
    if experts is None:
        return [dense] * num_layers
    first, every = fields.integer("first_dense_layers", least=0) or 0, fields.integer("moe_every") or 1
    return [experts if index >= first and (index + 1) % every == 0 else dense for index in range(num_layers)]


def _runs(base: StackSpec, windows: list[int | None], blocks: list[FeedForwardSpec]) -> tuple[StackSpec, ...]:
    """One stack for each run of equal layers; the last has the final norm."""
    stacks = []
    for (window, block), layers in groupby(zip(windows, blocks, strict=True)):
        attention = replace(base.attention, window=window)
        stacks.append(replace(base, num_layers=len(list(layers)), attention=attention, feed_forward=block))
    return (*stacks[:-1], replace(stacks[-1], final_norm=True))
