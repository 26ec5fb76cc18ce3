"""Bytes that layers keep for their backward pass; the step sends them to the host's memory where they are offloaded."""

from __future__ import annotations

import numpy as np

from planner.training.compute import Cut
from planner.training.habits import HabitArrays
from planner.training.layers import LayerArrays
from planner.training.places import Array


def layer_kept(layers: LayerArrays, cut: Cut, habits: HabitArrays) -> Array:
    """Bytes that one layer keeps for its backward pass without recompute, [K, N], with fused attention or with written scores.

    ``entry`` is the width of what enters a product: 1 byte where products are done in 8 bits or fewer and their inputs are kept
    so.
    """
    tokens, tp, stream = cut.tokens, cut.tp, cut.stream
    half = cut.width
    low = cut.is_low * habits.keeps_low
    entry = half - low
    residual = tokens * (half + entry) * layers.num_norms * layers.hidden / stream
    scored = half * (layers.queries + layers.keys + layers.values) + entry * layers.outputs
    heads = tokens / tp * (scored + 4.0 * layers.num_heads)
    latent = tokens * half * 2.0 * layers.latent
    columns = tokens * (half * (layers.matrices - 1.0) + entry) / tp
    is_moe = layers.is_moe > 0
    block = columns * np.where(is_moe, layers.shared_columns, layers.columns)
    copies = tokens * layers.top_k / cut.expert_tp_tokens
    inner = (half * (layers.matrices - 1.0) + entry) * layers.columns / cut.expert_tp
    routed = copies * ((half + entry) * layers.hidden + inner)
    router = 4.0 * layers.num_experts * tokens / stream
    cross = layers.has_cross * (tokens / tp * half * 2.0 * layers.queries)
    fused = residual + heads + latent + block + np.where(is_moe, routed + router, 0.0) + cross
    scores = np.where(habits.fused_attention > 0, 0.0, 5.0 * tokens * layers.num_heads / tp * own_sequence(layers, cut))
    masks = np.where(habits.fused_attention > 0, 0.0, tokens * (2.0 * layers.hidden / stream))
    return fused + scores + masks


def own_sequence(layers: LayerArrays, cut: Cut) -> Array:
    """Tokens of a sample that attend to each other in a layer."""
    return np.where(layers.fixed_tokens > 0, layers.fixed_tokens, cut.sequence)
