"""Guards taken out one at a time. Each mutant must be found by the simulation: this is the test of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from scheduler.core import attempts, decide, jobs, recheck, reflect
from scheduler.core.records import RecordKind, Sight
from scheduler.core.rows import CommandAction, DeviceOwner
from scheduler.core.snapshot import Snapshot, Write
from scheduler.core.write import WriteBuilder
from scheduler.ports import Applied
from scheduler.service import commands, live, mirror
from trimtab.lifecycle import AttemptState, FailureKind, Intent, ReleaseReason, UnitState
from trimtab.orders import ExitNote

Patches = list[tuple[Any, str, Any]]


def _claim_is_never_refused() -> Patches:
    return [(reflect, "_refusal", lambda snapshot, request: None)]


def _claim_after_a_stop() -> Patches:
    real = reflect._refusal

    def refusal(snapshot: Snapshot, request: Any) -> str | None:
        why = real(snapshot, request)
        return None if why is not None and "not the current" in why else why

    return [(reflect, "_refusal", refusal), (reflect, "standing", lambda snapshot, ref: reflect.Standing.CURRENT)]


def _claim_is_not_written() -> Patches:
    real = reflect.take_claim
    return [(reflect, "take_claim", lambda *a, **k: (None, real(*a, **k)[1]))]


def _stale_reports_count() -> Patches:
    return [(reflect, "standing", lambda snapshot, ref: reflect.Standing.CURRENT)]


def _unseen_is_dead() -> Patches:
    real = reflect._apply_sight

    def apply_sight(write: WriteBuilder, ref: Any, seen: Any) -> None:
        if seen.observation is not None and seen.observation.sight is Sight.UNSEEN:
            seen = replace(seen, observation=replace(seen.observation, sight=Sight.DEAD))
        real(write, ref, seen)

    return [(reflect, "_apply_sight", apply_sight)]


def _lost_is_released_after_a_while() -> Patches:
    real = decide.decide

    def decide_unit(snapshot: Snapshot, unit: Any, around: Any) -> Write | None:
        attempt = snapshot.live_attempt(unit)
        if attempt is not None and attempt.lost_at is not None and (around.now - attempt.lost_at).total_seconds() > 10:
            write = WriteBuilder(snapshot, now=around.now)
            attempts.proven_dead(write, attempt.ref, detail="it was away for long")
            return write.build()
        return real(snapshot, unit, around)

    return [(decide, "decide", decide_unit)]


def _claimed_attempts_are_given_up() -> Patches:
    real = decide._decide_live

    def decide_live(write: WriteBuilder, job: Any, attempt: Any, around: Any) -> None:
        age_s = (around.now - attempt.assigned_at).total_seconds()
        if attempt.state is AttemptState.STARTING and age_s > 5:
            attempts.exited(write, attempt.ref, ExitNote(reason=ReleaseReason.FAILED, failure=FailureKind.START))
        else:
            real(write, job, attempt, around)

    return [(decide, "_decide_live", decide_live)]


def _stop_releases_at_once() -> Patches:
    real = attempts.request_stop

    def request_stop(write: WriteBuilder, ref: Any, *, reason: str, grace_s: float) -> None:
        write.put_attempt(replace(write.attempt(ref), claimed_by=""))
        real(write, ref, reason=reason, grace_s=grace_s)

    return [(attempts, "request_stop", request_stop)]


def _rows_are_not_guarded() -> Patches:
    real = mirror.Mirror._apply
    return [(mirror.Mirror, "_apply", lambda self, write, op_id, term: real(self, replace(write, guards=()), op_id, 0))]


def _devices_are_not_guarded() -> Patches:
    def own(self: WriteBuilder, device_key: str, owner: Any) -> None:
        self._puts[RecordKind.DEVICE, device_key] = DeviceOwner(owner=owner)
        self._guards[RecordKind.DEVICE, device_key] = self.snapshot.version(RecordKind.DEVICE, device_key)

    return [(WriteBuilder, "own", own), (recheck, "recheck", lambda *a, **k: None), (decide, "recheck", lambda *a, **k: None)]


def _assignments_are_not_checked_again() -> Patches:
    return [(recheck, "recheck", lambda *a, **k: None), (decide, "recheck", lambda *a, **k: None)]


def _devices_stay_owned() -> Patches:
    return [(WriteBuilder, "free", lambda self, device_key, owner: None)]


def _cancel_can_be_undone() -> Patches:
    def resume(snapshot: Snapshot, job: Any, *, now: Any) -> Any:
        if job.ended_at is not None or job.intent is Intent.RUN:
            return None
        return jobs._set_intent(snapshot, job, Intent.RUN, now=now)

    return [(jobs, "resume", resume)]


def _retries_without_end() -> Patches:
    real = attempts.after_release

    def after_release(reason: Any, intent: Any, **counts: Any) -> Any:
        state, why = real(reason, intent, **counts)
        return (UnitState.QUEUED, None) if state is UnitState.FAILED else (state, why)

    return [(attempts, "after_release", after_release)]


def _stop_is_not_committed() -> Patches:
    real = WriteBuilder.command

    def command(self: WriteBuilder, attempt: Any, action: CommandAction, *, grace_s: float = 0.0) -> None:
        if action is not CommandAction.STOP:
            real(self, attempt, action, grace_s=grace_s)

    return [(WriteBuilder, "command", command)]


def _a_repeat_is_a_new_write() -> Patches:
    real = mirror.Mirror._apply

    def apply(self: Any, write: Write, op_id: str, term: int) -> Any:
        store = self._store
        for tries in range(5):
            try:
                return store.apply(
                    op_id=f"{op_id}/{tries}", term=term, guards=write.guards, changes=write.changes(), events=write.events
                )
            except mirror.UnknownOutcome:
                continue
        return real(self, write, op_id, term)

    return [(mirror.Mirror, "_apply", apply)]


def _keys_are_not_kept() -> Patches:
    real = WriteBuilder.put

    def put(self: WriteBuilder, kind: RecordKind, record_id: str, value: Any) -> None:
        if kind is not RecordKind.IDEMPOTENCY:
            real(self, kind, record_id, value)

    return [(WriteBuilder, "put", put)]


def _a_lost_write_counts() -> Patches:
    real = mirror.Mirror._apply

    def apply(self: Any, write: Write, op_id: str, term: int) -> Any:
        result = real(self, write, op_id, term)
        return result if isinstance(result, Applied) else Applied(last_event=self._snapshot.last_event + len(write.events))

    return [(mirror.Mirror, "_apply", apply)]


def _ready_twice() -> Patches:
    real = reflect._apply_report

    def apply_report(write: WriteBuilder, attempt: Any, report: Any) -> None:
        if report.kind is reflect.ReportKind.READY:
            attempts.ready(write, attempt.ref)
        else:
            real(write, attempt, report)

    return [(reflect, "_apply_report", apply_report), (live.LiveBook, "is_new", lambda self, report, now_s: True)]


def _stalls_are_not_seen() -> Patches:
    return [(decide, "stall_after_s", lambda policy, step_s: float("inf"))]


def _nothing_is_forgotten() -> Patches:
    return [(commands.CommandRunner, "clean_up", lambda self, observations: None)]


def _checkpoints_go_back() -> Patches:
    real = reflect.publish

    def publish(snapshot: Snapshot, ref: Any, note: Any, *, now: Any) -> Any:
        write, accepted = real(snapshot, ref, note, now=now)
        if accepted or reflect.standing(snapshot, ref) is reflect.Standing.STALE:
            return write, accepted
        rows = {**snapshot.rows, RecordKind.CHECKPOINT: {}}
        write, _ = real(replace(snapshot, rows=rows), ref, note, now=now)
        version = snapshot.version(RecordKind.CHECKPOINT, ref.job_id)
        guards = tuple(replace(g, version=version) if g.kind is RecordKind.CHECKPOINT else g for g in write.guards)
        return replace(write, guards=guards), True

    return [(reflect, "publish", publish)]


def _stale_attempts_publish() -> Patches:
    real = reflect.publish

    def publish(snapshot: Snapshot, ref: Any, note: Any, *, now: Any) -> Any:
        with patch.object(reflect, "standing", lambda snapshot, ref: reflect.Standing.CURRENT):
            return real(snapshot, ref, note, now=now)

    return [(reflect, "publish", publish)]


def _a_live_unit_is_placed_again() -> Patches:
    real = decide.eligible

    def eligible(snapshot: Snapshot, unit: Any, now: Any) -> bool:
        return unit.state is not UnitState.SUSPENDED and real(snapshot, replace(unit, state=UnitState.QUEUED), now)

    return [(decide, "eligible", eligible)]


MUTANTS: Mapping[str, Callable[[], Patches]] = {
    name.removeprefix("_").replace("_", "-"): make
    for name, make in list(globals().items())
    if callable(make) and getattr(make, "__module__", "") == __name__ and name.startswith("_")
}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """The product with that guard taken out."""
    patches = [patch.object(target, attribute, value) for target, attribute, value in MUTANTS[name]()]
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in reversed(patches):
            one.stop()
