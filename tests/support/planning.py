"""Small worlds for tests of the planner: models, inventories, requests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from planner.devices.catalogue import device_type
from trimtab.ids import DeviceTypeName, JobId, NodeId, OfferId, PoolId, UnitId
from trimtab.inventory import Device, DeviceKind, DeviceState, DeviceType, Inventory, Link, Market, Node, Offer, Pool
from trimtab.job import DeviceRef
from trimtab.jobspec import CommandSpec, DeviceRequest, JobKind, JobSpec
from trimtab.model import (
    ActivationKind,
    AttentionSpec,
    FeedForwardSpec,
    ModelFamily,
    ModelSpec,
    NormKind,
    PositionKind,
    StackRole,
    StackSpec,
)
from trimtab.plan import PlanningProblem, PlanRequest
from trimtab.strategy import Precision
from trimtab.workload import DataKind, DataSpec, TrainWorkload

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TEXT = DataSpec(kind=DataKind.TEXT)

LLAMA_8B = ModelSpec(
    name="llama-3-8b",
    family=ModelFamily.DECODER,
    hidden_size=4096,
    vocab_size=128_256,
    tied_embeddings=False,
    stacks=(
        StackSpec(
            role=StackRole.DECODER,
            num_layers=32,
            attention=AttentionSpec(num_heads=32, num_kv_heads=8, head_size=128),
            feed_forward=FeedForwardSpec(hidden_size=14_336),
        ),
    ),
)
GPT2_SMALL = ModelSpec(
    name="gpt2",
    family=ModelFamily.DECODER,
    hidden_size=768,
    vocab_size=50_257,
    position=PositionKind.LEARNED,
    max_positions=1024,
    stacks=(
        StackSpec(
            role=StackRole.DECODER,
            num_layers=12,
            attention=AttentionSpec(num_heads=12, num_kv_heads=12, head_size=64, qkv_bias=True, output_bias=True),
            feed_forward=FeedForwardSpec(hidden_size=3072, gated=False, activation=ActivationKind.GELU, bias=True),
            norm=NormKind.LAYER,
            norm_bias=True,
        ),
    ),
)


def tiny_model(*, num_layers: int = 4, num_heads: int = 4, num_kv_heads: int = 2, vocab_size: int = 512) -> ModelSpec:
    """A decoder that any device holds."""
    return ModelSpec(
        name="tiny",
        family=ModelFamily.DECODER,
        hidden_size=64,
        vocab_size=vocab_size,
        stacks=(
            StackSpec(
                role=StackRole.DECODER,
                num_layers=num_layers,
                attention=AttentionSpec(num_heads=num_heads, num_kv_heads=num_kv_heads, head_size=16),
                feed_forward=FeedForwardSpec(hidden_size=192),
            ),
        ),
    )


def as_encoder(model: ModelSpec) -> ModelSpec:
    """A decoder's layers, read in both directions."""
    stacks = tuple(replace(stack, role=StackRole.ENCODER, causal=False) for stack in model.stacks)
    return replace(model, family=ModelFamily.ENCODER, stacks=stacks)


def tiny_translator(*, num_encoder: int = 2, num_decoder: int = 2) -> ModelSpec:
    """A small encoder-decoder with sinusoidal positions."""
    attention = AttentionSpec(num_heads=4, num_kv_heads=4, head_size=16)
    block = FeedForwardSpec(hidden_size=128, gated=False, activation=ActivationKind.RELU)
    encoder = StackSpec(role=StackRole.ENCODER, num_layers=num_encoder, attention=attention, feed_forward=block, causal=False)
    decoder = StackSpec(
        role=StackRole.DECODER, num_layers=num_decoder, attention=attention, feed_forward=block, cross_attention=True
    )
    return ModelSpec(
        name="tiny-translator",
        family=ModelFamily.ENCODER_DECODER,
        hidden_size=64,
        vocab_size=256,
        stacks=(encoder, decoder),
        position=PositionKind.SINUSOIDAL,
    )


def workload(**fields: Any) -> TrainWorkload:
    """A short training run."""
    values = {"num_steps": 100, "sequence_length": 64, "global_batch": 16, "data": TEXT} | fields
    return TrainWorkload(**values)


CPU_TYPE = DeviceType(
    name=DeviceTypeName("cpu-test"),
    kind=DeviceKind.CPU,
    memory_bytes=4 * 1024**3,
    peak_flops={"fp32": 5e10, "fp64": 2.5e10, "bf16": 5e10},
    memory_bandwidth_bytes_per_s=1e10,
    source="test",
    retrieved_on="2026-11-24",
    link=Link(name="loopback", bandwidth_bytes_per_s=2e9, latency_s=5e-5),
)
H100 = device_type("H100")


def cpu_pool(
    name: str = "local-cpu", *, num_nodes: int = 1, per_node: int = 4, states: dict[tuple[int, int], DeviceState] | None = None
) -> Pool:
    """A pool of listed CPU machines; ``states`` by (node, index) where a device is not free."""
    states = states or {}
    nodes = tuple(
        Node(
            id=NodeId(f"{name}-{n}"),
            boot_id="boot",
            devices=tuple(Device(index=i, state=states.get((n, i), DeviceState.FREE), cores=(i,)) for i in range(per_node)),
        )
        for n in range(num_nodes)
    )
    return Pool(
        id=PoolId(name),
        device_type=CPU_TYPE.name,
        devices_per_node=per_node,
        num_nodes=num_nodes,
        nodes=nodes,
        node_link=CPU_TYPE.link,
    )


def h100_pool(name: str = "h100", *, num_nodes: int = 2) -> Pool:
    """A pool that a person describes: no machines listed."""
    network = Link(name="InfiniBand", bandwidth_bytes_per_s=50e9, latency_s=1e-5)
    return Pool(
        id=PoolId(name), device_type=H100.name, devices_per_node=8, num_nodes=num_nodes, node_link=H100.link, network=network
    )


def offer(pool: Pool, *, price: float = 0.10, market: Market = Market.ON_DEMAND, **fields: Any) -> Offer:
    """The offer of a whole pool."""
    values: dict[str, Any] = {"nodes_now": pool.num_nodes, "source": "test", "retrieved_on": "2026-11-20"} | fields
    return Offer(id=OfferId(f"{pool.id}/{market}"), pool_id=pool.id, market=market, price_usd_per_device_hour=price, **values)


def inventory(*pools: Pool, offers: tuple[Offer, ...] | None = None) -> Inventory:
    """Pools with one on-demand offer each, or the given offers."""
    pools = pools or (cpu_pool(),)
    types = tuple({t.name: t for t in (CPU_TYPE, H100) if any(p.device_type == t.name for p in pools)}.values())
    made = offers if offers is not None else tuple(offer(pool) for pool in pools)
    return Inventory(device_types=types, pools=pools, offers=made, observed_at=NOW, source="test")


def train_spec(name: str = "train", **fields: Any) -> JobSpec:
    """A training job of the tiny model."""
    values: dict[str, Any] = {"model": tiny_model(), "train": workload()} | fields
    return JobSpec(name=name, kind=JobKind.TRAIN, **values)


def llama_spec(**fields: Any) -> JobSpec:
    """The 8B decoder in bf16."""
    train = workload(sequence_length=8192, global_batch=256, num_steps=1000, precision=Precision.BF16)
    values: dict[str, Any] = {"model": LLAMA_8B, "train": train} | fields
    return JobSpec(name="llama", kind=JobKind.TRAIN, **values)


def command_spec(name: str = "command", *, least: int = 1, most: int | None = None, **fields: Any) -> JobSpec:
    """A user's own program."""
    command = CommandSpec(argv=("python", "train.py"), working_dir="/")
    devices = DeviceRequest(min_devices=least, max_devices=least if most is None else most)
    return JobSpec(name=name, kind=JobKind.COMMAND, command=command, devices=devices, **fields)


def request(spec: JobSpec, number: int = 0, **fields: Any) -> PlanRequest:
    """A unit of job ``number``."""
    return PlanRequest(unit_id=UnitId(f"job_{number}.u0"), job_id=JobId(f"job_{number}"), spec=spec, **fields)


def problem(*requests: PlanRequest, where: Inventory | None = None, **fields: Any) -> PlanningProblem:
    """A problem over an inventory, by default one CPU machine of four devices."""
    values: dict[str, Any] = {"basis_version": 1, "now": NOW, "time_limit_s": 10.0} | fields
    return PlanningProblem(inventory=where or inventory(), requests=requests, **values)


def devices(pool: Pool, *places: tuple[int, int]) -> tuple[DeviceRef, ...]:
    """Devices of a pool by (node, index)."""
    return tuple(
        DeviceRef(pool_id=pool.id, node_id=pool.nodes[n].id if pool.nodes else NodeId(f"{pool.id}-n{n}"), index=i)
        for n, i in places
    )


def with_priority(spec: JobSpec, priority: int) -> JobSpec:
    """The job with another priority."""
    return replace(spec, priority=priority)
