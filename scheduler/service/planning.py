"""The planning loop: when to ask for a plan, what to tell the planner, what becomes of its answer. It never waits."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from scheduler.core.decide import eligible, queue_order
from scheduler.core.snapshot import Snapshot
from scheduler.ports import PlanOutcome, PlanOutcomeKind
from scheduler.service.measuring import known_measurements
from scheduler.service.wiring import ControlPorts, ControlSettings
from trimtab.inventory import Device, DeviceState, Inventory, Node, Pool
from trimtab.job import DeviceRef, Job, Unit
from trimtab.plan import Plan, PlanningProblem, PlanRequest

_LOG = logging.getLogger("trimtab.planning")
_FIRST_RETRY_S = 2.0
_LONGEST_RETRY_S = 60.0

Signature = tuple[object, ...]


@dataclass(slots=True)
class _Round:
    ticket: str
    signature: Signature


class PlanningLoop:
    """Debounced and single-threaded: ``step`` is called by the reconcile loop and returns at once.

    A plan is asked for when what could be placed changed since the last one: a unit became eligible, a device came or went, the
    plan expired. A round that failed leaves the last good plan in force and is tried again, later each time.
    """

    def __init__(self, ports: ControlPorts, settings: ControlSettings) -> None:
        self._ports = ports
        self._settings = settings
        self._round: _Round | None = None
        self._planned: Signature | None = None
        self._wanted_s: float | None = None
        self._not_before_s = 0.0
        self._num_failures = 0
        self.plan: Plan | None = None
        self.last_failure: str = ""

    @property
    def in_flight(self) -> bool:
        """Is a round running?"""
        return self._round is not None

    def has_answer(self) -> bool:
        """Has the running round ended? Takes the answer; ``step`` works with it."""
        if self._round is None:
            return False
        outcome = self._ports.planner.poll(self._round.ticket)
        if outcome is None:
            return False
        self._take(outcome)
        return True

    def step(self, snapshot: Snapshot, inventory: Inventory) -> None:
        """Take an answer that is there, and ask again if need be."""
        self.has_answer()
        clock = self._ports.clock
        now, now_s = clock.now(), clock.monotonic()
        if self.plan is not None and self.plan.expires_at <= now:
            self.plan, self._planned = None, None
        wanted = signature(snapshot, inventory, now)
        if wanted is None or wanted == self._planned:
            self._wanted_s = None
            return
        if self._wanted_s is None:
            self._wanted_s = now_s
        ripe = now_s - self._wanted_s >= self._settings.plan_debounce_s and now_s >= self._not_before_s
        if self._round is None and ripe:
            problem = build_problem(snapshot, inventory, ports=self._ports, settings=self._settings, now=now)
            self._round = _Round(ticket=self._ports.planner.submit(problem), signature=wanted)
            self._wanted_s = None
            self._ports.telemetry.count("planning_rounds")

    def forget_plan(self) -> None:
        """What plans are made from changed: ask again when something waits."""
        self._planned = None

    def due_in_s(self) -> float:
        """Seconds until ``step`` may have something to do of itself; infinite when only news can give it something."""
        if self._wanted_s is None:
            return float("inf")
        now_s = self._ports.clock.monotonic()
        return max(0.0, self._wanted_s + self._settings.plan_debounce_s - now_s, self._not_before_s - now_s)

    def _take(self, outcome: PlanOutcome) -> None:
        assert self._round is not None
        done, self._round = self._round, None
        self._ports.telemetry.count("plans", outcome=outcome.kind)
        if outcome.kind is PlanOutcomeKind.PLANNED and outcome.plan is not None:
            self.plan, self._planned = outcome.plan, done.signature
            self._num_failures, self.last_failure = 0, ""
            return
        self._num_failures += 1
        wait_s = min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2.0 ** min(self._num_failures - 1, 10))
        self._not_before_s = self._ports.clock.monotonic() + wait_s
        self.last_failure = f"planning {outcome.kind}: {outcome.detail}"
        _LOG.warning("%s; next try in %.0f s", self.last_failure, wait_s)


def signature(snapshot: Snapshot, inventory: Inventory, now: datetime) -> Signature | None:
    """What a plan depends on; None when no unit waits for one."""
    waiting = tuple(unit.id for unit in queue_order(snapshot, now))
    if not waiting:
        return None
    states = tuple(
        (pool.id, node.id, device.index, device.state)
        for pool in inventory.pools
        for node in pool.nodes
        for device in node.devices
    )
    offers = tuple((offer.id, offer.price_usd_per_device_hour) for offer in inventory.offers)
    return waiting, states, offers


def with_owners(inventory: Inventory, snapshot: Snapshot) -> Inventory:
    """The inventory with the devices marked that belong to our attempts, whatever the executor thinks of them."""
    owners = snapshot.owners()

    def mark(pool: Pool, node: Node, device: Device) -> Device:
        owner = owners.get(DeviceRef(pool_id=pool.id, node_id=node.id, index=device.index).key())
        if owner is not None:
            return replace(device, state=DeviceState.ASSIGNED, used_by=str(owner))
        if device.state is DeviceState.ASSIGNED:
            return replace(device, state=DeviceState.FREE, used_by="")
        return device

    pools = tuple(
        replace(
            pool,
            nodes=tuple(replace(node, devices=tuple(mark(pool, node, d) for d in node.devices)) for node in pool.nodes),
        )
        for pool in inventory.pools
    )
    return replace(inventory, pools=pools)


def build_problem(
    snapshot: Snapshot,
    inventory: Inventory,
    *,
    ports: ControlPorts,
    settings: ControlSettings,
    now: datetime,
    alone: PlanRequest | None = None,
) -> PlanningProblem:
    """The planner's question: running units keep what they have, waiting ones in queue order; or ``alone`` beside what runs."""
    running = tuple(request for unit in snapshot.units() if (request := _running_request(snapshot, unit)) is not None)
    waiting = (alone,) if alone is not None else tuple(_request(snapshot, u, now) for u in queue_order(snapshot, now))
    return PlanningProblem(
        basis_version=snapshot.last_event,
        now=now,
        inventory=inventory,
        requests=running + waiting,
        probes=tuple(ports.probes.reports()),
        measurements=known_measurements(ports),
        time_limit_s=settings.plan_time_limit_s,
        expires_after_s=settings.plan_expires_after_s,
    )


def _running_request(snapshot: Snapshot, unit: Unit) -> PlanRequest | None:
    attempt, job = snapshot.live_attempt(unit), snapshot.job(unit.job_id)
    if attempt is None or job is None:
        return None
    return PlanRequest(
        unit_id=unit.id,
        job_id=unit.job_id,
        spec=job.spec,
        held=attempt.devices,
        live_attempt=attempt.ref,
        strategy=attempt.strategy,
        fixed=True,
    )


def _request(snapshot: Snapshot, unit: Unit, now: datetime) -> PlanRequest:
    job = snapshot.job(unit.job_id)
    assert isinstance(job, Job), f"no job {unit.job_id}"
    assert eligible(snapshot, unit, now), f"{unit.id} is not eligible"
    newest = snapshot.newest_attempt(unit)
    return PlanRequest(
        unit_id=unit.id,
        job_id=unit.job_id,
        spec=job.spec,
        strategy=newest.strategy if newest is not None else None,
        waiting_s=max(0.0, (now - job.submitted_at) / timedelta(seconds=1)),
    )
