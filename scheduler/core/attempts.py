"""What happens to an attempt and to its unit with it. Every move goes through the tables of ``trimtab.lifecycle``.

Each function adds to a ``WriteBuilder``; none reads a clock. ``exited`` and ``proven_dead`` end in ``_release``, the only place
where devices become free.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from scheduler.core.records import RecordKind
from scheduler.core.rows import CommandAction, LedgerEntry
from scheduler.core.snapshot import Snapshot
from scheduler.core.write import WriteBuilder
from trimtab.ids import AttemptRef, PlanId
from trimtab.job import Attempt, Unit
from trimtab.lifecycle import (
    QUARANTINE,
    UNIT_ENDS,
    AttemptEvent,
    AttemptState,
    EndReason,
    FailureKind,
    Intent,
    QueueReason,
    ReleaseReason,
    UnitEvent,
    UnitState,
    after_release,
    backoff_s,
    follow,
    move_attempt,
    move_unit,
    seen_again,
)
from trimtab.orders import ExitNote
from trimtab.plan import Assignment

STALLED = "stalled"
OVER_BUDGET = "over-budget"
CANCELLED = "cancelled"
SUSPENDED = "suspended"


def assign(
    write: WriteBuilder, unit: Unit, assignment: Assignment, *, plan_id: PlanId, number: int, credential_digest: str
) -> AttemptRef:
    """Assigned: a new attempt in STARTING, its devices and its start command, all in one step."""
    assert number == unit.attempt_number + 1, f"attempt {number} of {unit.id} after {unit.attempt_number}"
    ref = AttemptRef(unit_id=unit.id, number=number)
    candidate = assignment.candidate
    attempt = Attempt(
        ref=ref,
        job_id=unit.job_id,
        state=move_attempt(None, AttemptEvent.ASSIGNED),
        offer_id=candidate.offer_id,
        price_usd_per_hour=candidate.price_usd_per_hour,
        devices=assignment.placement.devices,
        strategy=candidate.strategy,
        plan_id=plan_id,
        credential_digest=credential_digest,
        assigned_at=write.now,
    )
    write.put_attempt(attempt)
    write.put_unit(
        replace(
            unit,
            state=move_unit(unit.state, UnitEvent.ASSIGNED),
            attempt_number=number,
            queue_reason=None,
            detail="",
            not_before=None,
        )
    )
    for device in attempt.devices:
        write.own(device.key(), ref)
    write.command(ref, CommandAction.START)
    write.guard(RecordKind.JOB, unit.job_id)
    body = {"offer": candidate.offer_id, "devices": [device.key() for device in attempt.devices], "plan": plan_id}
    write.event("Assigned", job_id=unit.job_id, attempt=ref, body=body)
    return ref


def started(write: WriteBuilder, ref: AttemptRef) -> None:
    """The executor took the start command."""
    write.drop_command(ref, CommandAction.START)
    write.event("StartSent", job_id=ref.job_id, attempt=ref)


def claimed(write: WriteBuilder, ref: AttemptRef, agent: str) -> None:
    """An agent owns the attempt now."""
    attempt = write.attempt(ref)
    claims = [*filter(None, attempt.claimed_by.split("\n")), agent]
    write.put_attempt(replace(attempt, claimed_by="\n".join(claims)))
    write.event("Claimed", job_id=ref.job_id, attempt=ref, body={"agent": agent})


def ready(write: WriteBuilder, ref: AttemptRef) -> None:
    """All ranks run."""
    attempt = write.attempt(ref)
    state = move_attempt(attempt.state, AttemptEvent.READY)
    _put_followed(write, replace(attempt, state=state, ready_at=write.now))
    write.event("Ready", job_id=ref.job_id, attempt=ref)


def request_stop(write: WriteBuilder, ref: AttemptRef, *, reason: str, grace_s: float) -> None:
    """Ask the attempt to stop. One that no agent has claimed is released at once: later claims are refused, so nothing runs."""
    attempt = write.attempt(ref)
    if attempt.stop_requested_at is not None:
        return
    asked = replace(attempt, stop_requested_at=write.now, stop_reason=reason)
    if attempt.state is not AttemptState.UNKNOWN:
        asked = replace(asked, state=move_attempt(attempt.state, AttemptEvent.STOP_REQUESTED))
    _put_followed(write, asked)
    write.drop_command(ref, CommandAction.START)
    write.command(ref, CommandAction.STOP, grace_s=grace_s)
    write.event("StopRequested", job_id=ref.job_id, attempt=ref, body={"reason": reason})
    if not asked.claimed_by:
        detail = "stopped before its agent had claimed it"
        if asked.state is AttemptState.UNKNOWN:
            proven_dead(write, ref, detail=detail)
        else:
            exited(write, ref, ExitNote(reason=ReleaseReason.STOPPED, detail=detail))


def give_up_start(write: WriteBuilder, ref: AttemptRef, *, detail: str) -> None:
    """The attempt never came to life and no agent has claimed it: closing it to claims is the proof that nothing runs."""
    attempt = write.attempt(ref)
    assert not attempt.claimed_by, f"{ref} is claimed by {attempt.claimed_by}"
    if attempt.state is AttemptState.UNKNOWN:
        proven_dead(write, ref, detail=detail)
    else:
        exited(write, ref, ExitNote(reason=ReleaseReason.FAILED, failure=FailureKind.START, detail=detail))


def lost_sight(write: WriteBuilder, ref: AttemptRef, *, detail: str) -> None:
    """No sign of the attempt for too long. Nothing is stopped and nothing is freed."""
    attempt = write.attempt(ref)
    state = move_attempt(attempt.state, AttemptEvent.LOST_SIGHT)
    _put_followed(write, replace(attempt, state=state, lost_at=write.now, state_before_lost=attempt.state))
    write.event("LostSight", job_id=ref.job_id, attempt=ref, body={"detail": detail})


def sight_regained(write: WriteBuilder, ref: AttemptRef) -> None:
    """SeenAgain: back to the state before, or STOPPING if a stop was asked meanwhile."""
    attempt = write.attempt(ref)
    assert attempt.state is AttemptState.UNKNOWN, f"{ref} is in {attempt.state}"
    assert attempt.state_before_lost is not None, f"{ref} was lost from nowhere"
    state = seen_again(before=attempt.state_before_lost, stop_requested=attempt.stop_requested_at is not None)
    _put_followed(write, replace(attempt, state=state, lost_at=None, state_before_lost=None))
    write.event("SeenAgain", job_id=ref.job_id, attempt=ref)


def exited(write: WriteBuilder, ref: AttemptRef, note: ExitNote) -> None:
    """The agent says that all ranks ended; where sight had been lost it is regained first."""
    if write.attempt(ref).state is AttemptState.UNKNOWN:
        sight_regained(write, ref)
    attempt = write.attempt(ref)
    reason, failure = classify(attempt, note)
    state = move_attempt(attempt.state, AttemptEvent.EXITED)
    _release(write, attempt, state, reason=reason, failure=failure, detail=note.detail)
    body = {"reason": reason, "failure": failure, "rank": note.rank, "exit_code": note.exit_code, "detail": note.detail}
    write.event("Exited", job_id=ref.job_id, attempt=ref, body=body)


def proven_dead(write: WriteBuilder, ref: AttemptRef, *, detail: str, vouched_by: str = "") -> None:
    """Nothing of the attempt runs any more, and nobody knows how it ended. One that was asked to stop counts as stopped."""
    if write.attempt(ref).state is not AttemptState.UNKNOWN:
        lost_sight(write, ref, detail=detail)
    attempt = write.attempt(ref)
    state = move_attempt(attempt.state, AttemptEvent.PROVEN_DEAD)
    reason, failure = classify(attempt, ExitNote(reason=ReleaseReason.LOST, failure=FailureKind.LOST))
    _release(write, attempt, state, reason=reason, failure=failure, detail=detail)
    body = {"detail": detail, "vouched_by": vouched_by, "reason": reason}
    write.event("ProvenDead", job_id=ref.job_id, attempt=ref, body=body)


def quarantine(write: WriteBuilder, unit: Unit, *, why: str) -> None:
    """Set a unit aside as FAILED. Its live attempt is asked to stop and keeps its devices until proof of its death."""
    state, end_reason = QUARANTINE
    write.put_unit(replace(unit, state=state, end_reason=end_reason, detail=why, queue_reason=None))
    _end_job(write, unit, state)
    attempt = write.snapshot.live_attempt(unit)
    if attempt is not None and attempt.stop_requested_at is None:
        write.put_attempt(replace(attempt, stop_requested_at=write.now, stop_reason="quarantined"))
        write.drop_command(attempt.ref, CommandAction.START)
        write.command(attempt.ref, CommandAction.STOP)


def classify(attempt: Attempt, note: ExitNote) -> tuple[ReleaseReason, FailureKind | None]:
    """Why an attempt is released, from what its agent (or the proof of death) says and what was asked of it.

    What ended after it was asked to stop is stopped, whatever its exit code (a program may answer SIGTERM in many ways); but a
    stalled one has failed. What says that it was stopped and was not asked to is lost: somebody else stopped it.
    """
    if note.reason is ReleaseReason.COMPLETED:
        return ReleaseReason.COMPLETED, None
    if attempt.stop_requested_at is not None:
        if attempt.stop_reason == STALLED:
            return ReleaseReason.FAILED, FailureKind.STALLED
        return ReleaseReason.STOPPED, None
    if note.reason is ReleaseReason.FAILED:
        return ReleaseReason.FAILED, note.failure or FailureKind.EXIT_CODE
    return ReleaseReason.LOST, FailureKind.LOST


def tries_in_a_row(snapshot: Snapshot, unit: Unit) -> int:
    """Attempts at the end of the unit's history that failed or were lost without a checkpoint of their own."""
    published = snapshot.checkpoint(unit.job_id)
    count = 0
    for attempt in reversed(snapshot.attempts_of(unit)):
        if attempt.state is not AttemptState.RELEASED:
            continue
        if attempt.release_reason not in (ReleaseReason.FAILED, ReleaseReason.LOST):
            break
        if published is not None and published.attempt == attempt.ref:
            break
        count += 1
    return count


def spent_usd(attempt: Attempt, now: datetime) -> float:
    """Cost of an attempt until ``now`` or its release."""
    return attempt.price_usd_per_hour * held_hours(attempt, now)


def held_hours(attempt: Attempt, now: datetime) -> float:
    """Hours for which the attempt has held its devices; never negative, also where the clock was set back."""
    end = attempt.released_at or now
    return max(0.0, (end - attempt.assigned_at).total_seconds() / 3600.0)


def _put_followed(write: WriteBuilder, attempt: Attempt) -> None:
    write.put_attempt(attempt)
    unit = write.unit(attempt.ref.unit_id)
    state = follow(attempt.state)
    if state is not None and unit.state not in UNIT_ENDS:
        write.put_unit(replace(unit, state=state))


def _release(
    write: WriteBuilder,
    attempt: Attempt,
    state: AttemptState,
    *,
    reason: ReleaseReason,
    failure: FailureKind | None,
    detail: str,
) -> None:
    now = write.now
    released = replace(attempt, state=state, released_at=now, release_reason=reason, failure_kind=failure, exit_detail=detail)
    released = replace(released, cost_usd=spent_usd(released, now))
    write.put_attempt(released)
    for device in attempt.devices:
        write.free(device.key(), attempt.ref)
    write.drop_command(attempt.ref, CommandAction.START)
    write.drop_command(attempt.ref, CommandAction.STOP)
    entry = LedgerEntry(
        attempt=attempt.ref,
        job_id=attempt.job_id,
        hours=held_hours(released, now),
        price_usd_per_hour=attempt.price_usd_per_hour,
        cost_usd=released.cost_usd,
        released_at=now,
    )
    write.put(RecordKind.LEDGER, str(attempt.ref), entry)
    _after_release(write, released)


def _after_release(write: WriteBuilder, attempt: Attempt) -> None:
    unit, job = write.unit(attempt.ref.unit_id), write.job(attempt.job_id)
    if unit.state in UNIT_ENDS:
        return
    assert attempt.release_reason is not None
    num_failures = unit.num_failures + (attempt.release_reason is ReleaseReason.FAILED)
    num_losses = unit.num_losses + (attempt.release_reason is ReleaseReason.LOST)
    state, end_reason = after_release(
        attempt.release_reason, job.intent, num_failures=num_failures, num_losses=num_losses, retry=job.spec.retry
    )
    unit = replace(unit, state=state, end_reason=end_reason, num_failures=num_failures, num_losses=num_losses)
    if state is UnitState.QUEUED:
        unit = _queue_again(write, unit, attempt)
    else:
        unit = replace(unit, queue_reason=None, not_before=None, detail=attempt.exit_detail)
    write.guard(RecordKind.JOB, job.id)
    write.put_unit(unit)
    _end_job(write, unit, state)


def _queue_again(write: WriteBuilder, unit: Unit, attempt: Attempt) -> Unit:
    now = write.now
    if attempt.release_reason not in (ReleaseReason.FAILED, ReleaseReason.LOST):
        return replace(unit, queue_reason=QueueReason.PLANNING, queued_at=now, not_before=None, detail="")
    published = write.snapshot.checkpoint(unit.job_id)
    advanced = published is not None and published.attempt == attempt.ref
    tries = 1 if advanced else tries_in_a_row(write.snapshot, unit) + 1
    wait_s = backoff_s(write.job(unit.job_id).spec.retry, tries)
    detail = f"attempt {attempt.ref.number} {attempt.release_reason}: {attempt.exit_detail or attempt.failure_kind}"
    not_before = now + timedelta(seconds=wait_s)
    return replace(unit, queue_reason=QueueReason.BACK_OFF, queued_at=now, not_before=not_before, detail=detail)


def end_unit(write: WriteBuilder, unit: Unit, event: UnitEvent, *, reason: EndReason | None = None, detail: str = "") -> None:
    """A unit without a live attempt ends."""
    state = move_unit(unit.state, event)
    write.put_unit(replace(unit, state=state, end_reason=reason, detail=detail, queue_reason=None, not_before=None))
    _end_job(write, unit, state)


def move_idle(write: WriteBuilder, unit: Unit, event: UnitEvent) -> None:
    """A unit without a live attempt goes between QUEUED and SUSPENDED."""
    state = move_unit(unit.state, event)
    queued = state is UnitState.QUEUED
    write.put_unit(
        replace(
            unit,
            state=state,
            detail="",
            queue_reason=QueueReason.PLANNING if queued else None,
            queued_at=write.now if queued else unit.queued_at,
        )
    )
    write.guard(RecordKind.JOB, unit.job_id)


def _end_job(write: WriteBuilder, unit: Unit, state: UnitState) -> None:
    job = write.job(unit.job_id)
    others = [write.unit(other).state for other in job.unit_ids if other != unit.id]
    if state in UNIT_ENDS and all(other in UNIT_ENDS for other in others) and job.ended_at is None:
        write.put_job(replace(job, ended_at=write.now))


def wants(intent: Intent) -> str | None:
    """The stop reason that an intent asks for; None for RUN."""
    return {Intent.CANCEL: CANCELLED, Intent.SUSPEND: SUSPENDED}.get(intent)
