"""Every constant of the cost model: value, bounds that it may be calibrated in, origin and source.

Only what a probe cannot measure is used when a probe is at hand; without one, all of these carry the prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from trimtab.estimate import Constant, Origin
from trimtab.inventory import DeviceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """A constant with the bounds inside which calibration may move it."""

    name: str
    value: float
    low: float
    high: float
    origin: Origin
    source: str

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.name}: {self.value} outside its bounds [{self.low}, {self.high}]")

    def constant(self) -> Constant:
        """Without the bounds, as a prediction reports it."""
        return _plain(self)


@lru_cache(maxsize=1024)
def _plain(bounded: Bounded) -> Constant:
    return Constant(name=bounded.name, value=bounded.value, origin=bounded.origin, source=bounded.source)


def _assumed(name: str, value: float, low: float, high: float, source: str) -> Bounded:
    return Bounded(name=name, value=value, low=low, high=high, origin=Origin.ASSUMED, source=source)


def _published(name: str, value: float, low: float, high: float, source: str) -> Bounded:
    return Bounded(name=name, value=value, low=low, high=high, origin=Origin.PUBLISHED, source=source)


def _measured(name: str, value: float, low: float, high: float, source: str) -> Bounded:
    return Bounded(name=name, value=value, low=low, high=high, origin=Origin.MEASURED, source=source)


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineConstants:
    """What a device type reaches of its printed figures, where nothing was measured."""

    matmul_share_frac: Bounded
    attention_share_frac: Bounded
    bandwidth_share_frac: Bounded
    compute_slowdown_frac: Bounded
    launch_s: Bounded
    unit_launch_s: Bounded
    checkpoint_launch_s: Bounded
    rank_start_s: Bounded
    link_share_frac: Bounded
    link_bandwidth_bytes_per_s: Bounded
    link_latency_s: Bounded
    network_bandwidth_bytes_per_s: Bounded
    network_latency_s: Bounded
    error_frac: Bounded


_OURS = "starting values for eager training, within the bounds that public kernel measurements give"
_NCCL = "NCCL tests and vendor measurements: 0.74 all-reduce, 0.67 gather of the link's printed bandwidth, 22 to 26 us fixed"

ROOFLINE: dict[DeviceKind, RooflineConstants] = {
    DeviceKind.CPU: RooflineConstants(
        matmul_share_frac=_assumed("cpu matmul share", 0.75, 0.4, 0.95, "MKL and OpenBLAS on AVX2 cores, large matrices"),
        attention_share_frac=_assumed("cpu attention share", 0.35, 0.1, 0.6, "torch's blocked CPU attention kernel"),
        bandwidth_share_frac=_assumed("cpu memory bandwidth share", 0.6, 0.3, 0.9, "out-of-place kernels write-allocate"),
        compute_slowdown_frac=_assumed("cpu slow-down when all devices work", 0.15, 0.0, 0.6, "shared bandwidth and clock"),
        launch_s=_assumed("cpu operator overhead", 6e-6, 2e-6, 30e-6, "eager torch operator with autograd"),
        unit_launch_s=_assumed("cpu sharded unit overhead", 400e-6, 100e-6, 2e-3, "FSDP hooks of one unit, forward and backward"),
        checkpoint_launch_s=_assumed("cpu checkpoint overhead", 15e-6, 0.0, 200e-6, "torch checkpoint, per saved tensor"),
        rank_start_s=_assumed("cpu rank start", 6.0, 2.0, 30.0, "interpreter, import, rendezvous"),
        link_share_frac=_assumed("cpu link share", 0.5, 0.2, 0.9, "gloo over loopback copies each byte several times"),
        link_bandwidth_bytes_per_s=_assumed("cpu link bandwidth", 2e9, 0.5e9, 10e9, "gloo over loopback"),
        link_latency_s=_assumed("cpu link latency", 60e-6, 20e-6, 500e-6, "gloo over loopback"),
        network_bandwidth_bytes_per_s=_assumed("network bandwidth", 1.25e9, 0.1e9, 50e9, "10 Gbit/s Ethernet"),
        network_latency_s=_assumed("network latency", 50e-6, 5e-6, 1e-3, "TCP on Ethernet"),
        error_frac=_assumed("roofline error, cpu", 0.5, 0.2, 1.0, "printed peak and bandwidth of a CPU device say little"),
    ),
    DeviceKind.GPU: RooflineConstants(
        matmul_share_frac=_published("gpu matmul share", 0.70, 0.44, 0.90, "meta-pytorch/autoparallel estimator: flat 0.70"),
        attention_share_frac=_assumed("gpu attention share", 0.35, 0.2, 0.75, _OURS),
        bandwidth_share_frac=_assumed("gpu memory bandwidth share", 0.80, 0.6, 0.95, _OURS),
        compute_slowdown_frac=_assumed("gpu slow-down when all devices work", 0.0, 0.0, 0.1, "devices share no memory"),
        launch_s=_published("gpu kernel floor", 7e-6, 2e-6, 15e-6, "meta-pytorch/autoparallel estimator: 7 us floor"),
        unit_launch_s=_assumed("gpu sharded unit overhead", 200e-6, 50e-6, 1e-3, "FSDP hooks of one unit, forward and backward"),
        checkpoint_launch_s=_assumed("gpu checkpoint overhead", 15e-6, 0.0, 200e-6, "torch checkpoint, per saved tensor"),
        rank_start_s=_assumed("gpu rank start", 20.0, 5.0, 120.0, "import of torch, CUDA context, NCCL rendezvous"),
        link_share_frac=_published("gpu link share", 0.70, 0.55, 0.92, _NCCL),
        link_bandwidth_bytes_per_s=_assumed("gpu link bandwidth", 25e9, 10e9, 900e9, "PCIe 4.0 x16 where no link is named"),
        link_latency_s=_published("gpu link latency", 8e-6, 5e-6, 30e-6, _NCCL),
        network_bandwidth_bytes_per_s=_assumed("network bandwidth", 25e9, 1e9, 100e9, "200 Gbit/s per device, unnamed network"),
        network_latency_s=_published("network latency", 14e-6, 5e-6, 100e-6, "NCCL tuning tables: 6.6 to 14 us bases"),
        error_frac=_assumed("roofline error, gpu", 0.25, 0.1, 0.5, "analytic models, outside their own set"),
    ),
    DeviceKind.TPU: RooflineConstants(
        matmul_share_frac=_assumed("tpu matmul share", 0.65, 0.4, 0.85, "published v5e and v5p training rows"),
        attention_share_frac=_assumed("tpu attention share", 0.35, 0.2, 0.7, _OURS),
        bandwidth_share_frac=_assumed("tpu memory bandwidth share", 0.85, 0.6, 0.95, _OURS),
        compute_slowdown_frac=_assumed("tpu slow-down when all devices work", 0.0, 0.0, 0.1, "devices share no memory"),
        launch_s=_assumed("tpu kernel floor", 1e-6, 0.5e-6, 5e-6, "compiled programs launch no kernels one by one"),
        unit_launch_s=_assumed("tpu sharded unit overhead", 0.0, 0.0, 1e-4, "sharding is compiled"),
        checkpoint_launch_s=_assumed("tpu checkpoint overhead", 0e-6, 0.0, 200e-6, "torch checkpoint, per saved tensor"),
        rank_start_s=_assumed("tpu rank start", 60.0, 20.0, 300.0, "compilation"),
        link_share_frac=_assumed("tpu link share", 0.85, 0.6, 0.95, _OURS),
        link_bandwidth_bytes_per_s=_assumed("tpu link bandwidth", 45e9, 20e9, 200e9, "one torus axis, one direction"),
        link_latency_s=_published("tpu link latency", 1e-6, 0.5e-6, 5e-6, "jax-ml/scaling-book: floor of 1 us per hop"),
        network_bandwidth_bytes_per_s=_assumed("network bandwidth", 6.25e9, 1e9, 50e9, "data-centre network of one host"),
        network_latency_s=_assumed("network latency", 30e-6, 5e-6, 200e-6, "data-centre network"),
        error_frac=_assumed("roofline error, tpu", 0.25, 0.1, 0.5, "analytic models, outside their own set"),
    ),
}

INTERFERENCE_FRAC = _assumed(
    "communication interference",
    0.15,
    0.0,
    0.4,
    "overlapped step = max(compute, communication) + share x min",
)
PROBED_ERROR_FRAC = _assumed(
    "error of the operation list", 0.2, 0.05, 0.3, "the sum of probed kernels against whole steps on two CPU devices"
)
MEMORY_ERROR_FRAC = _assumed("error of the memory model", 0.05, 0.01, 0.2, "tensor bytes against torch's own tracker")
SEQUENCE_MEMORY_ERROR_FRAC = _assumed(
    "error of the memory model, sequence parallel", 0.3, 0.1, 0.5, "gathered parts outlive their use by an unmodelled time"
)
CHECKPOINT_BYTES_PER_S = _assumed("checkpoint bandwidth", 200e6, 20e6, 5e9, "hash, write and sync to a local disk")
TOKEN_BYTES = _assumed("bytes of a token", 4.0, 1.0, 8.0, "token ids of 32 bits")
CHECKPOINT_EVERY_S = _assumed("checkpoint interval", 60.0, 1.0, 3600.0, "default checkpoint policy")
EVALUATION_BATCHES = _assumed("evaluation batches", 8.0, 1.0, 64.0, "global batches of one evaluation")
_HEAP = "benchmarks/memory_exhaustion.py: mapped less process less tensors, over the tensors that come and go, near the limit"
HEAP_HOLES_FRAC = _measured("holes of the host heap", 0.35, 0.1, 0.8, _HEAP)
RECOMPUTE_HEAP_HOLES_FRAC = _measured("holes of the host heap, recompute", 0.4, 0.1, 1.0, _HEAP)
COMPILER_BYTES = _measured(
    "compiler beside tensors", 157e6, 0.0, 400e6, "torch._dynamo and what it imports, in a CPU rank: 150 MiB, torch 2.15"
)
RESIDENT_BYTES: dict[DeviceKind, Bounded] = {
    DeviceKind.CPU: _measured(
        "resident beside tensors", 590e6, 200e6, 1.2e9, "interpreter and libraries of a CPU rank: 557 to 565 MiB, torch 2.15"
    ),
    DeviceKind.GPU: _assumed("device context", 1.0e9, 0.3e9, 2.5e9, "CUDA context and NCCL buffers: 1 to 2 GiB"),
    DeviceKind.TPU: _assumed("device reserve", 0.5e9, 0.1e9, 2e9, "runtime reserve"),
}
