"""Every constant of the training cost model that is fitted: what it means, its unit, where a fit starts and the bounds of
physics.
"""

from __future__ import annotations

from typing import NamedTuple


class Fitted(NamedTuple):
    """Start, bounds, unit and meaning of one constant."""

    start: float
    low: float
    high: float
    unit: str
    meaning: str


SHARED: dict[str, Fitted] = {
    "gemm_rows_half": Fitted(100, 10, 1000, "tokens", "rows of a product at which it reaches half of its best rate"),
    "gemm_columns_half": Fitted(150, 10, 1000, "columns", "width of a product at which it reaches half of its best rate"),
    "gpu_kernel_s": Fitted(4e-6, 2e-6, 1e-5, "s", "gap before a kernel on a GPU (twelve per layer that do not overlap)"),
    "head_size_half": Fitted(30, 5, 150, "elements", "head size at which attention reaches half of its best rate"),
    "attention_rows_half": Fitted(300, 20, 3000, "tokens", "sequence at which attention reaches half of its best rate"),
    "score_passes": Fitted(6, 3, 16, "passes", "times that unfused attention moves its scores through memory, forward"),
    "stream_passes": Fitted(5, 2, 12, "passes", "times that each norm with its residual sum moves the stream through memory"),
    "column_passes": Fitted(1.7, 0.7, 4, "passes", "times that an activation moves the columns of each matrix through memory"),
    "loss_passes": Fitted(4, 1, 10, "passes", "times that 32-bit logits move through memory"),
    "cast_passes": Fitted(1.5, 0.5, 5, "passes", "times that operands move through memory to become 8 bits or fewer"),
    "gpu_link_share": Fitted(0.72, 0.5, 0.92, "share", "of the printed bandwidth of links that NCCL reaches"),
    "tpu_link_share": Fitted(0.8, 0.5, 0.95, "share", "of the printed bandwidth of ICI that XLA reaches"),
    "gpu_network_share": Fitted(0.75, 0.4, 0.95, "share", "of the printed bandwidth of the network that NCCL reaches"),
    "tpu_network_share": Fitted(0.7, 0.3, 0.95, "share", "of the printed bandwidth of the data-centre network that XLA reaches"),
    "scatter_share": Fitted(0.8, 0.3, 1.0, "share", "of a ring's bandwidth that an all-to-all reaches"),
    "host_exchange_share": Fitted(0.058, 0.02, 0.5, "share", "of PCIe that cards reach which exchange through the host's memory"),
    "link_latency_s": Fitted(3e-6, 1e-6, 2e-5, "s", "one step of a ring inside a domain"),
    "network_latency_s": Fitted(8e-6, 3e-6, 6e-5, "s", "one step of a ring or tree over the network"),
    "shard_interference": Fitted(0.15, 0.02, 0.5, "share", "of the shorter of computation and gathering that is not hidden"),
    "context_exposed": Fitted(0.5, 0.05, 1.0, "share", "of the exchange of keys and values that is not hidden"),
    "expert_exposed": Fitted(0.7, 0.2, 1.0, "share", "of the exchange between experts that is not hidden"),
    "expert_hidden": Fitted(0.2, 0.02, 0.6, "share", "the same where interleaved chunks hide it"),
    "expert_host_s": Fitted(3e-5, 1e-6, 3e-4, "s", "host time of one local expert in one pass of a layer"),
    "pipe_share": Fitted(0.4, 0.04, 1.0, "share", "of the network's bandwidth that one send between stages reaches"),
    "meeting_s": Fitted(3e-5, 2e-6, 1e-3, "s", "wait of tensor ranks for each other at each exchange"),
    "grouped_share": Fitted(0.7, 0.3, 1.0, "share", "of the rate of one product that grouped products of experts reach"),
    "permute_passes": Fitted(6, 2, 20, "passes", "times that a routed token moves through memory to its expert and back"),
    "router_s": Fitted(4e-5, 5e-6, 3e-4, "s", "routing of one layer of experts on a GPU"),
    "selective_share": Fitted(0.3, 0.1, 0.6, "share", "of a forward pass that selective recompute repeats (fused attention)"),
    "update_passes": Fitted(8, 5, 16, "passes", "times that the optimizer moves 4 bytes per parameter through memory"),
    "step_s": Fitted(0.02, 0.002, 0.1, "s", "of each step beside its micro-batches: data, clipping, logging"),
    "micro_batch_s": Fitted(1e-3, 1e-5, 2e-2, "s", "of each micro-batch on a GPU beside its kernels"),
    "straggler": Fitted(0.005, 0.0002, 0.03, "share", "longer step for each doubling of the number of nodes"),
}

FRAMEWORK: dict[str, Fitted] = {
    "host_s": Fitted(3e-4, 1e-6, 2e-3, "s", "host time of one layer in one pass: a shorter layer on the device waits for it"),
    "slot_s": Fitted(5e-4, 1e-5, 3e-2, "s", "wait of a micro-batch between pipeline stages in different domains"),
    "tensor_exposed": Fitted(0.7, 0.1, 1.0, "share", "of tensor-parallel exchange that is not hidden"),
    "data_exposed": Fitted(0.5, 0.05, 1.0, "share", "of gradient reduction that is not hidden behind the backward pass"),
}

DEVICE: dict[str, Fitted] = {
    "matmul_share": Fitted(0.75, 0.3, 0.97, "share", "of the printed peak that large products reach"),
    "attention_share": Fitted(0.5, 0.15, 0.9, "share", "of the printed 16-bit peak that fused attention reaches, counted causal"),
    "memory_share": Fitted(0.8, 0.5, 0.95, "share", "of the printed memory bandwidth that element-wise kernels reach"),
}

MEMORY: dict[str, Fitted] = {
    "resident_bytes": Fitted(7.5e9, 1e9, 1e10, "bytes", "of a process beside tensors: context, NCCL, cache"),
}

SPREAD: dict[str, Fitted] = {
    "spread_raw": Fitted(0.13, 0.02, 0.6, "log s.d.", "between setups of equal description: what one multiplier removes"),
    "spread_calibrated": Fitted(0.05, 0.01, 0.3, "log s.d.", "inside one setup, of dense models that mostly compute"),
    "spread_experts": Fitted(0.05, 0.0, 0.5, "log s.d.", "added by a mixture of experts"),
    "spread_unknown": Fitted(0.15, 0.0, 0.6, "log s.d.", "added by an unknown recompute or micro-batch"),
    "spread_waiting": Fitted(0.1, 0.0, 0.6, "log s.d.", "added by the share of the step that is not computation"),
}

FAMILIES: dict[str, str] = {
    "a100-sxm-80g": "a100",
    "a100-sxm-80g-vtrain": "a100",
    "a100-sxm-40g": "a100",
    "h100-sxm-80g": "h100",
    "h200-sxm": "h100",
    "gh200-96g": "gh200",
    "h100-sxm-96g-hbm2e-500w": "h100-500w",
    "tpu-v7x-ironwood": "tpu-v7x",
    "rtx3090": "rtx",
    "rtx2080ti": "rtx",
    "titan-rtx": "rtx",
    "A100-SXM4-40GB": "a100",
    "A100-SXM4-80GB": "a100",
    "A100-PCIe-80GB": "a100",
    "A800-SXM4-80GB": "a800-sxm-80g",
    "H100-SXM5-80GB": "h100",
    "H100-NVL-94GB": "h100",
    "H100-PCIe-80GB": "h100",
    "H200-SXM5-141GB": "h100",
    "GH200-96GB": "gh200",
    "B200-SXM-180GB": "b200",
    "B300-SXM-270GB": "b300",
    "GB200-186GB": "gb200",
    "GB300-279GB": "gb300",
    "RTX-4090-24GB": "any",
    "RTX-3090-24GB": "rtx",
    "RTX-2080-Ti-11GB": "rtx",
    "Titan-RTX-24GB": "rtx",
    "TPU-v3": "tpu-v3",
    "TPU-v4": "tpu-v4",
    "TPU-v5e": "tpu-v5e",
    "TPU-v5p": "tpu-v5p",
    "TPU-v6e": "tpu-v6e",
    "TPU-v7x": "tpu-v7x",
}
"""Families of device names, in published rows and in the catalogue. A name that is not here is its own family."""
