"""Seconds of the kernels of one layer on one rank for one micro-batch, forward; many strategies and kinds of layers at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.training.habits import HabitArrays
from planner.training.knobs import Knobs
from planner.training.layers import LayerArrays
from planner.training.places import Array, PlaceArrays

ELEMENT_BYTES = 2.0
"""Activations are kept in 16 bits by every precision below fp32."""

_HEAD_PASSES = 2.0
"""Queries, keys and values are written once and read once beside the attention itself."""
_TPU_KERNEL_S = 1e-6
"""Compiled programs launch no kernels one by one; what is left is the start of a fused loop."""
BACKWARD_ATTENTION = 2.5
"""Backward over forward FLOPs of fused attention: five products instead of two (FlashAttention-2, arXiv 2307.08691, section
3.1).
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """What one rank sees of a micro-batch; shape [N], tokens [K, N].

    ``tokens`` of the layer on this context rank, ``sequence`` of a whole sample, ``source`` of the encoder's. ``tp`` columns are
    cut by; ``stream`` is the divisor of the residual stream (tp with sequence parallelism, else 1). ``experts`` is the number of
    ranks that experts are spread over, ``expert_tp`` cuts each expert's columns, ``expert_tp_tokens`` its tokens. ``width`` are
    the bytes of an activation element; ``is_low`` is 1 where products are done in 8 bits or fewer.
    """

    tokens: Array
    sequence: Array
    source: Array
    tp: Array
    stream: Array
    experts: Array
    expert_tp: Array
    expert_tp_tokens: Array
    width: Array
    is_low: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerTime:
    """Seconds of one layer; shape [K, N]. Matrix products and attention have their own backward ratios, the rest doubles."""

    matmul: Array
    attention: Array
    memory: Array
    fixed: Array

    @property
    def forward(self) -> Array:
        """One forward pass."""
        return self.matmul + self.attention + self.memory + self.fixed

    @property
    def backward(self) -> Array:
        """One backward pass: two products per product, 2.5 times the attention [FA2], twice the rest."""
        return 2.0 * (self.matmul + self.memory + self.fixed) + BACKWARD_ATTENTION * self.attention


def layer_time(layers: LayerArrays, cut: Cut, habits: HabitArrays, *, place: PlaceArrays, peak: Array, knobs: Knobs) -> LayerTime:
    """Forward seconds of each kind of layer: additive roofline of products, attention, element-wise traffic, kernel starts."""
    floor = np.where(place.is_tpu > 0, _TPU_KERNEL_S, knobs.gpu_kernel_s)
    rate = peak * knobs.matmul_share
    bandwidth = place.memory_bandwidth * knobs.memory_share
    return LayerTime(
        matmul=_products_s(layers, cut, rate=rate, bandwidth=bandwidth, knobs=knobs),
        attention=_attention_s(layers, cut, place, habits, knobs=knobs),
        memory=_traffic_s(layers, cut, bandwidth=bandwidth, knobs=knobs),
        fixed=np.where(layers.num_layers > 0, 12.0 * floor + layers.is_moe * knobs.router_s * (place.is_tpu == 0), 0.0),
    )


def _fill(rows: Array, columns: Array, knobs: Knobs) -> Array:
    """Share of the peak that a product of these dimensions leaves: short and narrow ones fill the device badly."""
    return rows / (rows + knobs.gemm_rows_half) * columns / (columns + knobs.gemm_columns_half)


def _products_s(layers: LayerArrays, cut: Cut, *, rate: Array, bandwidth: Array, knobs: Knobs) -> Array:
    tokens, tp = cut.tokens, cut.tp
    projections = tokens * layers.projection_flops / tp
    cross = (
        layers.has_cross * (tokens * 4.0 * layers.hidden * layers.queries + cut.source * 4.0 * layers.hidden * layers.keys) / tp
    )
    attention = (projections + cross) / (rate * _fill(tokens, layers.queries / tp, knobs))
    dense_columns = np.where(layers.is_moe > 0, layers.shared_columns, layers.columns)
    dense = tokens * 2.0 * layers.matrices * layers.hidden * dense_columns / tp
    narrow = np.maximum(1.0, dense_columns / tp)
    block = dense / (rate * _fill(tokens, narrow, knobs))
    router = tokens * layers.router_flops / cut.stream / rate
    copies = tokens * layers.top_k / cut.expert_tp_tokens
    held = np.maximum(1.0, layers.num_experts / cut.experts)
    per_expert = np.maximum(1.0, copies / held)
    columns = np.maximum(1.0, layers.columns / cut.expert_tp)
    routed = copies * 2.0 * layers.matrices * layers.hidden * columns
    routed_s = routed / (rate * knobs.grouped_share * _fill(per_expert, columns, knobs))
    weights = held * layers.matrices * layers.hidden * columns * ELEMENT_BYTES / bandwidth
    dense_weights = (layers.dense_parameters / tp) * ELEMENT_BYTES / bandwidth
    return attention + block + dense_weights + layers.is_moe * (router + routed_s + weights)


def _attention_s(layers: LayerArrays, cut: Cut, place: PlaceArrays, habits: HabitArrays, *, knobs: Knobs) -> Array:
    sequence = np.where(layers.fixed_tokens > 0, layers.fixed_tokens, np.where(layers.reads_source > 0, cut.source, cut.sequence))
    span = np.minimum(sequence, 2.0 * layers.window) * np.where(layers.is_causal > 0, 0.5, 1.0)
    span = span + layers.has_cross * cut.source
    head = layers.head_size / (layers.head_size + knobs.head_size_half)
    rows = sequence / (sequence + knobs.attention_rows_half)
    rate = (
        place.half_peak * knobs.attention_share * np.where(layers.num_layers > 0, head, 1.0) * np.where(sequence > 0, rows, 1.0)
    )
    fused = cut.tokens * layers.score_flops * span / cut.tp / rate
    whole = np.minimum(sequence, 2.0 * layers.window) + layers.has_cross * cut.source
    matrix = cut.tokens * layers.score_flops * whole / cut.tp / (place.half_peak * knobs.matmul_share)
    traffic = knobs.score_passes * cut.tokens * layers.num_heads / cut.tp * whole * cut.width
    unfused = matrix + traffic / (place.memory_bandwidth * knobs.memory_share)
    return np.where(habits.fused_attention > 0, fused, unfused)


def _traffic_s(layers: LayerArrays, cut: Cut, *, bandwidth: Array, knobs: Knobs) -> Array:
    """Element-wise work: norms, residual sums and dropout on the stream, activations on the columns, rotary and copies on the
    heads.
    """
    stream = knobs.stream_passes * layers.num_norms * layers.hidden / cut.stream
    dense_columns = np.where(layers.is_moe > 0, layers.shared_columns, layers.columns)
    columns = knobs.column_passes * layers.matrices * dense_columns / cut.tp
    heads = _HEAD_PASSES * (layers.queries + layers.keys + layers.values + 2.0 * layers.latent) / cut.tp
    copies = layers.top_k / cut.expert_tp_tokens
    routed = copies * (
        knobs.permute_passes * layers.hidden + knobs.column_passes * layers.matrices * layers.columns / cut.expert_tp
    )
    casts = cut.is_low * knobs.cast_passes * (layers.hidden + (layers.queries + dense_columns) / cut.tp + copies * layers.columns)
    elements = stream + columns + heads + layers.is_moe * routed + casts
    return cut.tokens * elements * cut.width / bandwidth
