"""Rows and notes as people see them: job views, events, and the reason why a job is where it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from scheduler.core import decide, recheck
from scheduler.core.attempts import spent_usd
from scheduler.core.snapshot import Snapshot
from scheduler.ports import StoredEvent
from trimtab.estimate import Estimate
from trimtab.ids import AttemptRef
from trimtab.inventory import DeviceState, Inventory
from trimtab.job import Attempt, Job, JobState, Unit, job_state
from trimtab.jobspec import JobKind
from trimtab.lifecycle import UNIT_ENDS, AttemptState, EndReason, Intent, QueueReason, UnitState
from trimtab.orders import Progress
from trimtab.plan import Candidate, Plan
from trimtab.views import AttemptView, EventView, Explanation, JobView


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What views look at besides the rows."""

    now: datetime
    plan: Plan | None
    inventory: Inventory | None
    progress: Callable[[AttemptRef], tuple[Progress | None, datetime | None]]
    candidate: Callable[[Attempt], Candidate | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A typed reason, its sentence, and for a waiting job who holds what it needs and what would help."""

    code: str
    detail: str = ""
    holders: tuple[str, ...] = ()
    smallest_change: str = ""


def unit_of(snapshot: Snapshot, job: Job) -> Unit:
    """The unit of a job; a stand-in that says so where its row cannot be read."""
    unit = snapshot.unit(job.unit_ids[0])
    if unit is not None:
        return unit
    detail = f"the row of {job.unit_ids[0]} cannot be read and is set aside"
    return Unit(id=job.unit_ids[0], job_id=job.id, state=UnitState.FAILED, end_reason=EndReason.QUARANTINED, detail=detail)


def state_of(snapshot: Snapshot, job: Job) -> JobState:
    """The shown state of a job."""
    unit = unit_of(snapshot, job)
    newest = snapshot.newest_attempt(unit)
    return job_state(job.intent, (unit,), (newest,) if newest is not None else ())


def eta_s(progress: Progress | None, predicted_step_s: Estimate | None, total_s: Estimate | None) -> float | None:
    """Seconds left: by the measured step time once there is one, by the predicted one before; None where nothing is known."""
    if progress is None:
        return total_s.value if total_s is not None else None
    left = max(0, progress.num_steps - progress.step)
    if progress.step_s > 0:
        return left * progress.step_s
    return left * predicted_step_s.value if predicted_step_s is not None else None


def job_view(snapshot: Snapshot, job: Job, notes: Notes) -> JobView:
    """One job as a person sees it."""
    unit = unit_of(snapshot, job)
    tries = snapshot.attempts_of(unit)
    newest = tries[-1] if tries else None
    live = newest if newest is not None and newest.state is not AttemptState.RELEASED else None
    progress, observed_at = notes.progress(newest.ref) if newest is not None else (None, None)
    candidate = notes.candidate(newest) if newest is not None else None
    step_s = candidate.step_s if candidate is not None and job.spec.kind is JobKind.TRAIN else None
    total_s = candidate.total_s if candidate is not None and job.spec.kind is JobKind.TRAIN else None
    checkpoint = snapshot.checkpoint(job.id)
    state = state_of(snapshot, job)
    why = reason_of(snapshot, job, notes)
    return JobView(
        id=job.id,
        name=job.spec.name,
        kind=job.spec.kind,
        project=job.spec.project,
        state=state,
        reason=why.code,
        detail=why.detail,
        intent=job.intent,
        priority=job.spec.priority,
        submitted_at=job.submitted_at,
        submitted_by=job.submitted_by,
        ended_at=job.ended_at,
        plan_id=newest.plan_id if newest is not None else job.plan_id,
        attempts=tuple(_attempt_view(attempt, notes.now) for attempt in tries),
        progress=progress,
        predicted_step_s=step_s,
        predicted_memory=candidate.memory if candidate is not None else (),
        checkpoint_step=checkpoint.note.step if checkpoint is not None else None,
        eta_s=eta_s(progress, step_s, total_s) if live is not None else None,
        cost_usd=sum(spent_usd(attempt, notes.now) for attempt in tries),
        num_failures=unit.num_failures,
        num_losses=unit.num_losses,
        observed_at=observed_at,
        summary=dict(newest.summary) if newest is not None else {},
    )


def _attempt_view(attempt: Attempt, now: datetime) -> AttemptView:
    pools = tuple(dict.fromkeys(device.pool_id for device in attempt.devices))
    return AttemptView(
        ref=attempt.ref,
        state=attempt.state,
        devices=tuple(device.key() for device in attempt.devices),
        pool=", ".join(pools),
        strategy=attempt.strategy.label() if attempt.strategy is not None else "",
        price_usd_per_hour=attempt.price_usd_per_hour,
        assigned_at=attempt.assigned_at,
        ready_at=attempt.ready_at,
        released_at=attempt.released_at,
        release_reason=attempt.release_reason,
        failure_kind=attempt.failure_kind,
        exit_detail=attempt.exit_detail,
        cost_usd=spent_usd(attempt, now),
    )


def event_view(event: StoredEvent) -> EventView:
    """One event as a person sees it; how the states moved is inside its body."""
    draft = event.draft
    return EventView(
        number=event.number, kind=draft.kind, at=draft.at, job_id=draft.job_id, attempt=draft.attempt, body=draft.body
    )


def explain(snapshot: Snapshot, job: Job, notes: Notes) -> Explanation:
    """Why the job is where it is."""
    why = reason_of(snapshot, job, notes)
    return Explanation(
        job_id=job.id,
        state=state_of(snapshot, job),
        reason=why.code,
        detail=why.detail,
        holders=why.holders,
        smallest_change=why.smallest_change,
    )


def reason_of(snapshot: Snapshot, job: Job, notes: Notes) -> Reason:
    """The binding reason."""
    unit = unit_of(snapshot, job)
    attempt = snapshot.live_attempt(unit)
    if unit.state in UNIT_ENDS:
        return _ended(unit)
    if attempt is not None:
        return _living(attempt)
    if unit.state is UnitState.SUSPENDED:
        return Reason(code="suspended", detail="the owner suspended it", smallest_change="resume the job")
    return _waiting(snapshot, job, unit, notes)


def _ended(unit: Unit) -> Reason:
    if unit.state is UnitState.FAILED and unit.end_reason is not None:
        return Reason(code=unit.end_reason.value, detail=unit.detail)
    return Reason(code=unit.state.value.lower(), detail=unit.detail)


def _living(attempt: Attempt) -> Reason:
    if attempt.state is AttemptState.UNKNOWN:
        since = attempt.lost_at.isoformat() if attempt.lost_at is not None else "some time"
        return Reason(
            code="lost-sight",
            detail=f"{attempt.ref} is out of sight since {since}; its devices stay reserved until it is seen or proven dead",
            holders=tuple(device.key() for device in attempt.devices),
            smallest_change=f"if you know that nothing of {attempt.ref} runs any more, vouch for its death",
        )
    if attempt.stop_requested_at is not None:
        return Reason(code="stopping", detail=f"{attempt.ref} was asked to stop: {attempt.stop_reason}")
    code = {AttemptState.STARTING: "starting", AttemptState.RUNNING: "running"}[attempt.state]
    claimed = "" if attempt.claimed_by else "; its agent has not called yet"
    return Reason(code=code, detail=f"{attempt.ref} on {len(attempt.devices)} devices{claimed}")


def _waiting(snapshot: Snapshot, job: Job, unit: Unit, notes: Notes) -> Reason:
    if job.intent is not Intent.RUN:
        return Reason(code="waiting", detail=f"the intent is {job.intent}")
    over = decide.over_limits(snapshot, job, notes.now)
    if over is not None:
        return Reason(code=QueueReason.BUDGET.value, detail=over, smallest_change="raise the limit and submit again")
    if unit.not_before is not None and decide.backing_off(job, unit, notes.now):
        left_s = (unit.not_before - notes.now).total_seconds()
        detail = f"tried again in {left_s:.0f} s, at {unit.not_before.isoformat()}; {unit.detail}"
        return Reason(code=QueueReason.BACK_OFF.value, detail=detail, smallest_change="wait")
    unplaced = decide.unplaced_for(notes.plan, unit)
    holders = _holders(snapshot, job, notes)
    if unplaced is not None:
        change = unplaced.smallest_change or ("wait until a holder ends" if holders else "")
        return Reason(code=unplaced.reason.value, detail=unplaced.detail, holders=holders, smallest_change=change)
    return _placed_but_waiting(snapshot, unit, notes, holders)


def _placed_but_waiting(snapshot: Snapshot, unit: Unit, notes: Notes, holders: tuple[str, ...]) -> Reason:
    assignment = notes.plan.assignment(unit.id) if notes.plan is not None else None
    if assignment is None or notes.plan is None or notes.inventory is None:
        return Reason(code=QueueReason.PLANNING.value, detail="the next plan will consider it", smallest_change="wait")
    refused = recheck.recheck(snapshot, notes.inventory, plan=notes.plan, assignment=assignment, now=notes.now)
    if refused is None:
        detail = "it is placed and starts with the next cycle"
        return Reason(code=QueueReason.WAITING.value, detail=detail, smallest_change="wait")
    detail = f"plan {notes.plan.id} placed it, but {refused}; the next plan will consider it"
    return Reason(code=QueueReason.WAITING.value, detail=detail, holders=holders, smallest_change="wait")


def _holders(snapshot: Snapshot, job: Job, notes: Notes) -> tuple[str, ...]:
    """Who has devices of the types that the job asks for, and for how long still, as far as that is known."""
    if notes.inventory is None:
        return ()
    wanted = {
        pool.id for pool in notes.inventory.pools if not job.spec.devices.types or pool.device_type in job.spec.devices.types
    }
    counts: dict[tuple[AttemptRef, str], int] = {}
    for key, owner in sorted(snapshot.owners().items()):
        pool_id = key.split("/", 1)[0]
        if pool_id in wanted:
            counts[owner, pool_id] = counts.get((owner, pool_id), 0) + 1
    ours = [_holder_line(snapshot, owner, pool_id, count, notes) for (owner, pool_id), count in counts.items()]
    others = [
        f"{device.used_by or 'processes that are not ours'}: {pool.id}/{node.id}/{device.index}"
        for pool in notes.inventory.pools
        if pool.id in wanted
        for node in pool.nodes
        for device in node.devices
        if device.state is DeviceState.BUSY_ELSEWHERE
    ]
    return tuple(ours + others)


def _holder_line(snapshot: Snapshot, owner: AttemptRef, pool_id: str, count: int, notes: Notes) -> str:
    holder, attempt = snapshot.job(owner.job_id), snapshot.attempt(owner)
    name = holder.spec.name if holder is not None else owner.job_id
    devices = "1 device" if count == 1 else f"{count} devices"
    until = ""
    if attempt is not None:
        progress, _ = notes.progress(owner)
        candidate = notes.candidate(attempt)
        left_s = eta_s(progress, candidate.step_s if candidate else None, candidate.total_s if candidate else None)
        if left_s is not None and holder is not None and holder.spec.kind is JobKind.TRAIN:
            start = notes.now if progress is not None else attempt.assigned_at
            until = f", until about {(start + timedelta(seconds=left_s)).isoformat(timespec='seconds')}"
    return f"{name} ({owner.job_id}): {devices} of {pool_id}{until}"


def count_states(snapshot: Snapshot) -> Mapping[str, int]:
    """Number of jobs in each shown state."""
    counts: dict[str, int] = {}
    for job in snapshot.jobs():
        state = state_of(snapshot, job).value
        counts[state] = counts.get(state, 0) + 1
    return counts
