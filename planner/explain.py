"""Why a unit is left out, and the smallest change that would let it run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from planner.candidates.generate import CandidateSet, Generator, Scored
from planner.candidates.memory import predict_memory
from planner.candidates.predict import verdict
from planner.candidates.shapes import node_counts, requests_type
from planner.formulation.columns import UnitColumns
from planner.placement.occupancy import PoolSlots
from planner.report import describe
from planner.strategies.frameworks import TRIMTAB
from planner.strategies.question import Question
from planner.strategies.space import strategy_space
from trimtab.ids import PoolId
from trimtab.inventory import Pool, Shape
from trimtab.jobspec import JobKind, StrategyRequest
from trimtab.plan import Assignment, FitVerdict, RejectionReason, Unplaced

MAX_GROWTH = 64
"""How many times the nodes of a pool are tried to find a number of devices that would do."""

_ORDER = (
    RejectionReason.DOES_NOT_FIT,
    RejectionReason.ILLEGAL,
    RejectionReason.NO_CAPACITY,
    RejectionReason.NOT_REQUESTED,
)


def without_candidates(found: CandidateSet, generator: Generator, slots: Mapping[PoolId, PoolSlots]) -> Unplaced:
    """A unit for which nothing is feasible: the reason that came closest, and the smallest change."""
    unit_id = found.request.unit_id
    if found.over_limit:
        closest = min(found.over_limit, key=_worst_ratio)
        sentences = "; ".join(violation.sentence for violation in closest.violations)
        return Unplaced(
            unit_id=unit_id,
            reason=closest.violations[0].reason,
            detail=f"the closest candidate, {describe(closest.candidate)}, {sentences}",
            smallest_change=_limit_change(found),
        )
    for reason in _ORDER:
        matching = [r for r in found.rejections if r.reason is reason]
        if matching:
            detail = "; ".join(dict.fromkeys(f"{r.rule}: {r.detail}" for r in matching[:3]))
            change = "" if found.request.spec.kind is JobKind.COMMAND else _structural_change(found, generator, slots)
            if reason in (RejectionReason.NO_CAPACITY, RejectionReason.NOT_REQUESTED):
                change = _capacity_change(found, generator, slots) or change
            return Unplaced(unit_id=unit_id, reason=reason, detail=detail, smallest_change=change)
    return Unplaced(
        unit_id=unit_id, reason=RejectionReason.NO_CAPACITY, detail="the inventory has no offer", smallest_change="add an offer"
    )


def left_out(unit: UnitColumns, slots: Mapping[PoolId, PoolSlots], assignments: Sequence[Assignment]) -> Unplaced:
    """A unit that could run but whose devices others of this plan have."""
    smallest = min(unit.columns, key=lambda column: (sum(column.node_counts), column.objective))
    candidate = smallest.scored.candidate
    pool_id, needed = candidate.pool_id, candidate.shape.num_devices
    users = [a for a in assignments if a.candidate.pool_id == pool_id]
    used = sum(len(a.placement.devices) for a in users)
    holders = ", ".join(f"{a.unit_id} ({len(a.placement.devices)})" for a in users[:4])
    free = slots[pool_id].num_free - used
    detail = (
        f"needs at least {needed} devices of {pool_id}, {max(free, 0)} are left"
        + (f" beside {holders}" if holders else "")
        + (" but not on one node together" if free >= needed else "")
    )
    change = f"{needed - free} more free devices in {pool_id}" if free < needed else f"{needed} devices of {pool_id} on one node"
    return Unplaced(unit_id=unit.request.unit_id, reason=RejectionReason.NO_CAPACITY, detail=detail, smallest_change=change)


def _worst_ratio(entry: Scored) -> float:
    return max(violation.ratio for violation in entry.violations)


def _limit_change(found: CandidateSet) -> str:
    """The limits of the candidate that needs the least relative change of its worst limit."""
    closest = min(found.over_limit, key=_worst_ratio)
    changes = " and ".join(
        f"{violation.field} of {_round_up(violation.needed)} instead of {violation.limit:g}" for violation in closest.violations
    )
    return f"{changes}, for {describe(closest.candidate)}"


def _round_up(value: float) -> str:
    """Two decimals, never below the value."""
    cents = int(value * 100)
    return f"{(cents if cents / 100 >= value else cents + 1) / 100:.2f}"


def _structural_change(found: CandidateSet, generator: Generator, slots: Mapping[PoolId, PoolSlots]) -> str:
    """Leave the strategy to the planner, or another number of devices, whichever does."""
    spec = found.request.spec
    pools = [slots[pool_id] for pool_id in sorted(slots) if requests_type(spec.devices, slots[pool_id].pool.device_type)]
    least, most = spec.devices.min_devices, spec.devices.max_devices
    if spec.strategy != StrategyRequest():
        for pool in pools:
            for shape in _shapes(pool.pool, len(pool.nodes)):
                inside = least <= shape.num_devices <= (most or shape.num_devices)
                if inside and _fits(generator, found, pool.pool, shape, StrategyRequest()):
                    return f"leave strategy to the planner: it then fits {shape.num_devices} devices of {pool.pool.id}"
    options = []
    for pool in pools:
        shapes = _shapes(pool.pool, len(pool.nodes) * MAX_GROWTH)
        for shape in sorted(shapes, key=lambda shape: (abs(shape.num_devices - least), shape.num_devices, shape.num_nodes)):
            if _fits(generator, found, pool.pool, shape, spec.strategy):
                options.append((abs(shape.num_devices - least), shape.num_devices, pool.pool.id))
                break
    if not options:
        return ""
    _, devices, pool_id = min(options)
    return f"{devices} devices of {pool_id}"


def _capacity_change(found: CandidateSet, generator: Generator, slots: Mapping[PoolId, PoolSlots]) -> str:
    """The most devices that are free now, if the unit could run on them; else what is missing."""
    request = found.request
    wanted = request.spec.devices
    pools = [slots[pool_id] for pool_id in sorted(slots) if requests_type(wanted, slots[pool_id].pool.device_type)]
    if not pools:
        return "leave devices.types open, or add a pool of that type"
    best = max(pools, key=lambda pool: (pool.num_free, pool.pool.id))
    if best.num_free == 0:
        return f"free devices in {best.pool.id}: none is free now"
    if best.num_free < wanted.min_devices:
        fewer = replace(request, spec=replace(request.spec, devices=replace(wanted, min_devices=1)))
        feasible = generator.candidates(fewer).feasible
        if feasible:
            most = max(entry.candidate.shape.num_devices for entry in feasible)
            missing = wanted.min_devices - best.num_free
            return f"devices: {most} instead of {wanted.min_devices}, or {missing} more free devices in {best.pool.id}"
        return f"{wanted.min_devices - best.num_free} more free devices in {best.pool.id}"
    return ""


def _shapes(pool: Pool, most_nodes: int) -> Iterator[Shape]:
    """Shapes of a pool in rising size, as if all devices were free."""
    yield from (Shape(num_nodes=1, devices_per_node=k) for k in range(1, pool.devices_per_node + 1))
    yield from (Shape(num_nodes=n, devices_per_node=pool.devices_per_node) for n in node_counts(most_nodes))


def _fits(generator: Generator, found: CandidateSet, pool: Pool, shape: Shape, strategy: StrategyRequest) -> bool:
    """Whether any legal strategy of the shape fits its devices."""
    spec = found.request.spec
    assert spec.model is not None
    assert spec.train is not None
    context = generator.context(pool, shape)
    question = Question(
        model=spec.model,
        train=spec.train,
        device_type=context.device_type,
        shape=shape,
        request=strategy,
        framework=TRIMTAB,
    )
    capacity = float(context.device_type.memory_bytes)
    return any(
        verdict(predict_memory(model=spec.model, train=spec.train, strategy=s, context=context), capacity)
        is not FitVerdict.DOES_NOT_FIT
        for s in strategy_space(question).legal
    )
