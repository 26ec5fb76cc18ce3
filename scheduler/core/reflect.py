"""From what was seen and reported to what changed: observations and reports become moves of attempts and units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from scheduler.core import attempts
from scheduler.core.records import Observation, RecordKind, Sight
from scheduler.core.rows import CommandAction, PublishedCheckpoint
from scheduler.core.snapshot import Snapshot, Write
from scheduler.core.write import WriteBuilder
from trimtab.ids import AttemptRef
from trimtab.job import Attempt
from trimtab.lifecycle import AttemptState, Intent
from trimtab.orders import CheckpointNote, ClaimReply, ClaimRequest, ClaimVerdict, ReportKind, ReportReply, RunReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How an attempt looks in this cycle. ``silent_s``: seconds since the last sign of life, by whatever way it came."""

    observation: Observation | None
    silent_s: float
    lost_after_s: float


def reflect(snapshot: Snapshot, ref: AttemptRef, seen: Seen, *, now: datetime) -> Write | None:
    """What one attempt's observation changes; None where it changes nothing. A released attempt never changes again."""
    attempt = snapshot.attempt(ref)
    if attempt is None or attempt.state is AttemptState.RELEASED:
        return None
    write = WriteBuilder(snapshot, now=now)
    last = seen.observation.last_report if seen.observation is not None else None
    if last is not None and last.attempt == ref:
        _apply_report(write, attempt, last)
    if write.attempt(ref).state is not AttemptState.RELEASED:
        _apply_sight(write, ref, seen)
    return None if write.is_empty else write.build()


def _apply_sight(write: WriteBuilder, ref: AttemptRef, seen: Seen) -> None:
    sight = seen.observation.sight if seen.observation is not None else Sight.UNSEEN
    attempt = write.attempt(ref)
    detail = seen.observation.detail if seen.observation is not None else "the executor does not know it"
    if sight is Sight.DEAD:
        attempts.proven_dead(write, ref, detail=detail or "no process of it is left, and it left no note of how it ended")
        return
    not_sent = write.snapshot.command(ref, CommandAction.START) is not None
    if attempt.state is AttemptState.UNKNOWN:
        if sight is Sight.ALIVE:
            attempts.sight_regained(write, ref)
    elif sight is not Sight.ALIVE and seen.silent_s > seen.lost_after_s and not not_sent:
        attempts.lost_sight(write, ref, detail=f"no sign of it for {seen.silent_s:.0f} s: {detail}")


def _apply_report(write: WriteBuilder, attempt: Attempt, report: RunReport) -> None:
    """READY, SUMMARY, EXITED and a checkpoint are kept; the others are news of the moment. A repeated one changes nothing.

    The last report of an attempt whose agent could not reach us carries the newest verified checkpoint: without it, work done
    while the control plane was away would be lost.
    """
    if report.checkpoint is not None:
        _take_checkpoint(write, attempt.ref, report.checkpoint)
    if report.kind is ReportKind.READY and attempt.ready_at is None:
        _see(write, attempt.ref)
        if write.attempt(attempt.ref).state is AttemptState.STARTING:
            attempts.ready(write, attempt.ref)
    if report.summary and dict(report.summary) != dict(attempt.summary):
        current = write.attempt(attempt.ref)
        write.put_attempt(replace(current, summary=dict(report.summary)))
        write.event("Summary", job_id=attempt.job_id, attempt=attempt.ref, body={"summary": dict(report.summary)})
    if report.kind is ReportKind.EXITED and report.exit is not None:
        attempts.exited(write, attempt.ref, report.exit)


def _see(write: WriteBuilder, ref: AttemptRef) -> None:
    if write.attempt(ref).state is AttemptState.UNKNOWN:
        attempts.sight_regained(write, ref)


class Standing(StrEnum):
    """Whether an attempt may still change anything."""

    CURRENT = "current"
    STALE = "stale"


def standing(snapshot: Snapshot, ref: AttemptRef) -> Standing:
    """CURRENT only for the newest attempt of its unit, and only until it is released."""
    attempt, unit = snapshot.attempt(ref), snapshot.unit(ref.unit_id)
    if attempt is None or unit is None or unit.attempt_number != ref.number or attempt.state is AttemptState.RELEASED:
        return Standing.STALE
    return Standing.CURRENT


def take_report(snapshot: Snapshot, report: RunReport, *, now: datetime) -> tuple[Write | None, ReportReply]:
    """What a report changes in the table, and the answer to the agent. One of a stale attempt changes nothing."""
    if standing(snapshot, report.attempt) is Standing.STALE:
        return None, ReportReply(fenced=True)
    attempt = snapshot.attempt(report.attempt)
    assert attempt is not None
    write = WriteBuilder(snapshot, now=now)
    _see(write, attempt.ref)
    _apply_report(write, attempt, report)
    stop = snapshot.command(attempt.ref, CommandAction.STOP)
    reply = ReportReply(stop=stop is not None, grace_s=stop.grace_s if stop is not None else 0.0)
    return (None if write.is_empty else write.build()), reply


def take_claim(snapshot: Snapshot, request: ClaimRequest, *, now: datetime) -> tuple[Write | None, ClaimReply]:
    """May this agent run the attempt? One agent per node of the attempt; the same agent is granted again, nobody else."""
    refused = _refusal(snapshot, request)
    if refused is not None:
        return None, ClaimReply(verdict=ClaimVerdict.REFUSED, detail=refused)
    attempt = snapshot.attempt(request.attempt)
    assert attempt is not None
    if request.agent in attempt.claimed_by.split("\n"):
        return None, ClaimReply(verdict=ClaimVerdict.GRANTED)
    write = WriteBuilder(snapshot, now=now)
    attempts.claimed(write, request.attempt, request.agent)
    write.guard(RecordKind.JOB, attempt.job_id)
    return write.build(), ClaimReply(verdict=ClaimVerdict.GRANTED)


def _refusal(snapshot: Snapshot, request: ClaimRequest) -> str | None:
    if not request.agent or "\n" in request.agent:
        return "an agent names itself by host, boot id, pid and start time, on one line"
    if standing(snapshot, request.attempt) is Standing.STALE:
        return f"{request.attempt} is not the current attempt of its unit, or is released"
    attempt = snapshot.attempt(request.attempt)
    job = snapshot.job(request.attempt.job_id)
    assert attempt is not None
    claims = [*filter(None, attempt.claimed_by.split("\n"))]
    if attempt.stop_requested_at is not None:
        return f"{request.attempt} was asked to stop ({attempt.stop_reason})"
    if job is None or job.intent is not Intent.RUN:
        return f"the intent of the job is {job.intent if job is not None else 'unknown'}"
    if request.agent in claims:
        return None
    num_nodes = len({device.node_id for device in attempt.devices})
    if len(claims) >= num_nodes:
        return f"{request.attempt} is claimed by {', '.join(claims)}"
    if AttemptState.STARTING not in (attempt.state, attempt.state_before_lost):
        return f"{request.attempt} is {attempt.state}, not STARTING"
    return None


def publish(snapshot: Snapshot, ref: AttemptRef, note: CheckpointNote, *, now: datetime) -> tuple[Write | None, bool]:
    """Make ``note`` the checkpoint to resume from. False when the attempt is stale, or the step goes back.

    A repeated note is accepted and changes nothing. An attempt that was asked to stop may still publish.
    """
    if standing(snapshot, ref) is Standing.STALE:
        return None, False
    write = WriteBuilder(snapshot, now=now)
    accepted = _take_checkpoint(write, ref, note)
    return (None if write.is_empty else write.build()), accepted


def _take_checkpoint(write: WriteBuilder, ref: AttemptRef, note: CheckpointNote) -> bool:
    """Put ``note`` as the checkpoint of a current attempt; False where the same attempt published a later step."""
    known = write.snapshot.checkpoint(ref.job_id)
    if known is not None and known.note == note:
        return True
    if known is not None and note.step < known.note.step and known.attempt == ref:
        return False
    write.guard(RecordKind.UNIT, ref.unit_id)
    write.guard(RecordKind.ATTEMPT, str(ref))
    write.put(RecordKind.CHECKPOINT, ref.job_id, PublishedCheckpoint(attempt=ref, note=note, published_at=write.now))
    body: dict[str, object] = {"step": note.step, "bytes": note.num_bytes, "save_s": note.save_s, "path": note.path}
    if known is not None and note.step < known.note.step:
        write.event("CheckpointRolledBack", job_id=ref.job_id, attempt=ref, body={"from": known.note.step, "to": note.step})
    write.event("CheckpointPublished", job_id=ref.job_id, attempt=ref, body=body)
    return True
