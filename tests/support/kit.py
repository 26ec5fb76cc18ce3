"""Small building blocks for tests of the control plane: an inventory, jobs, a first-fit planner, places on disk or in memory."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from scheduler.adapters.measurements.memory import MemoryMeasurements
from scheduler.adapters.planner.inline import InlinePlanner
from scheduler.adapters.simulated.executor import SimulatedExecutor
from scheduler.adapters.simulated.world import Script, World
from scheduler.adapters.store.memory import MemoryStore
from scheduler.adapters.telemetry.memory import MemoryTelemetry
from scheduler.adapters.time.clocks import VirtualClock
from scheduler.core.policy import Policy
from scheduler.ports import Executor, LogChunk, PlannerRunner, StateStore
from scheduler.service.control import ControlPlane
from scheduler.service.wiring import ControlPorts, ControlSettings, no_crash
from trimtab import wire
from trimtab.estimate import Estimate, Origin
from trimtab.ids import AttemptRef, DeviceTypeName, JobId, NodeId, OfferId, PlanId, PoolId, UnitId
from trimtab.inventory import (
    Device,
    DeviceKind,
    DeviceState,
    DeviceType,
    Inventory,
    Market,
    Node,
    Offer,
    Pool,
    ProbeReport,
    Shape,
)
from trimtab.job import DeviceRef
from trimtab.jobspec import CommandSpec, DeviceRequest, JobKind, JobSpec
from trimtab.model import (
    AttentionSpec,
    FeedForwardSpec,
    ModelFamily,
    ModelSpec,
    StackRole,
    StackSpec,
)
from trimtab.orders import CheckpointNote, RunOrder
from trimtab.plan import (
    Assignment,
    Candidate,
    Placement,
    Plan,
    PlanningProblem,
    RejectionReason,
    SolveReport,
    SolveStatus,
    Unplaced,
)
from trimtab.strategy import Strategy
from trimtab.workload import DataKind, DataSpec, TrainWorkload

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
KEY = bytes(range(32))
POOL = PoolId("pool-a")
NODE = NodeId("node-a")


def inventory(num_devices: int = 8, *, price: float = 2.0) -> Inventory:
    """One node with CPU devices of two cores each."""
    devices = tuple(Device(index=i, memory_bytes=2**33, cores=(2 * i, 2 * i + 1)) for i in range(num_devices))
    kind = DeviceType(
        name=DeviceTypeName("cpu-test"),
        kind=DeviceKind.CPU,
        memory_bytes=2**33,
        peak_flops={"fp32": 1e11},
        memory_bandwidth_bytes_per_s=1e10,
        source="made up for a test",
        retrieved_on="2026-01-05",
    )
    node = Node(id=NODE, boot_id="boot-1", devices=devices)
    pool = Pool(id=POOL, device_type=kind.name, devices_per_node=num_devices, num_nodes=1, nodes=(node,))
    return Inventory(device_types=(kind,), pools=(pool,), offers=(offer(price),), observed_at=START, source="test")


def offer(price: float = 2.0) -> Offer:
    """The only offer."""
    return Offer(
        id=OfferId("pool-a/on-demand"),
        pool_id=POOL,
        market=Market.ON_DEMAND,
        price_usd_per_device_hour=price,
        source="made up for a test",
        retrieved_on="2026-01-05",
        nodes_now=1,
        nodes_possible=1,
    )


def command_job(name: str = "job", devices: int = 1, **fields: object) -> JobSpec:
    """A job that runs a user's program."""
    spec = JobSpec(
        name=name,
        kind=JobKind.COMMAND,
        command=CommandSpec(argv=("python", "train.py"), working_dir="/home/user"),
        devices=DeviceRequest(min_devices=devices, max_devices=devices),
    )
    return replace(spec, **fields)  # type: ignore[arg-type]


def train_job(name: str = "lm", devices: int = 1, **fields: object) -> JobSpec:
    """A training job of our own worker."""
    stack = StackSpec(
        role=StackRole.DECODER,
        num_layers=2,
        attention=AttentionSpec(num_heads=2, num_kv_heads=2, head_size=8),
        feed_forward=FeedForwardSpec(hidden_size=32),
    )
    spec = JobSpec(
        name=name,
        kind=JobKind.TRAIN,
        model=ModelSpec(name="tiny", family=ModelFamily.DECODER, hidden_size=16, vocab_size=64, stacks=(stack,)),
        train=TrainWorkload(num_steps=20, sequence_length=16, global_batch=8, data=DataSpec(kind=DataKind.STDLIB)),
        devices=DeviceRequest(min_devices=devices, max_devices=devices),
    )
    return replace(spec, **fields)  # type: ignore[arg-type]


def first_fit(problem: PlanningProblem, *, plan_id: str = "") -> Plan:
    """A plan by first fit in the order of the requests: real assignments, no optimisation."""
    free = [
        (pool, DeviceRef(pool_id=pool.id, node_id=node.id, index=device.index))
        for pool in problem.inventory.pools
        for node in pool.nodes
        for device in node.devices
        if device.state is DeviceState.FREE
    ]
    total = sum(len(node.devices) for pool in problem.inventory.pools for node in pool.nodes)
    assignments, unplaced = [], []
    for request in problem.requests:
        wanted = request.spec.devices.min_devices
        if request.fixed:
            continue
        if wanted > total:
            unplaced.append(
                Unplaced(
                    unit_id=request.unit_id,
                    reason=RejectionReason.NOT_REQUESTED,
                    detail=f"{wanted} devices are asked for, there are {total}",
                    smallest_change=f"ask for at most {total} devices",
                )
            )
        elif wanted > len(free):
            detail = f"{wanted} devices are asked for, {len(free)} are free"
            unplaced.append(Unplaced(unit_id=request.unit_id, reason=RejectionReason.NO_CAPACITY, detail=detail))
        else:
            chosen, free = free[:wanted], free[wanted:]
            assignments.append(_assignment(problem, request.unit_id, request.spec, [ref for _, ref in chosen]))
    return Plan(
        id=PlanId(plan_id or f"plan_{hashlib.sha256(wire.dumps(problem).encode()).hexdigest()[:16]}"),
        basis_version=problem.basis_version,
        made_at=problem.now,
        expires_at=problem.now + timedelta(seconds=problem.expires_after_s),
        assignments=tuple(assignments),
        unplaced=tuple(unplaced),
        rejections=(),
        objective=(),
        solve=SolveReport(
            status=SolveStatus.FEASIBLE,
            solver="first-fit",
            objective_usd_per_hour=0.0,
            bound_usd_per_hour=0.0,
            gap_frac=0.0,
            seconds=0.0,
            num_columns=len(assignments),
            num_candidates=len(assignments),
        ),
    )


def _assignment(problem: PlanningProblem, unit: UnitId, spec: JobSpec, devices: Sequence[DeviceRef]) -> Assignment:
    found = next(o for o in problem.inventory.offers if o.pool_id == devices[0].pool_id)
    exact = Estimate(value=1.0, low=0.8, high=1.2, origin=Origin.ASSUMED, source="test")
    total = exact.scaled(spec.train.num_steps) if spec.train is not None else exact
    candidate = Candidate(
        unit_id=unit,
        offer_id=found.id,
        pool_id=found.pool_id,
        shape=Shape(num_nodes=1, devices_per_node=len(devices)),
        strategy=Strategy(dp=len(devices)) if spec.kind is JobKind.TRAIN else None,
        step_s=exact,
        total_s=total,
        cost_usd=exact,
        price_usd_per_hour=found.price_usd_per_device_hour * len(devices),
    )
    placement = Placement(devices=tuple(devices))
    return Assignment(unit_id=unit, candidate=candidate, placement=placement)


class StaticPrices:
    """PriceBook with one offer."""

    def __init__(self, price: float = 2.0) -> None:
        self.price = price

    def offers(self, at: datetime, inventory: Inventory) -> Sequence[Offer]:
        return (offer(self.price),)


class MemoryArtifacts:
    """ArtifactStore that names folders and keeps nothing; ``bad`` checkpoints do not verify."""

    def __init__(self) -> None:
        self.bad: set[str] = set()

    def checkpoint_dir(self, job_id: JobId) -> str:
        return f"/sim/jobs/{job_id}/checkpoints"

    def attempt_dir(self, attempt: AttemptRef) -> str:
        return f"/sim/jobs/{attempt.job_id}/a{attempt.number}"

    def verify(self, note: CheckpointNote) -> bool:
        return note.path not in self.bad


class MemoryLogs:
    """LogStore over a dictionary."""

    def __init__(self) -> None:
        self.data: dict[tuple[AttemptRef, int], bytes] = {}

    def ranks(self, attempt: AttemptRef) -> Sequence[int]:
        return tuple(sorted(rank for ref, rank in self.data if ref == attempt))

    def read(self, attempt: AttemptRef, rank: int, *, offset: int, limit: int) -> LogChunk:
        data = self.data.get((attempt, rank), b"")[offset : offset + limit]
        return LogChunk(data=data, next_offset=offset + len(data), complete=False)


class MemoryProbes:
    """ProbeShelf over a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[str, ProbeReport] = {}

    def reports(self) -> Sequence[ProbeReport]:
        return tuple(self.kept[key] for key in sorted(self.kept))

    def put(self, report: ProbeReport) -> None:
        self.kept[report.fingerprint] = report


def counter_bytes(seed: int = 0) -> Callable[[int], bytes]:
    """Bytes that never repeat and depend on the seed alone."""
    numbers = itertools.count()
    return lambda size: hashlib.sha256(f"{seed}/{next(numbers)}".encode()).digest()[:size]


class Rig:
    """A control plane over the simulated world with a virtual clock; ``restart`` makes a new one over the same store."""

    def __init__(
        self,
        *,
        num_devices: int = 8,
        script: Script | None = None,
        seed: int = 0,
        policy: Policy | None = None,
        store: StateStore | None = None,
        planner: PlannerRunner | None = None,
        executor: Executor | None = None,
        price: float = 2.0,
    ) -> None:
        self.rng = random.Random(seed)
        self.clock = VirtualClock(START)
        self.script: Callable[[RunOrder], Script] = lambda order: script or Script()
        self.world = World(inventory(num_devices), script_for=lambda order: self.script(order), start=START)
        self.world.handler = lambda: self.control
        self.telemetry = MemoryTelemetry()
        self.artifacts = MemoryArtifacts()
        self.logs = MemoryLogs()
        self.store = store or MemoryStore(now=self.clock.monotonic)
        self.ports = ControlPorts(
            store=self.store,
            executor=executor or SimulatedExecutor(self.world),
            planner=planner or InlinePlanner(first_fit),
            prices=StaticPrices(price),
            logs=self.logs,
            artifacts=self.artifacts,
            probes=MemoryProbes(),
            measurements=MemoryMeasurements(),
            clock=self.clock,
            telemetry=self.telemetry,
            random_bytes=counter_bytes(seed),
            crash_point=no_crash,
        )
        self.settings = ControlSettings(
            home="/sim",
            address="sim:",
            holder="control-1",
            credential_key=KEY,
            runtime_python="/usr/bin/python3",
            policy=policy or Policy(),
        )
        self.control = ControlPlane(self.ports, self.settings)

    def restart(self) -> None:
        """The control process dies and another one begins."""
        self.settings = replace(self.settings, holder=f"{self.settings.holder}+")
        self.clock.advance(self.settings.lease_s + 1)
        self.control = ControlPlane(self.ports, self.settings)

    def run(self, seconds: float, *, step_s: float = 1.0) -> None:
        """Let time pass: the world moves, then the loop has its cycle."""
        until_s = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until_s:
            self.control.cycle()
            self.clock.advance(step_s)
            self.world.advance(self.clock.monotonic())

    def submit(self, spec: JobSpec, **fields: object) -> str:
        """Submit and give the id."""
        arguments: dict[str, object] = {"plan_id": None, "idempotency_key": None, "submitted_by": "ann", **fields}
        return self.control.submit(spec, **arguments).id  # type: ignore[arg-type]
