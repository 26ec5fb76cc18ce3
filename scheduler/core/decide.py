"""From a snapshot, a plan and the time to what is done next with one unit. Pure; the loop commits and acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from scheduler.core import attempts
from scheduler.core.policy import Policy
from scheduler.core.recheck import recheck
from scheduler.core.records import RecordKind
from scheduler.core.snapshot import Snapshot, Write
from scheduler.core.write import WriteBuilder
from trimtab.ids import AttemptRef
from trimtab.inventory import DeviceState, Inventory
from trimtab.job import Attempt, Job, Unit
from trimtab.jobspec import JobKind
from trimtab.lifecycle import UNIT_ENDS, AttemptState, EndReason, Intent, UnitEvent, UnitState
from trimtab.plan import Assignment, Plan, RejectionReason, Unplaced

NEVER_FITS = frozenset(
    {
        RejectionReason.ILLEGAL,
        RejectionReason.DOES_NOT_FIT,
        RejectionReason.OVER_COST,
        RejectionReason.OVER_TIME,
        RejectionReason.OVER_RATE,
        RejectionReason.MISSES_DEADLINE,
        RejectionReason.NOT_REQUESTED,
    }
)
"""Reasons that no freed device cures, given that the plan had all devices to choose from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What decisions look at besides the snapshot.

    ``progress_age_s``: seconds since a running attempt last got further; only attempts that report progress are in it.
    ``known_s``: seconds for which this process has known a live attempt. ``step_s``: predicted seconds per step.
    ``num_start_tries``: refused starts in a row. All of these are differences of a monotonic clock.
    """

    now: datetime
    policy: Policy
    inventory: Inventory | None = None
    plan: Plan | None = None
    progress_age_s: Mapping[AttemptRef, float] = field(default_factory=dict)
    known_s: Mapping[AttemptRef, float] = field(default_factory=dict)
    step_s: Mapping[AttemptRef, float] = field(default_factory=dict)
    num_start_tries: Mapping[AttemptRef, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placeable:
    """A queued unit that the plan places, for the loop to give a credential to and commit."""

    unit: Unit
    assignment: Assignment


def decide(snapshot: Snapshot, unit: Unit, around: Circumstances) -> Write | None:
    """The next write for a unit, apart from a start: stops, ends, moves between QUEUED and SUSPENDED. None: nothing to do."""
    job = snapshot.job(unit.job_id)
    if job is None:
        return None
    write = WriteBuilder(snapshot, now=around.now)
    attempt = snapshot.live_attempt(unit)
    if attempt is not None:
        _decide_live(write, job, attempt, around)
    elif unit.state not in UNIT_ENDS:
        _decide_idle(write, job, unit, around)
    return None if write.is_empty else write.build()


def _decide_live(write: WriteBuilder, job: Job, attempt: Attempt, around: Circumstances) -> None:
    if not attempt.claimed_by:
        tries = around.num_start_tries.get(attempt.ref, 0)
        age_s = around.known_s.get(attempt.ref, 0.0)
        if attempt.stop_requested_at is not None:
            attempts.give_up_start(write, attempt.ref, detail="stopped before its agent had claimed it")
            return
        if tries >= around.policy.max_start_tries:
            attempts.give_up_start(write, attempt.ref, detail=f"the executor refused to start it {tries} times")
            return
        if age_s > around.policy.claim_within_s:
            attempts.give_up_start(write, attempt.ref, detail=f"its agent did not claim it within {age_s:.0f} s")
            return
    if attempt.stop_requested_at is None:
        reason = _stop_reason(write.snapshot, job, attempt, around)
        if reason is not None:
            attempts.request_stop(write, attempt.ref, reason=reason, grace_s=job.spec.grace_s)


def _stop_reason(snapshot: Snapshot, job: Job, attempt: Attempt, around: Circumstances) -> str | None:
    wanted = attempts.wants(job.intent)
    if wanted is not None:
        return wanted
    if over_limits(snapshot, job, around.now) is not None:
        return attempts.OVER_BUDGET
    age_s = around.progress_age_s.get(attempt.ref)
    limit_s = stall_after_s(around.policy, around.step_s.get(attempt.ref))
    if attempt.state is AttemptState.RUNNING and job.spec.kind is JobKind.TRAIN and age_s is not None and age_s > limit_s:
        return attempts.STALLED
    return None


def stall_after_s(policy: Policy, step_s: float | None) -> float:
    """Seconds without progress that count as a stall: the policy's, or ``stall_steps`` predicted steps where that is longer."""
    return max(policy.stall_after_s, policy.stall_steps * step_s) if step_s is not None else policy.stall_after_s


def over_limits(snapshot: Snapshot, job: Job, now: datetime) -> str | None:
    """The sentence that says which hard limit on cost or hours the job has used up; None while it is within them."""
    tries = [a for unit_id in job.unit_ids if (unit := snapshot.unit(unit_id)) is not None for a in snapshot.attempts_of(unit)]
    limits = job.spec.limits
    cost_usd = sum(attempts.spent_usd(attempt, now) for attempt in tries)
    hours = sum(attempts.held_hours(attempt, now) for attempt in tries)
    if limits.max_cost_usd is not None and tries and cost_usd >= limits.max_cost_usd:
        return f"{cost_usd:.4f} USD are spent, limits.max_cost is {limits.max_cost_usd:.4f} USD"
    if limits.max_hours is not None and tries and hours >= limits.max_hours:
        return f"{hours:.3f} hours are used, limits.max_hours is {limits.max_hours:.3f}"
    return None


def _decide_idle(write: WriteBuilder, job: Job, unit: Unit, around: Circumstances) -> None:
    if job.intent is Intent.CANCEL:
        attempts.end_unit(write, unit, UnitEvent.CANCELLED, detail="cancelled")
        write.event("Cancelled", job_id=job.id)
        return
    hopeless = _hopeless(write.snapshot, job, unit, around)
    if hopeless is not None:
        reason, detail = hopeless
        attempts.end_unit(write, unit, UnitEvent.HOPELESS, reason=reason, detail=detail)
        write.guard(RecordKind.JOB, job.id)
        write.event("Hopeless", job_id=job.id, body={"reason": reason, "detail": detail})
    elif job.intent is Intent.SUSPEND and unit.state is UnitState.QUEUED:
        attempts.move_idle(write, unit, UnitEvent.SUSPENDED)
        write.event("Suspended", job_id=job.id)
    elif job.intent is Intent.RUN and unit.state is UnitState.SUSPENDED:
        attempts.move_idle(write, unit, UnitEvent.RESUMED)
        write.event("Resumed", job_id=job.id)


def _hopeless(snapshot: Snapshot, job: Job, unit: Unit, around: Circumstances) -> tuple[EndReason, str] | None:
    over = over_limits(snapshot, job, around.now)
    if over is not None:
        return EndReason.BUDGET, over
    hours = job.spec.deadline_hours
    if hours is not None and around.now > job.submitted_at + timedelta(hours=hours):
        return EndReason.DEADLINE, f"the deadline of {hours} hours after submission has passed"
    unplaced = unplaced_for(around.plan, unit)
    if job.intent is Intent.RUN and unplaced is not None and never_fits(snapshot, unplaced, around):
        return EndReason.INFEASIBLE, f"{unplaced.reason}: {unplaced.detail}"
    return None


def unplaced_for(plan: Plan | None, unit: Unit) -> Unplaced | None:
    """Why the plan leaves the unit out, if it does."""
    return None if plan is None else next((u for u in plan.unplaced if u.unit_id == unit.id), None)


def never_fits(snapshot: Snapshot, unplaced: Unplaced, around: Circumstances) -> bool:
    """Does the plan show that the unit can never run here? Only where every device was free to choose from when it was made."""
    if unplaced.reason not in NEVER_FITS or around.inventory is None or snapshot.owners():
        return False
    devices = [device for pool in around.inventory.pools for node in pool.nodes for device in node.devices]
    plan = around.plan
    idle_since_plan = plan is not None and not any(
        attempt.released_at is not None and attempt.released_at >= plan.made_at for attempt in snapshot.attempts()
    )
    return idle_since_plan and bool(devices) and all(device.state is DeviceState.FREE for device in devices)


def eligible(snapshot: Snapshot, unit: Unit, now: datetime) -> bool:
    """May the unit be planned and started now?"""
    job = snapshot.job(unit.job_id)
    if job is None or job.intent is not Intent.RUN or unit.state is not UnitState.QUEUED:
        return False
    return snapshot.live_attempt(unit) is None and not backing_off(job, unit, now)


def backing_off(job: Job, unit: Unit, now: datetime) -> bool:
    """Does the unit still wait after a failure? A wait beyond the longest of its policy shows a clock set back: it is over."""
    if unit.not_before is None:
        return False
    return timedelta(0) < unit.not_before - now <= timedelta(seconds=job.spec.retry.max_backoff_s)


def queue_order(snapshot: Snapshot, now: datetime) -> tuple[Unit, ...]:
    """Units that wait and may start, by priority, then age of the job."""
    waiting = [unit for unit in snapshot.units() if eligible(snapshot, unit, now)]

    def key(unit: Unit) -> tuple[int, datetime, str]:
        job = snapshot.job(unit.job_id)
        assert job is not None
        return -job.spec.priority, job.submitted_at, unit.id

    return tuple(sorted(waiting, key=key))


def placeable(snapshot: Snapshot, around: Circumstances) -> tuple[Placeable, ...]:
    """Queued units that the plan places on devices which are still free, in queue order. The loop commits one at a time."""
    plan = around.plan
    if plan is None or around.inventory is None or plan.expires_at <= around.now:
        return ()
    found = []
    for unit in queue_order(snapshot, around.now):
        assignment = plan.assignment(unit.id)
        if assignment is None:
            continue
        if recheck(snapshot, around.inventory, plan=plan, assignment=assignment, now=around.now) is None:
            found.append(Placeable(unit=unit, assignment=assignment))
    return tuple(found)
