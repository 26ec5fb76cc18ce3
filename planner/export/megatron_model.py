"""A decoder as arguments of Megatron-LM's ``pretrain_gpt.py``.

Source: Megatron-LM at core_v0.16.1, ``megatron/training/arguments.py`` and the configuration classes of Megatron Core, whose
fields are arguments of the same name.
"""

from __future__ import annotations

from planner.export.models import beyond_decoder, decoders, is_expert
from trimtab.model import ActivationKind, ModelSpec, NormKind, PositionKind, StackSpec


def beyond_gpt(model: ModelSpec) -> tuple[str, ...]:
    """What of a model ``pretrain_gpt.py`` does not build."""
    beyond = beyond_decoder(model)
    if beyond:
        return beyond
    stacks = decoders(model)
    first = stacks[0]
    checks = (
        (model.position is not PositionKind.SINUSOIDAL, "sinusoidal positions"),
        (all((s.attention, s.norm, s.norm_bias) == (first.attention, first.norm, first.norm_bias) for s in stacks), _KINDS),
        (all(_known_activation(s) for s in stacks), "an activation other than gated SiLU or plain GELU"),
        (_known_biases(stacks), "biases of only some matrices"),
        (all(s.norm_bias == (s.norm is NormKind.LAYER) for s in stacks), "a norm with another bias"),
        (all(s.num_norms in (None, 2) for s in stacks), "another number of norms in a layer"),
        (_same_forward(stacks), "feed-forward blocks of several widths"),
        (all(s.other_parameters == 0 or _query_norms(s) for s in stacks), "scales other than norms of queries and keys"),
    )
    return tuple(text for good, text in checks if not good)


_KINDS = "layers with several kinds of attention or norms"


def _known_activation(stack: StackSpec) -> bool:
    forward = stack.feed_forward
    return (forward.gated, forward.activation) in ((True, ActivationKind.SILU), (False, ActivationKind.GELU))


def _known_biases(stacks: tuple[StackSpec, ...]) -> bool:
    kinds = {(s.attention.qkv_bias, s.attention.output_bias, s.feed_forward.bias) for s in stacks}
    return len(kinds) == 1 and kinds <= {(True, True, True), (False, False, False), (True, False, False)}


def _same_forward(stacks: tuple[StackSpec, ...]) -> bool:
    """One kind of dense layers and one kind of layers with experts."""
    dense = {s.feed_forward for s in stacks if s.feed_forward.experts is None}
    expert = {s.feed_forward for s in stacks if s.feed_forward.experts is not None}
    gated = {s.feed_forward.gated for s in stacks}
    return len(dense) <= 1 and len(expert) <= 1 and len(gated) == 1


def _query_norms(stack: StackSpec) -> bool:
    return stack.attention.latent is None and stack.other_parameters == 2 * stack.attention.head_size


def model_arguments(model: ModelSpec) -> list[str]:
    """The sizes of the model as arguments."""
    stacks = decoders(model)
    first = stacks[0]
    dense = next((s.feed_forward for s in stacks if s.feed_forward.experts is None), first.feed_forward)
    arguments = [
        *("--num-layers", str(model.num_layers)),
        *("--hidden-size", str(model.hidden_size)),
        *("--ffn-hidden-size", str(dense.hidden_size)),
        *("--normalization", "RMSNorm" if first.norm is NormKind.RMS else "LayerNorm"),
        *("--norm-epsilon", f"{model.norm_epsilon:g}"),
        *("--vocab-size", str(model.vocab_size)),
        *("--max-position-embeddings", str(model.max_positions)),
        *_attention(first),
        *_positions(model),
    ]
    if first.feed_forward.gated:
        arguments.append("--swiglu")
    if not first.feed_forward.bias:
        arguments.append("--disable-bias-linear")
        if first.attention.qkv_bias:
            arguments.append("--add-qkv-bias")
    if not model.tied_embeddings:
        arguments.append("--untie-embeddings-and-output-weights")
    return arguments + (_experts(stacks) if is_expert(model) else [])


def _positions(model: ModelSpec) -> list[str]:
    if model.position is PositionKind.ROTARY:
        return ["--position-embedding-type", "rope", "--rotary-base", f"{model.rope_theta:.0f}"]
    kind = "learned_absolute" if model.position is PositionKind.LEARNED else "none"
    return ["--position-embedding-type", kind]


def _attention(stack: StackSpec) -> list[str]:
    attention = stack.attention
    arguments = ["--num-attention-heads", str(attention.num_heads)]
    if _query_norms(stack):
        arguments.append("--qk-layernorm")
    if attention.window is not None:
        arguments += ["--window-size", f"{attention.window - 1},0"]
    latent = attention.latent
    if latent is None:
        arguments += ["--kv-channels", str(attention.head_size)]
        grouped = attention.num_kv_heads < attention.num_heads
        return arguments + (["--group-query-attention", "--num-query-groups", str(attention.num_kv_heads)] if grouped else [])
    arguments += ["--multi-latent-attention", "--kv-lora-rank", str(latent.kv_rank)]
    arguments += [] if latent.query_rank is None else ["--q-lora-rank", str(latent.query_rank)]
    arguments += ["--qk-head-dim", str(attention.head_size), "--qk-pos-emb-head-dim", str(latent.rope_size)]
    return [*arguments, "--v-head-dim", str(latent.value_size)]


def _experts(stacks: tuple[StackSpec, ...]) -> list[str]:
    forward = next(s.feed_forward for s in stacks if s.feed_forward.experts is not None)
    experts = forward.experts
    assert experts is not None
    arguments = [
        *("--num-experts", str(experts.num_experts)),
        *("--moe-router-topk", str(experts.top_k)),
        *("--moe-ffn-hidden-size", str(forward.hidden_size)),
        *("--moe-token-dispatcher-type", "alltoall"),
        "--moe-grouped-gemm",
    ]
    if any(s.feed_forward.experts is None for s in stacks):
        pattern = "+".join(f"[{int(s.feed_forward.experts is not None)}]*{s.num_layers}" for s in stacks)
        arguments += ["--moe-layer-freq", f"({pattern})"]
    if experts.shared_size:
        arguments += ["--moe-shared-expert-intermediate-size", str(experts.shared_size)]
    if experts.shared_gate:
        arguments.append("--moe-shared-expert-gate")
    if experts.router_bias:
        arguments += ["--moe-router-enable-expert-bias", "--moe-router-score-function", "sigmoid"]
    return arguments
