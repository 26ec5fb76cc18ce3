"""What there is to run on: device types, nodes, pools, offers. Device types are data, not an enum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from trimtab.ids import DeviceTypeName, NodeId, OfferId, PoolId

_T = TypeVar("_T")


class DeviceKind(StrEnum):
    """Family of hardware."""

    CPU = "cpu"
    GPU = "gpu"
    TPU = "tpu"


class Market(StrEnum):
    """Terms under which a pool can be had."""

    RESERVED = "reserved"
    ON_DEMAND = "on-demand"
    SPOT = "spot"


class DeviceState(StrEnum):
    """Whether a device can be given away. BUSY_ELSEWHERE: processes that are not ours hold it."""

    FREE = "free"
    ASSIGNED = "assigned"
    BUSY_ELSEWHERE = "busy-elsewhere"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A connection between devices: one-way bandwidth of one device and latency of one message."""

    name: str
    bandwidth_bytes_per_s: float
    latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """How one node reads and writes data: its own disks, storage on the network, its memory, and the way from there to a device.

    Bandwidths in bytes/s; ``host_link_bytes_per_s`` is that of one device, one way. None: not known. ``source`` and
    ``retrieved_on`` (ISO date) are those of the figure that is trusted least.
    """

    local_read_bytes_per_s: float | None = None
    local_write_bytes_per_s: float | None = None
    network_read_bytes_per_s: float | None = None
    network_write_bytes_per_s: float | None = None
    host_memory_bytes: int | None = None
    host_link_bytes_per_s: float | None = None
    source: str = ""
    retrieved_on: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Torus:
    """How devices are joined on a grid (TPU): two links along each axis, and which parts of the grid can be had as a slice.

    ``axes`` is the largest slice and ``slices`` the legal ones, each in devices along its axes, shortest first. A slice is closed
    into rings along an axis whose length is a multiple of ``ring_length``; with ``in_cubes`` only when all axes are, and then
    every arrangement of whole cubes of that length, up to as many devices as ``axes`` has, is a legal slice too.
    ``link_bandwidth_bytes_per_s`` is that of one link, one way. Raises ValueError for a shape that contradicts itself.
    """

    axes: tuple[int, ...]
    slices: tuple[tuple[int, ...], ...]
    ring_length: int
    in_cubes: bool
    link_bandwidth_bytes_per_s: float

    def __post_init__(self) -> None:
        if not self.axes or self.ring_length < 2 or self.link_bandwidth_bytes_per_s <= 0:
            raise ValueError("a torus needs axes, rings of at least 2 and links with a bandwidth")
        for shape in (self.axes, *self.slices):
            if len(shape) != len(self.axes) or list(shape) != sorted(shape) or shape[0] < 1:
                raise ValueError(f"{shape} is not one length of at least 1 for each axis, shortest first")
        if any(math.prod(shape) > self.num_devices for shape in self.slices):
            raise ValueError("a slice is larger than the largest")

    @property
    def num_devices(self) -> int:
        """Devices of the largest slice."""
        return math.prod(self.axes)

    @property
    def num_links(self) -> int:
        """Links of one device: one to each of its neighbours."""
        return 2 * len(self.axes)

    def rings(self, shape: tuple[int, ...]) -> tuple[bool, ...]:
        """Which axes of a slice of that shape are closed into rings, in the order of ``shape``."""
        closed = tuple(length % self.ring_length == 0 for length in shape)
        return closed if not self.in_cubes or all(closed) else (False,) * len(shape)

    def is_slice(self, shape: tuple[int, ...]) -> bool:
        """Whether a slice of that shape can be had; the order of its axes does not matter."""
        if len(shape) != len(self.axes) or min(shape) < 1:
            return False
        cubes = self.in_cubes and all(self.rings(shape)) and math.prod(shape) <= self.num_devices
        return cubes or tuple(sorted(shape)) in self.slices


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceType:
    """One kind of device.

    ``peak_flops`` maps a precision (``fp32``, ``bf16`` ...) to dense FLOP/s of one device; ``memory_bandwidth`` in bytes/s;
    ``link`` is all that one device can send to the others of its domain of ``domain_size``, ``torus`` how that splits over
    neighbours where they are joined on a grid; ``devices_per_node`` is that of the usual node, where there is one; ``network``
    joins such nodes where nothing else is said (one device's share of it), ``storage`` is what such a node reads and writes.
    ``source`` and ``retrieved_on`` (ISO date) say where the figures come from, ``origins`` by figure where it comes from
    elsewhere: "document, date" by the names of ``docs/devices.md`` (``peak_bf16_tflops``).
    """

    name: DeviceTypeName
    kind: DeviceKind
    memory_bytes: int
    peak_flops: Mapping[str, float]
    memory_bandwidth_bytes_per_s: float
    source: str
    retrieved_on: str
    link: Link | None = None
    domain_size: int = 1
    devices_per_node: int | None = None
    torus: Torus | None = None
    network: Link | None = None
    storage: Storage | None = None
    origins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device of a node. ``index`` is the local number (the CUDA ordinal; for CPU devices the slot).

    ``cores`` are the processor cores of a CPU device. ``memory_free_bytes`` is what was free when it was looked at.
    """

    index: int
    state: DeviceState = DeviceState.FREE
    uuid: str = ""
    memory_bytes: int = 0
    memory_free_bytes: int = 0
    cores: tuple[int, ...] = ()
    used_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine. ``boot_id`` changes when it restarts."""

    id: NodeId
    boot_id: str
    devices: tuple[Device, ...]
    host_memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One homogeneous set of nodes in one zone.

    ``nodes`` lists known machines; a pool described by a person has none and says ``num_nodes``. ``node_link`` joins the
    devices of one node, ``network`` the nodes; ``storage`` is what one node reads and writes. None: as the device type says.
    """

    id: PoolId
    device_type: DeviceTypeName
    devices_per_node: int
    num_nodes: int
    zone: str = "local"
    nodes: tuple[Node, ...] = ()
    node_link: Link | None = None
    network: Link | None = None
    storage: Storage | None = None

    @property
    def num_devices(self) -> int:
        """Devices of all nodes."""
        return self.num_nodes * self.devices_per_node


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A pool under a market. Prices carry their source and date; ``nodes_now`` are there, up to ``nodes_possible`` could be
    had."""

    id: OfferId
    pool_id: PoolId
    market: Market
    price_usd_per_device_hour: float
    source: str
    retrieved_on: str
    interruptions_per_hour: float = 0.0
    startup_s: float = 0.0
    nodes_now: int = 0
    nodes_possible: int = 0

    @property
    def is_assumed(self) -> bool:
        """Whether nobody named this price: its source begins with the word ``assumed``."""
        return self.source.startswith("assumed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Nodes times devices of each."""

    num_nodes: int
    devices_per_node: int

    @property
    def num_devices(self) -> int:
        """Devices in all."""
        return self.num_nodes * self.devices_per_node


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All pools and offers, as seen at ``observed_at`` (aware). ``source`` says who looked (local, file, ray, kubernetes)."""

    device_types: tuple[DeviceType, ...]
    pools: tuple[Pool, ...]
    offers: tuple[Offer, ...]
    observed_at: datetime
    source: str

    def device_type(self, name: DeviceTypeName) -> DeviceType:
        """The device type of that name; raises KeyError."""
        return next_named(self.device_types, name, "name")

    def pool(self, pool_id: PoolId) -> Pool:
        """The pool of that id; raises KeyError."""
        return next_named(self.pools, pool_id, "id")


def next_named(items: tuple[_T, ...], wanted: str, key: str) -> _T:
    """The item whose ``key`` equals ``wanted``; raises KeyError."""
    for item in items:
        if getattr(item, key) == wanted:
            return item
    raise KeyError(wanted)


class ProbeKernel(StrEnum):
    """What a probe times. The shape of each is given in ``docs/probe.md``."""

    MATMUL = "matmul"
    BATCHED_MATMUL = "batched-matmul"
    ATTENTION_FORWARD = "attention-forward"
    ATTENTION_BACKWARD = "attention-backward"
    ELEMENTWISE = "elementwise"
    STRIDED_COPY = "strided-copy"
    SILU_FORWARD = "silu-forward"
    SILU_BACKWARD = "silu-backward"
    GELU_FORWARD = "gelu-forward"
    GELU_BACKWARD = "gelu-backward"
    ROTARY_FORWARD = "rotary-forward"
    ROTARY_BACKWARD = "rotary-backward"
    REDUCTION = "reduction"
    NORM_FORWARD = "norm-forward"
    NORM_BACKWARD = "norm-backward"
    CROSS_ENTROPY = "cross-entropy"
    EMBEDDING = "embedding"
    OPTIMIZER = "optimizer"
    LAUNCH = "launch"
    UNIT_LAUNCH = "unit-launch"
    CHECKPOINT_LAUNCH = "checkpoint-launch"
    RANK_START = "rank-start"
    ALL_REDUCE = "all-reduce"
    ALL_GATHER = "all-gather"
    REDUCE_SCATTER = "reduce-scatter"
    SEND_RECEIVE = "send-receive"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePoint:
    """One timed kernel: expected seconds of a run, over ``repeats`` runs, and their relative spread (p90 - p10) / (2 x seconds).

    ``num_ranks`` ranks ran it at the same time (1: the device alone); the time is then that of the slowest.
    """

    kernel: ProbeKernel
    precision: str
    shape: tuple[int, ...]
    num_ranks: int
    seconds: float
    spread_frac: float
    repeats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReport:
    """What ``trimtab probe`` measured on one node. ``fingerprint`` changes with hardware, driver and torch version."""

    fingerprint: str
    device_type: DeviceType
    num_devices: int
    points: tuple[ProbePoint, ...]
    measured_at: datetime
    versions: Mapping[str, str] = field(default_factory=dict)
    duration_s: float = 0.0
