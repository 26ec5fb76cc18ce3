"""An independent check of a finished plan, in integers where it counts. It shares no code with what makes plans.

``check_plan`` returns the faults, none for a plan that may be carried out. It reads the problem and the plan only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from trimtab.ids import OfferId, PoolId
from trimtab.inventory import DeviceState, Offer, Pool
from trimtab.job import DeviceRef
from trimtab.jobspec import JobKind, StrategyRequest
from trimtab.model import ModelSpec
from trimtab.plan import Assignment, FitVerdict, Plan, PlanningProblem, PlanRequest, SolveStatus
from trimtab.strategy import Strategy

SUM_TOLERANCE_FRAC = Fraction(1, 10**9)
"""Sums of floats may differ by their rounding, no more."""


def check_plan(problem: PlanningProblem, plan: Plan) -> tuple[str, ...]:
    """Every fault of a plan, each a sentence that names the unit and the numbers."""
    world = _World(problem)
    faults = list(_check_frame(problem, plan))
    faults += _check_units(problem, plan)
    known = [a for a in plan.assignments if a.unit_id in world.requests]
    faults += _check_devices(world, known)
    for assignment in known:
        faults += _check_assignment(world, assignment)
    faults += _check_offers(world, known)
    faults += _check_objective(plan)
    return tuple(faults)


class _World:
    """Look-ups made from the problem alone."""

    def __init__(self, problem: PlanningProblem) -> None:
        self.requests: Mapping[str, PlanRequest] = {request.unit_id: request for request in problem.requests}
        self.offers: Mapping[OfferId, Offer] = {offer.id: offer for offer in problem.inventory.offers}
        self.pools: Mapping[PoolId, Pool] = {pool.id: pool for pool in problem.inventory.pools}
        self.states: dict[DeviceRef, DeviceState] = {}
        for pool in problem.inventory.pools:
            for node in pool.nodes:
                for device in node.devices:
                    self.states[DeviceRef(pool_id=pool.id, node_id=node.id, index=device.index)] = device.state
        self.holders: dict[DeviceRef, PlanRequest] = {d: r for r in problem.requests for d in r.held}

    def exists(self, device: DeviceRef) -> bool:
        """Whether the inventory has the device; a pool without listed machines has nodes 0 to n - 1."""
        if device in self.states:
            return True
        pool = self.pools.get(device.pool_id)
        if pool is None or pool.nodes or not 0 <= device.index < pool.devices_per_node:
            return False
        named = [max(o.nodes_now, o.nodes_possible) for o in self.offers.values() if o.pool_id == pool.id]
        prefix, _, number = device.node_id.rpartition("-n")
        return prefix == pool.id and number.isdigit() and int(number) < max([pool.num_nodes, *named])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fixed:
    """A part of the strategy that the job fixed, and what the plan has."""

    name: str
    asked: object
    found: object


def _check_frame(problem: PlanningProblem, plan: Plan) -> Iterator[str]:
    if plan.basis_version != problem.basis_version:
        yield f"the plan is made from version {plan.basis_version}, the problem is of version {problem.basis_version}"
    if plan.expires_at <= plan.made_at:
        yield f"the plan expires at {plan.expires_at}, not after it is made ({plan.made_at})"


def _check_units(problem: PlanningProblem, plan: Plan) -> Iterator[str]:
    answered = Counter([a.unit_id for a in plan.assignments] + [u.unit_id for u in plan.unplaced])
    asked = {request.unit_id for request in problem.requests}
    for unit_id, count in sorted(answered.items()):
        if unit_id not in asked:
            yield f"{unit_id}: nobody asked for this unit"
        elif count > 1:
            yield f"{unit_id}: answered {count} times"
    for unit_id in sorted(asked - set(answered)):
        yield f"{unit_id}: neither placed nor left out with a reason"


def _check_devices(world: _World, assignments: list[Assignment]) -> Iterator[str]:
    users: dict[DeviceRef, str] = {}
    for assignment in assignments:
        for device in assignment.placement.devices:
            other = users.get(device)
            if other is not None:
                yield f"{device.key()}: given to {other} and to {assignment.unit_id}"
            users[device] = assignment.unit_id
            yield from _check_device(world, assignment, device)


def _check_device(world: _World, assignment: Assignment, device: DeviceRef) -> Iterator[str]:
    if not world.exists(device):
        yield f"{assignment.unit_id}: the inventory has no device {device.key()}"
        return
    holder = world.holders.get(device)
    if holder is not None and holder.unit_id != assignment.unit_id and holder.fixed:
        yield f"{assignment.unit_id}: {device.key()} belongs to {holder.unit_id}, which keeps its devices"
    state = world.states.get(device, DeviceState.FREE)
    own = holder is not None and holder.unit_id == assignment.unit_id and holder.fixed
    takeable = state is DeviceState.FREE or (state is DeviceState.ASSIGNED and holder is not None)
    if not takeable and not own:
        yield f"{assignment.unit_id}: {device.key()} is {state}"


def _check_assignment(world: _World, assignment: Assignment) -> Iterator[str]:
    request, candidate = world.requests[assignment.unit_id], assignment.candidate
    name = assignment.unit_id
    if candidate.unit_id != name:
        yield f"{name}: its candidate is that of {candidate.unit_id}"
    offer = world.offers.get(candidate.offer_id)
    if offer is None or offer.pool_id != candidate.pool_id:
        yield f"{name}: offer {candidate.offer_id} is not one of pool {candidate.pool_id}"
        return
    if any(device.pool_id != candidate.pool_id for device in assignment.placement.devices):
        yield f"{name}: devices outside pool {candidate.pool_id}"
    if request.fixed and request.held:
        if set(assignment.placement.devices) != set(request.held):
            yield f"{name}: keeps its devices, but the plan gives it others"
        return
    yield from _check_shape(assignment)
    yield from _check_request(request, assignment, offer, world.pools[offer.pool_id])
    if candidate.strategy is not None:
        yield from _check_strategy(request, assignment, candidate.strategy)
    elif request.spec.kind is JobKind.TRAIN:
        yield f"{name}: a training job without a strategy"
    yield from _check_money(request, assignment, offer)


def _check_shape(assignment: Assignment) -> Iterator[str]:
    shape, devices = assignment.candidate.shape, assignment.placement.devices
    if len(devices) != shape.num_devices:
        yield f"{assignment.unit_id}: {len(devices)} devices for a shape of {shape.num_devices}"
    per_node = Counter(device.node_id for device in devices)
    if sorted(per_node.values()) != [shape.devices_per_node] * shape.num_nodes:
        yield (
            f"{assignment.unit_id}: devices per node {sorted(per_node.values())}, "
            f"the shape is {shape.num_nodes} x {shape.devices_per_node}"
        )
    runs = 1 + sum(a.node_id != b.node_id for a, b in pairwise(devices))
    if runs != len(per_node):
        yield f"{assignment.unit_id}: ranks of one node are not next to each other"


def _check_request(request: PlanRequest, assignment: Assignment, offer: Offer, pool: Pool) -> Iterator[str]:
    wanted, count = request.spec.devices, len(assignment.placement.devices)
    if count < wanted.min_devices or (wanted.max_devices is not None and count > wanted.max_devices):
        yield f"{request.unit_id}: {count} devices, asked for {wanted.min_devices} to {wanted.max_devices or 'any number'}"
    if wanted.markets and offer.market not in wanted.markets:
        yield f"{request.unit_id}: market {offer.market}, asked for {', '.join(wanted.markets)}"
    if count and pool.devices_per_node < assignment.candidate.shape.devices_per_node:
        yield f"{request.unit_id}: {assignment.candidate.shape.devices_per_node} devices on a node of {pool.devices_per_node}"


def _check_strategy(request: PlanRequest, assignment: Assignment, strategy: Strategy) -> Iterator[str]:
    name, spec = request.unit_id, request.spec
    ranks = strategy.dp * strategy.fsdp * strategy.tp * strategy.cp * strategy.pp
    if ranks != len(assignment.placement.devices):
        yield f"{name}: {ranks} ranks on {len(assignment.placement.devices)} devices"
    if spec.model is None or spec.train is None:
        yield f"{name}: a strategy for a program of one's own"
        return
    samples = strategy.micro_batch * strategy.num_micro_batches * strategy.dp * strategy.fsdp
    if samples != spec.train.global_batch:
        yield f"{name}: {samples} samples per step, the global batch is {spec.train.global_batch}"
    if strategy.precision is not spec.train.precision:
        yield f"{name}: precision {strategy.precision}, asked for {spec.train.precision}"
    if assignment.candidate.shape.devices_per_node % strategy.tp:
        yield f"{name}: tensor ranks ({strategy.tp}) do not stay within a node of {assignment.candidate.shape.devices_per_node}"
    yield from _check_split(name, spec.model, strategy)
    for part in _fixed_parts(spec.strategy, strategy):
        if part.asked is not None and part.asked != part.found:
            yield f"{name}: {part.name} {part.found}, asked for {part.asked}"


def _check_split(name: str, model: ModelSpec, strategy: Strategy) -> Iterator[str]:
    layers, num_stages = strategy.stage_layers, strategy.pp * strategy.virtual_stages
    if layers and (sum(layers) != model.num_layers or min(layers) < 1 or len(layers) != num_stages):
        yield f"{name}: stage layers {layers} for {model.num_layers} layers and {num_stages} stages"
    for stack in model.stacks:
        for count in (stack.attention.num_heads, stack.attention.num_kv_heads, stack.feed_forward.hidden_size):
            if count % strategy.tp:
                yield f"{name}: tp {strategy.tp} does not divide {count} of the {stack.role}"


def _fixed_parts(asked: StrategyRequest, found: Strategy) -> tuple[_Fixed, ...]:
    names = ("dp", "fsdp", "tp", "pp", "micro_batch", "recompute")
    return tuple(_Fixed(name=name, asked=getattr(asked, name), found=getattr(found, name)) for name in names)


def _check_money(request: PlanRequest, assignment: Assignment, offer: Offer) -> Iterator[str]:
    name, candidate, limits = request.unit_id, assignment.candidate, request.spec.limits
    price = Fraction(offer.price_usd_per_device_hour) * len(assignment.placement.devices)
    if not _close(Fraction(candidate.price_usd_per_hour), price):
        yield f"{name}: ${candidate.price_usd_per_hour} per hour, the offer's price comes to ${float(price)}"
    if candidate.fit is FitVerdict.DOES_NOT_FIT:
        yield f"{name}: its strategy does not fit the memory of a device"
    if limits.max_usd_per_hour is not None and price > Fraction(limits.max_usd_per_hour) * (1 + SUM_TOLERANCE_FRAC):
        yield f"{name}: ${float(price)} per hour is over the limit of ${limits.max_usd_per_hour}"
    if candidate.strategy is None:
        return
    seconds = Fraction(candidate.total_s.value)
    cost = price * seconds / 3600
    if not _close(Fraction(candidate.cost_usd.value), cost):
        yield f"{name}: costs ${candidate.cost_usd.value}, price times time comes to ${float(cost)}"
    if limits.max_cost_usd is not None and cost > Fraction(limits.max_cost_usd) * (1 + SUM_TOLERANCE_FRAC):
        yield f"{name}: ${float(cost)} is over the limit of ${limits.max_cost_usd}"
    if limits.max_hours is not None and seconds > Fraction(limits.max_hours) * 3600 * (1 + SUM_TOLERANCE_FRAC):
        yield f"{name}: {float(seconds) / 3600} h is over the limit of {limits.max_hours} h"
    deadline = request.spec.deadline_hours
    if deadline is not None:
        ends = seconds + Fraction(request.waiting_s)
        if ends > Fraction(deadline) * 3600 * (1 + SUM_TOLERANCE_FRAC):
            yield f"{name}: ends after {float(ends) / 3600} h, the deadline is {deadline} h"


def _check_offers(world: _World, assignments: list[Assignment]) -> Iterator[str]:
    used: Counter[OfferId] = Counter()
    for assignment in assignments:
        request = world.requests[assignment.unit_id]
        if not (request.fixed and request.held):
            used[assignment.candidate.offer_id] += len(assignment.placement.devices)
    for offer_id, count in sorted(used.items()):
        offer = world.offers.get(offer_id)
        if offer is None:
            continue
        limit = max(offer.nodes_now, offer.nodes_possible) * world.pools[offer.pool_id].devices_per_node
        if count > limit:
            yield f"offer {offer_id}: {count} devices given, it has {limit}"


def _check_objective(plan: Plan) -> Iterator[str]:
    solve = plan.solve
    total = sum((Fraction(part.usd_per_hour) for part in plan.objective), Fraction(0))
    if not _close(total, Fraction(solve.objective_usd_per_hour)):
        yield f"the objective is {solve.objective_usd_per_hour} $/h, its parts come to {float(total)}"
    if solve.bound_usd_per_hour > solve.objective_usd_per_hour:
        yield f"the bound {solve.bound_usd_per_hour} is above the objective {solve.objective_usd_per_hour}"
    if solve.status is SolveStatus.OPTIMAL and not solve.gap_frac <= 1e-5:
        yield f"called optimal with a gap of {solve.gap_frac}"


def _close(left: Fraction, right: Fraction) -> bool:
    return abs(left - right) <= SUM_TOLERANCE_FRAC * max(abs(left), abs(right), Fraction(1, 10**6))
