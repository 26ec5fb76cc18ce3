"""What an owner asks of a job, as guarded writes: submit, cancel, suspend, resume, and an operator's word for a death."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from scheduler.core import attempts
from scheduler.core.records import RecordKind
from scheduler.core.rows import IdempotencyEntry
from scheduler.core.snapshot import Snapshot, Write
from scheduler.core.write import WriteBuilder
from trimtab.errors import Problem
from trimtab.ids import AttemptRef, JobId, PlanId, unit_id
from trimtab.job import Job, Unit
from trimtab.jobspec import JobSpec, Trainer
from trimtab.lifecycle import UNIT_ENDS, AttemptState, Intent, UnitEvent, UnitState
from trimtab.plan import Assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A job to accept. ``idempotency_id`` is the row id ``<project>/<key>``, empty without a key."""

    job_id: JobId
    spec: JobSpec
    spec_digest: str
    submitted_by: str
    idempotency_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The assignment that a new job begins with, its unit id already the new one."""

    assignment: Assignment
    plan_id: PlanId
    credential_digest: str


class Refusal(str):
    """Why an owner's wish cannot be granted: a sentence."""

    __slots__ = ()


def beyond_us(spec: JobSpec) -> Problem | None:
    """Why a job can be planned and exported but not started here: another framework trains it."""
    if spec.framework is Trainer.TRIMTAB:
        return None
    return Problem(
        path="framework",
        message=f"{spec.framework} is not started here: plan it, then `trimtab export PLAN --to` it",
        allowed=str(Trainer.TRIMTAB),
        nearest=str(Trainer.TRIMTAB),
    )


def submit(snapshot: Snapshot, submission: Submission, *, now: datetime, grant: Grant | None = None) -> Write:
    """Accept a job with one unit, which waits in the queue or starts at once with ``grant``."""
    write = WriteBuilder(snapshot, now=now)
    unit = Unit(id=unit_id(submission.job_id, 0), job_id=submission.job_id, state=UnitState.QUEUED, queued_at=now)
    write.put_job(
        Job(
            id=submission.job_id,
            spec=submission.spec,
            spec_digest=submission.spec_digest,
            intent=Intent.RUN,
            unit_ids=(unit.id,),
            submitted_at=now,
            submitted_by=submission.submitted_by,
            plan_id=grant.plan_id if grant is not None else None,
        )
    )
    write.put_unit(unit)
    if submission.idempotency_id:
        entry = IdempotencyEntry(job_id=submission.job_id, body_digest=submission.spec_digest)
        write.put(RecordKind.IDEMPOTENCY, submission.idempotency_id, entry)
    body = {"name": submission.spec.name, "by": submission.submitted_by, "digest": submission.spec_digest}
    write.event("Submitted", job_id=submission.job_id, body=body)
    if grant is not None:
        attempts.assign(write, unit, grant.assignment, plan_id=grant.plan_id, number=1, credential_digest=grant.credential_digest)
    return write.build()


def cancel(snapshot: Snapshot, job: Job, *, now: datetime) -> Write | Refusal | None:
    """Intent CANCEL: units without a live attempt end at once, live ones are asked to stop. None when that is already so."""
    if job.intent is Intent.CANCEL:
        return None
    if job.ended_at is not None:
        return Refusal(f"job {job.id} has ended as {_ended_as(snapshot, job)}")
    return _set_intent(snapshot, job, Intent.CANCEL, now=now)


def suspend(snapshot: Snapshot, job: Job, *, now: datetime) -> Write | Refusal | None:
    """Intent SUSPEND."""
    if job.ended_at is not None or job.intent is Intent.CANCEL:
        return Refusal(f"job {job.id} {_ended_as(snapshot, job)}; only a job that has not ended can be suspended")
    return None if job.intent is Intent.SUSPEND else _set_intent(snapshot, job, Intent.SUSPEND, now=now)


def resume(snapshot: Snapshot, job: Job, *, now: datetime) -> Write | Refusal | None:
    """Intent RUN after SUSPEND. An attempt that was already asked to stop still stops; its unit queues again."""
    if job.ended_at is not None or job.intent is Intent.CANCEL:
        return Refusal(f"job {job.id} {_ended_as(snapshot, job)}; only a suspended job can be resumed")
    return None if job.intent is Intent.RUN else _set_intent(snapshot, job, Intent.RUN, now=now)


def vouch_dead(snapshot: Snapshot, ref: AttemptRef, *, operator: str, now: datetime) -> Write | Refusal:
    """An operator vouches that nothing of an UNKNOWN attempt runs any more."""
    attempt = snapshot.attempt(ref)
    if attempt is None:
        return Refusal(f"there is no attempt {ref}")
    if attempt.state is not AttemptState.UNKNOWN:
        return Refusal(f"attempt {ref} is {attempt.state}; only the death of an UNKNOWN attempt can be vouched for")
    write = WriteBuilder(snapshot, now=now)
    attempts.proven_dead(write, ref, detail=f"{operator} vouches that nothing of it runs", vouched_by=operator)
    return write.build()


def _set_intent(snapshot: Snapshot, job: Job, intent: Intent, *, now: datetime) -> Write:
    write = WriteBuilder(snapshot, now=now)
    write.put_job(replace(job, intent=intent))
    write.event("IntentChanged", job_id=job.id, body={"from": job.intent, "to": intent})
    for one in job.unit_ids:
        unit = snapshot.unit(one)
        if unit is None or unit.state in UNIT_ENDS:
            continue
        attempt = snapshot.live_attempt(unit)
        reason = attempts.wants(intent)
        if attempt is not None and reason is not None:
            attempts.request_stop(write, attempt.ref, reason=reason, grace_s=job.spec.grace_s)
        elif attempt is None:
            _move_idle(write, unit, intent)
    return write.build()


def _move_idle(write: WriteBuilder, unit: Unit, intent: Intent) -> None:
    if intent is Intent.CANCEL:
        attempts.end_unit(write, unit, UnitEvent.CANCELLED, detail="cancelled")
    elif intent is Intent.SUSPEND and unit.state is UnitState.QUEUED:
        attempts.move_idle(write, unit, UnitEvent.SUSPENDED)
    elif intent is Intent.RUN and unit.state is UnitState.SUSPENDED:
        attempts.move_idle(write, unit, UnitEvent.RESUMED)


def _ended_as(snapshot: Snapshot, job: Job) -> str:
    if job.ended_at is None:
        return "is being cancelled"
    states = {unit.state.value for one in job.unit_ids if (unit := snapshot.unit(one)) is not None}
    return " and ".join(sorted(states))
