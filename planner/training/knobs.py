"""The fitted constants as the cost formulas use them: numbers for all, arrays for what differs by framework, device and
precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.training.places import Array, PlaceArrays


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Knobs:
    """Fitted constants; meanings, units and bounds are in ``constants.json``. Arrays have shape [M] or are numbers for all."""

    gemm_rows_half: float
    gemm_columns_half: float
    gpu_kernel_s: float
    head_size_half: float
    attention_rows_half: float
    score_passes: float
    stream_passes: float
    column_passes: float
    loss_passes: float
    cast_passes: float
    gpu_link_share: float
    tpu_link_share: float
    gpu_network_share: float
    tpu_network_share: float
    scatter_share: float
    host_exchange_share: float
    link_latency_s: float
    network_latency_s: float
    shard_interference: float
    context_exposed: float
    expert_exposed: float
    expert_hidden: float
    expert_host_s: float
    pipe_share: float
    meeting_s: float
    grouped_share: float
    permute_passes: float
    router_s: float
    selective_share: float
    update_passes: float
    step_s: float
    micro_batch_s: float
    straggler: float
    resident_bytes: float
    host_s: Array | float
    tensor_exposed: Array | float
    data_exposed: Array | float
    slot_s: Array | float
    matmul_share: Array | float
    attention_share: Array | float
    memory_share: Array | float

    def link_share(self, place: PlaceArrays) -> Array:
        """Share of the printed link bandwidth that collectives reach."""
        return np.where(place.is_tpu > 0, self.tpu_link_share, self.gpu_link_share)

    def network_share(self, place: PlaceArrays) -> Array:
        """Share of the printed network bandwidth that collectives reach."""
        return np.where(place.is_tpu > 0, self.tpu_network_share, self.gpu_network_share)
