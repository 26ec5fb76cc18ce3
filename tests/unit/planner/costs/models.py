"""Models, workloads and contexts that the tests of costs share."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from planner.costs import DeviceContext
from trimtab.ids import DeviceTypeName, PoolId
from trimtab.inventory import DeviceKind, DeviceType, Link, Pool, ProbeKernel, ProbePoint, ProbeReport, Shape
from trimtab.model import AttentionSpec, FeedForwardSpec, ModelFamily, ModelSpec, StackRole, StackSpec
from trimtab.strategy import Strategy
from trimtab.workload import DataKind, DataSpec, OptimizerSpec, TrainWorkload

_DECODER = StackSpec(
    role=StackRole.DECODER,
    num_layers=4,
    attention=AttentionSpec(num_heads=4, num_kv_heads=4, head_size=16),
    feed_forward=FeedForwardSpec(hidden_size=96),
)

DECODER = ModelSpec(name="decoder", family=ModelFamily.DECODER, hidden_size=64, vocab_size=256, stacks=(_DECODER,))
TRANSLATOR = ModelSpec(
    name="translator",
    family=ModelFamily.ENCODER_DECODER,
    hidden_size=64,
    vocab_size=256,
    stacks=(
        replace(_DECODER, role=StackRole.ENCODER, num_layers=2, causal=False),
        replace(_DECODER, num_layers=2, cross_attention=True),
    ),
)
TRAIN = TrainWorkload(
    num_steps=10,
    sequence_length=32,
    global_batch=8,
    data=DataSpec(kind=DataKind.STDLIB),
    optimizer=OptimizerSpec(clip_norm=1.0),
)


def workload(model: ModelSpec) -> TrainWorkload:
    """The workload of a model: an encoder-decoder has a source."""
    return replace(TRAIN, source_length=24) if model.family is ModelFamily.ENCODER_DECODER else TRAIN


def device_type(kind: DeviceKind = DeviceKind.CPU) -> DeviceType:
    """Round figures: 100 GFLOP/s, 10 GB/s."""
    return DeviceType(
        name=DeviceTypeName("device"),
        kind=kind,
        memory_bytes=8 << 30,
        peak_flops={"fp32": 1e11, "bf16": 4e11},
        memory_bandwidth_bytes_per_s=1e10,
        source="a table",
        retrieved_on="2026-11-01",
    )


def context(
    strategy: Strategy,
    *,
    kind: DeviceKind = DeviceKind.CPU,
    devices_per_node: int | None = None,
    probe: ProbeReport | None = None,
) -> DeviceContext:
    """A pool that just holds the strategy's ranks."""
    per_node = devices_per_node or strategy.world_size
    num_nodes = -(-strategy.world_size // per_node)
    pool = Pool(
        id=PoolId("pool"),
        device_type=DeviceTypeName("device"),
        devices_per_node=per_node,
        num_nodes=num_nodes,
        node_link=Link(name="link", bandwidth_bytes_per_s=1e9, latency_s=1e-5),
        network=Link(name="network", bandwidth_bytes_per_s=1e8, latency_s=1e-4),
    )
    shape = Shape(num_nodes=num_nodes, devices_per_node=per_node)
    return DeviceContext(device_type=device_type(kind), pool=pool, shape=shape, probe=probe)


def point(
    kernel: ProbeKernel, shape: tuple[int, ...], seconds: float, *, num_ranks: int = 1, precision: str = "fp32"
) -> ProbePoint:
    """A measured point without spread."""
    return ProbePoint(
        kernel=kernel, precision=precision, shape=shape, num_ranks=num_ranks, seconds=seconds, spread_frac=0.0, repeats=9
    )


def report(*points: ProbePoint) -> ProbeReport:
    """A probe of two devices."""
    return ProbeReport(
        fingerprint="f00d",
        device_type=device_type(),
        num_devices=2,
        points=points,
        measured_at=datetime(2026, 11, 1, tzinfo=UTC),
    )
