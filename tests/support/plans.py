"""A plan with everything that a plan can hold, for tests of its print."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

from tests.support.kit import START, train_job
from trimtab.estimate import Constant, Estimate, Origin
from trimtab.ids import DeviceTypeName, JobId, NodeId, OfferId, PlanId, PoolId, UnitId, unit_id
from trimtab.inventory import Device, DeviceKind, DeviceType, Inventory, Market, Node, Offer, Pool, Shape
from trimtab.job import DeviceRef
from trimtab.jobspec import JobSpec, Limits, Optimize
from trimtab.plan import (
    Assignment,
    Candidate,
    FitVerdict,
    ObjectivePart,
    Placement,
    Plan,
    RankMemory,
    Rejection,
    RejectionReason,
    SolveReport,
    SolveStatus,
    TimePart,
    Unplaced,
)
from trimtab.strategy import Precision, Recompute, Strategy

GIB = 1024**3
POOL = PoolId("h100")
UNIT: UnitId = unit_id(JobId("job_planned"), 0)
STRATEGY = Strategy(
    dp=2,
    fsdp=4,
    zero_stage=3,
    tp=2,
    sequence_parallel=True,
    pp=2,
    micro_batch=2,
    num_micro_batches=8,
    recompute=Recompute.SELECTIVE,
    precision=Precision.BF16,
    stage_layers=(15, 17),
)


def job() -> JobSpec:
    """The job that was planned."""
    return replace(train_job("llama-sft"), optimize=Optimize.COST, limits=Limits(max_cost_usd=900.0, max_hours=48.0))


def inventory() -> Inventory:
    """Four nodes of eight devices."""
    kind = DeviceType(
        name=DeviceTypeName("H100-SXM5-80GB"),
        kind=DeviceKind.GPU,
        memory_bytes=80 * GIB,
        peak_flops={"bf16": 989.4e12},
        memory_bandwidth_bytes_per_s=3.35e12,
        source="data sheet",
        retrieved_on="2026-01-05",
    )
    nodes = tuple(Node(id=NodeId(f"node-{n}"), boot_id="b", devices=tuple(Device(index=i) for i in range(8))) for n in range(6))
    pool = Pool(id=POOL, device_type=kind.name, devices_per_node=8, num_nodes=6, zone="us-east-1a", nodes=nodes)
    offer = Offer(
        id=OfferId("h100/spot"),
        pool_id=POOL,
        market=Market.SPOT,
        price_usd_per_device_hour=2.6,
        source="example figure",
        retrieved_on="2026-01-01",
    )
    return Inventory(device_types=(kind,), pools=(pool,), offers=(offer,), observed_at=START, source="inventory.yaml")


def memory(stage: int, activations_gib: float) -> RankMemory:
    """Memory of one stage."""
    total = (2.0 + 2.0 + 4.0 + activations_gib + 1.5) * GIB
    return RankMemory(
        stage=stage,
        parameters_bytes=2.0 * GIB,
        gradients_bytes=2.0 * GIB,
        optimizer_bytes=4.0 * GIB,
        activations_bytes=activations_gib * GIB,
        logits_bytes=0.5 * GIB,
        communication_bytes=1.0 * GIB,
        transient_bytes=0.0,
        total_bytes=Estimate.within(total, 0.05, origin=Origin.MEASURED, source="tensor bytes of probe runs"),
        resident_bytes=0.9 * GIB,
    )


def candidate(strategy: Strategy, *, step_s: float, cost_usd: float, nodes: int) -> Candidate:
    """A candidate with its predictions."""
    return Candidate(
        unit_id=UNIT,
        offer_id=OfferId("h100/spot"),
        pool_id=POOL,
        shape=Shape(num_nodes=nodes, devices_per_node=8),
        strategy=strategy,
        step_s=Estimate.within(step_s, 0.1, origin=Origin.CALIBRATED, source="probe of 2026-01-05"),
        total_s=Estimate.within(step_s * 20 + 60, 0.12, origin=Origin.CALIBRATED, source="probe of 2026-01-05"),
        cost_usd=Estimate.within(cost_usd, 0.12, origin=Origin.CALIBRATED),
        price_usd_per_hour=20.8 * nodes,
        memory=(memory(0, 50.0), memory(1, 41.25)),
        fit=FitVerdict.FITS,
        time_parts=(
            TimePart(name="forward", seconds=step_s * 0.3),
            TimePart(name="backward", seconds=step_s * 0.6),
            TimePart(name="recompute", seconds=0.0),
            TimePart(name="pipeline bubble and sends", seconds=step_s * 0.1),
        ),
    )


def plan() -> Plan:
    """The plan."""
    chosen = candidate(STRATEGY, step_s=3.2, cost_usd=624.0, nodes=4)
    others = (
        candidate(Strategy(fsdp=8, zero_stage=3, micro_batch=16, precision=Precision.BF16), step_s=6.9, cost_usd=655.0, nodes=1),
        candidate(Strategy(dp=8, tp=2, micro_batch=16, precision=Precision.BF16), step_s=3.1, cost_usd=1290.0, nodes=2),
    )
    devices = tuple(DeviceRef(pool_id=POOL, node_id=NodeId(f"node-{n}"), index=i) for n in range(4) for i in range(8))
    return Plan(
        id=PlanId("plan_0123456789abcdef"),
        basis_version=42,
        made_at=START,
        expires_at=START + timedelta(minutes=30),
        assignments=(Assignment(unit_id=UNIT, candidate=chosen, placement=Placement(devices=devices), alternatives=others),),
        unplaced=(),
        rejections=(
            _rejected(RejectionReason.ILLEGAL, "tp3: tp 3 must divide the key-value heads (8)", 272),
            _rejected(RejectionReason.ILLEGAL, "3 data ranks must divide the global batch of 128", 332),
            _rejected(RejectionReason.DOES_NOT_FIT, "the closest needs 84.2 of 80.0 GiB", 6584),
            _rejected(RejectionReason.OVER_COST, "the closest costs $955.10, over the limit of $900.00", 12),
        ),
        objective=(
            ObjectivePart(name="cost", usd_per_hour=79.9),
            ObjectivePart(name="interruptions", usd_per_hour=0.04),
        ),
        solve=SolveReport(
            status=SolveStatus.OPTIMAL,
            solver="HiGHS 1.16.0 via PuLP 3.3.2",
            objective_usd_per_hour=79.94,
            bound_usd_per_hour=79.9,
            gap_frac=0.0005,
            seconds=0.412,
            num_columns=65,
            num_candidates=7203,
        ),
        constants=(
            Constant(name="matrix product bf16", value=612.3e12, origin=Origin.MEASURED, source="trimtab probe 2026-01-05"),
            Constant(name="memory bandwidth", value=2.9e12, origin=Origin.MEASURED, source="trimtab probe 2026-01-05"),
            Constant(
                name="kernel floor",
                value=7e-6,
                origin=Origin.PUBLISHED,
                source="a source whose name is long enough to be wrapped",
            ),
            Constant(name="restart of a moved unit (s)", value=60.0, origin=Origin.ASSUMED, source=""),
        ),
        warnings=("offer h100/spot: its price is 120 days old",),
    )


def infeasible_plan() -> Plan:
    """A plan that leaves the job out."""
    unplaced = Unplaced(
        unit_id=UNIT,
        reason=RejectionReason.OVER_COST,
        detail="every candidate costs more than max_cost $900.00",
        smallest_change="raise limits.max_cost to 956",
    )
    solve = replace(plan().solve, status=SolveStatus.INFEASIBLE, bound_usd_per_hour=-math.inf, gap_frac=math.inf)
    return replace(plan(), assignments=(), unplaced=(unplaced,), solve=solve)


def _rejected(reason: RejectionReason, detail: str, count: int) -> Rejection:
    return Rejection(unit_id=UNIT, reason=reason, rule=reason.value, detail=detail, count=count)
