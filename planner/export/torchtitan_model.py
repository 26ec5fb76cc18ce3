"""Models as torchtitan builds them: its own flavours by size, or a module that registers a new one.

Sources: torchtitan 0.2.2, ``models/llama3/__init__.py`` (flavours), ``models/llama3/model/model.py`` (the feed-forward width is
two thirds of 4 x dim, times the multiplier, rounded up to ``multiple_of``), ``models/qwen3/model/args.py``.
"""

from __future__ import annotations

from planner.export.models import beyond_llama, decoders
from trimtab.model import ModelSpec

MODULE = "trimtab_flavour"
_VOCAB, _THETA = 128_256, 500_000.0
# Llama 3's sizes: layers, width, heads, feed-forward width; 8 key-value heads each (arXiv 2407.21783, table 3).
_FLAVOURS = {(32, 4096, 32, 14_336): "8B", (80, 8192, 64, 28_672): "70B", (126, 16_384, 128, 53_248): "405B"}


def beyond_flavours(model: ModelSpec) -> tuple[str, ...]:
    """What of a model neither torchtitan's llama3 nor its qwen3 builds."""
    beyond = beyond_llama(model)
    if beyond:
        return beyond
    (stack,) = decoders(model)
    attention, experts = stack.attention, stack.feed_forward.experts
    found = []
    if stack.other_parameters not in (0, 2 * attention.head_size):
        found.append("scales other than norms of queries and keys")
    if experts is not None and (
        experts.shared_size % stack.feed_forward.hidden_size or experts.shared_gate or experts.router_bias
    ):
        found.append("shared experts of another width, with a gate, or a router with a bias")
    return tuple(found)


def built_in(model: ModelSpec) -> tuple[str, str]:
    """torchtitan's name of the model and its own flavour; an empty flavour where it has to be registered."""
    (stack,) = decoders(model)
    attention, forward = stack.attention, stack.feed_forward
    sizes = (stack.num_layers, model.hidden_size, attention.num_heads, forward.hidden_size)
    known = attention.num_kv_heads == 8 and model.vocab_size == _VOCAB and model.rope_theta == _THETA
    if not _is_llama(model):
        return "qwen3", ""
    return "llama3", _FLAVOURS.get(sizes, "") if known and model.norm_epsilon == 1e-5 else ""


def _is_llama(model: ModelSpec) -> bool:
    """llama3 has no norms of queries and keys, no experts, no tied embeddings, and heads that fill the width."""
    (stack,) = decoders(model)
    attention = stack.attention
    plain = stack.other_parameters == 0 and stack.feed_forward.experts is None and not model.tied_embeddings
    return plain and attention.head_size * attention.num_heads == model.hidden_size


def flavour_module(model: ModelSpec) -> str:
    """A Python module that registers the flavour when torchtitan imports it (``experimental.custom_import``)."""
    lines = _llama(model) if _is_llama(model) else _qwen(model)
    return "\n".join(['"""Made by trimtab export: the sizes of the planned model."""', "", *lines]) + "\n"


def _llama(model: ModelSpec) -> list[str]:
    (stack,) = decoders(model)
    width = stack.feed_forward.hidden_size
    # Half an element below the width, so that rounding up to a multiple of it gives exactly it.
    multiplier = (width - 0.5) / (8 * model.hidden_size // 3)
    return [
        "from torchtitan.models.llama3 import TransformerModelArgs, llama3_args",
        "",
        f"llama3_args[{model.name!r}] = TransformerModelArgs(",
        f"    dim={model.hidden_size},",
        f"    n_layers={stack.num_layers},",
        f"    n_heads={stack.attention.num_heads},",
        f"    n_kv_heads={stack.attention.num_kv_heads},",
        f"    vocab_size={model.vocab_size},",
        f"    multiple_of={width},",
        f"    ffn_dim_multiplier={multiplier!r},",
        f"    norm_eps={model.norm_epsilon!r},",
        f"    rope_theta={model.rope_theta!r},",
        ")",
    ]


def _qwen(model: ModelSpec) -> list[str]:
    (stack,) = decoders(model)
    attention, forward = stack.attention, stack.feed_forward
    head = ["from torchtitan.models.qwen3 import Qwen3ModelArgs, qwen3_args", ""]
    sizes = [
        f"    dim={model.hidden_size},",
        f"    n_layers={stack.num_layers},",
        f"    n_heads={attention.num_heads},",
        f"    n_kv_heads={attention.num_kv_heads},",
        f"    head_dim={attention.head_size},",
        f"    vocab_size={model.vocab_size},",
        f"    hidden_dim={forward.hidden_size},",
        f"    norm_eps={model.norm_epsilon!r},",
        f"    rope_theta={model.rope_theta!r},",
        f"    qk_norm={stack.other_parameters > 0},",
        f"    enable_weight_tying={model.tied_embeddings},",
    ]
    if forward.experts is not None:
        head.insert(0, "from torchtitan.models.moe import MoEArgs")
        shared = forward.experts.shared_size // forward.hidden_size
        moe = f"num_experts={forward.experts.num_experts}, num_shared_experts={shared}, top_k={forward.experts.top_k}"
        sizes += [
            "    moe_enabled=True,",
            f"    moe_inter_dim={forward.hidden_size},",
            f'    moe_args=MoEArgs({moe}, score_func="softmax", route_norm=True),',
        ]
    return [*head, f"qwen3_args[{model.name!r}] = Qwen3ModelArgs(", *sizes, ")"]
