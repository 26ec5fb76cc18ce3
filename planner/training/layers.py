"""A model as arrays: one row per kind of layer, so that the cost of all layers and many strategies is computed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from planner.models.counts import (
    feed_forward_flops,
    layer_norms,
    layer_parameters,
    model_parameters,
    projection_flops,
    score_flops,
)
from trimtab.model import ModelSpec, PartPlace, StackRole, StackSpec

Array = NDArray[np.float64]

NO_WINDOW = 1e15
"""Window of a layer that sees the whole sequence, in tokens."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerArrays:
    """Kinds of layers. Every field has shape [K, M]: K kinds, M models (1, or one per strategy of a table).

    Counts are per layer, FLOPs forward per token, widths in elements. ``queries``, ``keys``, ``values`` and ``outputs`` are the
    columns of all heads, ``latent`` the width of what latent attention keeps beside them. ``fixed_tokens`` is 0 where tokens
    come from the workload; ``reads_source`` marks an encoder's layers. Kinds with ``num_layers`` 0 are padding.
    """

    num_layers: Array
    hidden: Array
    queries: Array
    keys: Array
    values: Array
    outputs: Array
    latent: Array
    num_heads: Array
    head_size: Array
    projection_flops: Array
    score_flops: Array
    window: Array
    is_causal: Array
    has_cross: Array
    columns: Array
    matrices: Array
    shared_columns: Array
    num_experts: Array
    top_k: Array
    router_flops: Array
    dense_parameters: Array
    expert_parameters: Array
    small_parameters: Array
    num_norms: Array
    fixed_tokens: Array
    reads_source: Array
    is_moe: Array
    alternates: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelArrays:
    """The rest of a model; shape [M]. Parts before the stacks sit on the first pipeline stage, those after on the last."""

    layers: LayerArrays
    hidden: Array
    vocab: Array
    has_head: Array
    is_tied: Array
    position_parameters: Array
    before_parameters: Array
    after_parameters: Array
    before_flops_per_token: Array
    before_flops_per_sample: Array
    after_flops_per_token: Array
    after_flops_per_sample: Array
    before_kept_per_token: Array
    before_kept_per_sample: Array
    after_kept_per_token: Array
    after_kept_per_sample: Array


@lru_cache(maxsize=256)
def model_arrays(model: ModelSpec) -> ModelArrays:
    """The arrays of one model: M = 1, one kind per stack."""
    kinds = [_kind(model, stack) for stack in model.stacks] or [dict.fromkeys(_NAMES, 0.0)]
    layers = LayerArrays(**{name: np.array([[kind[name]] for kind in kinds]) for name in _NAMES})
    parts = {place: [part for part in model.parts if part.place is place] for place in PartPlace}

    def summed(place: PartPlace, name: str) -> Array:
        return np.array([float(sum(getattr(part, name) for part in parts[place]))])

    counts = model_parameters(model)
    before, after = PartPlace.BEFORE, PartPlace.AFTER
    return ModelArrays(
        layers=layers,
        hidden=np.array([float(model.hidden_size)]),
        vocab=np.array([float(model.vocab_size)]),
        has_head=np.array([float(model.has_head and model.vocab_size > 0)]),
        is_tied=np.array([float(model.tied_embeddings)]),
        position_parameters=np.array([float(sum(stack.positions for stack in counts.stacks))]),
        before_parameters=summed(before, "num_parameters"),
        after_parameters=summed(after, "num_parameters"),
        before_flops_per_token=summed(before, "flops_per_token"),
        before_flops_per_sample=summed(before, "flops_per_sample"),
        after_flops_per_token=summed(after, "flops_per_token"),
        after_flops_per_sample=summed(after, "flops_per_sample"),
        before_kept_per_token=summed(before, "activations_per_token"),
        before_kept_per_sample=summed(before, "activations_per_sample"),
        after_kept_per_token=summed(after, "activations_per_token"),
        after_kept_per_sample=summed(after, "activations_per_sample"),
    )


def joined(models: Sequence[ModelArrays]) -> ModelArrays:
    """The arrays of several models side by side, M = their number; kinds are padded with layers of count 0."""
    most = max(len(entry.layers.num_layers) for entry in models)
    layers = LayerArrays(
        **{
            name: np.concatenate([_padded(getattr(entry.layers, name), most, name) for entry in models], axis=1)
            for name in _NAMES
        }
    )
    rest = {
        field.name: np.concatenate([getattr(entry, field.name) for entry in models])
        for field in fields(ModelArrays)
        if field.name != "layers"
    }
    return ModelArrays(layers=layers, **rest)


_NAMES = tuple(field.name for field in fields(LayerArrays))


def _padded(values: Array, most: int, name: str) -> Array:
    """More kinds that occur in no layer: the last one again, so that no formula meets a width of 0."""
    missing = most - len(values)
    last = np.zeros_like(values[-1:]) if name == "num_layers" else values[-1:]
    return np.concatenate([values, *[last] * missing])


def _kind(model: ModelSpec, stack: StackSpec) -> dict[str, float]:
    attention, block, experts = stack.attention, stack.feed_forward, stack.feed_forward.experts
    latent, width = attention.latent, model.width(stack)
    counts = layer_parameters(model, stack)
    key_size = attention.head_size + (latent.rope_size if latent is not None else 0)
    value_size = latent.value_size if latent is not None else attention.head_size
    kv_heads = attention.num_heads if latent is not None else attention.num_kv_heads
    return {
        "num_layers": float(stack.num_layers),
        "hidden": float(width),
        "queries": float(attention.num_heads * key_size),
        "keys": float(kv_heads * key_size),
        "values": float(kv_heads * value_size),
        "outputs": float(attention.num_heads * value_size),
        "latent": float((latent.query_rank or 0) + latent.kv_rank + latent.rope_size) if latent is not None else 0.0,
        "num_heads": float(attention.num_heads),
        "head_size": float(key_size),
        "projection_flops": projection_flops(width, attention),
        "score_flops": score_flops(attention),
        "window": float(attention.window or NO_WINDOW),
        "is_causal": float(stack.causal),
        "has_cross": float(stack.cross_attention),
        "columns": float(block.hidden_size),
        "matrices": 3.0 if block.gated else 2.0,
        "shared_columns": float(experts.shared_size) if experts is not None else 0.0,
        "num_experts": float(experts.num_experts) if experts is not None else 0.0,
        "top_k": float(experts.top_k) if experts is not None else 0.0,
        "router_flops": _router_flops(width, stack),
        "dense_parameters": float(counts.attention + counts.cross_attention + counts.feed_forward),
        "expert_parameters": float(counts.experts),
        "small_parameters": float(counts.norms),
        "num_norms": float(layer_norms(stack)),
        "fixed_tokens": float(stack.num_tokens or 0),
        "reads_source": float(stack.role is StackRole.ENCODER),
        "is_moe": float(experts is not None),
        "alternates": float(stack.alternates),
    }


def _router_flops(width: int, stack: StackSpec) -> float:
    block, experts = stack.feed_forward, stack.feed_forward.experts
    if experts is None:
        return 0.0
    matrices = 3 if block.gated else 2
    columns = experts.top_k * block.hidden_size + experts.shared_size
    return feed_forward_flops(width, block) - 2.0 * width * matrices * columns
