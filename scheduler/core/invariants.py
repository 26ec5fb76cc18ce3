"""What must always be true of the tables, and the replay of events that must give the same states.

The rules have the numbers I1 to I22 of the product's reliability design (``docs/lifecycle.md`` lists them). The loop checks the
rules of one unit after each change of it; tests check the whole table, the replay, and the simulated world beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from scheduler.core.records import RecordKind, StoredEvent
from scheduler.core.rows import CommandAction
from scheduler.core.snapshot import Snapshot
from trimtab.ids import AttemptRef
from trimtab.job import Attempt, Job, Unit
from trimtab.lifecycle import UNIT_ENDS, UNIT_LIVE, AttemptState, EndReason, Intent, UnitState, follow


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A broken invariant: its number, the row concerned, and what is wrong."""

    rule: str
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule} {self.subject}: {self.detail}"


def check(snapshot: Snapshot) -> tuple[Violation, ...]:
    """All violations of the table."""
    found: list[Violation] = []
    for unit in snapshot.units():
        found.extend(check_unit(snapshot, unit))
    found.extend(_check_owners(snapshot))
    for command in snapshot.commands():
        attempt = snapshot.attempt(command.attempt)
        if attempt is None or attempt.state is AttemptState.RELEASED:
            found.append(_broken("I14", str(command.attempt), f"{command.action} is pending for an attempt that is not live"))
    for job in snapshot.jobs():
        found.extend(_check_job(snapshot, job))
    return tuple(found)


def check_unit(snapshot: Snapshot, unit: Unit) -> tuple[Violation, ...]:
    """Violations in one unit, its attempts and their devices. Cheap enough for each change: it reads this unit's rows alone."""
    found: list[Violation] = []
    job = snapshot.job(unit.job_id)
    if job is None:
        return (_broken("I1", unit.id, f"its job {unit.job_id} is gone"),)
    tries = snapshot.attempts_of(unit)
    if [attempt.ref.number for attempt in tries] != list(range(1, unit.attempt_number + 1)):
        found.append(_broken("I7", unit.id, f"attempts {[a.ref.number for a in tries]} for number {unit.attempt_number}"))
    found.extend(_check_live(snapshot, unit, tries))
    found.extend(_check_counts(job, unit))
    for attempt in tries:
        found.extend(_check_attempt(snapshot, attempt))
    return tuple(found)


def _check_live(snapshot: Snapshot, unit: Unit, tries: tuple[Attempt, ...]) -> Iterable[Violation]:
    live = [attempt for attempt in tries if attempt.state is not AttemptState.RELEASED]
    if len(live) > 1:
        yield _broken("I3", unit.id, f"live attempts {[str(a.ref) for a in live]}")
    if live and live[-1].ref.number != unit.attempt_number:
        yield _broken("I6", unit.id, f"attempt {live[-1].ref.number} is live, {unit.attempt_number} is current")
    if unit.end_reason is EndReason.QUARANTINED:
        return
    if unit.state in UNIT_LIVE and not live:
        yield _broken("I11", unit.id, f"{unit.state} without a live attempt")
    if unit.state not in UNIT_LIVE and live:
        yield _broken("I8", unit.id, f"{unit.state} with the live attempt {live[-1].ref}")
    if live and follow(live[-1].state) not in (None, unit.state):
        yield _broken("I8", unit.id, f"{unit.state} while its attempt is {live[-1].state}")


def _check_counts(job: Job, unit: Unit) -> Iterable[Violation]:
    retry = job.spec.retry
    if unit.state not in UNIT_ENDS and unit.num_failures > retry.max_failures:
        yield _broken("I22", unit.id, f"{unit.num_failures} failures, {retry.max_failures} allowed, and it goes on")
    if unit.state not in UNIT_ENDS and unit.num_losses > retry.max_losses:
        yield _broken("I22", unit.id, f"{unit.num_losses} losses, {retry.max_losses} allowed, and it goes on")
    if unit.state is UnitState.FAILED and unit.end_reason is None:
        yield _broken("I20", unit.id, "FAILED without a reason")


def _check_attempt(snapshot: Snapshot, attempt: Attempt) -> Iterable[Violation]:
    held = [device for device in attempt.devices if snapshot.owner(device.key()) == attempt.ref]
    if attempt.state is AttemptState.RELEASED:
        if held:
            yield _broken("I4", str(attempt.ref), f"released, and still owns {held[0].key()}")
        if attempt.release_reason is None or attempt.released_at is None:
            yield _broken("I8", str(attempt.ref), "released without reason or time")
        return
    if len(held) != len(attempt.devices):
        missing = next(device.key() for device in attempt.devices if device not in held)
        yield _broken("I12", str(attempt.ref), f"live, and does not own {missing}")
    if attempt.state is AttemptState.UNKNOWN and attempt.state_before_lost is None:
        yield _broken("I8", str(attempt.ref), "UNKNOWN from nowhere")
    stop = snapshot.command(attempt.ref, CommandAction.STOP)
    if (attempt.stop_requested_at is not None) != (stop is not None):
        yield _broken("I14", str(attempt.ref), "the stop request and the stop command do not agree")


def _check_owners(snapshot: Snapshot) -> Iterable[Violation]:
    for key, owner in sorted(snapshot.owners().items()):
        attempt = snapshot.attempt(owner)
        if attempt is None or attempt.state is AttemptState.RELEASED:
            yield _broken("I4", key, f"belongs to {owner}, which is not live")
        elif key not in {device.key() for device in attempt.devices}:
            yield _broken("I4", key, f"belongs to {owner}, which was not given it")


def _check_job(snapshot: Snapshot, job: Job) -> Iterable[Violation]:
    units = [snapshot.unit(unit_id) for unit_id in job.unit_ids]
    if None in units:
        yield _broken("I10", job.id, "one of its units is gone")
        return
    ended = all(unit is not None and unit.state in UNIT_ENDS for unit in units)
    if ended != (job.ended_at is not None):
        yield _broken("I8", job.id, f"ended_at is {job.ended_at} while its units are {[u.state for u in units if u]}")
    if job.intent is Intent.CANCEL and any(unit is not None and unit.state is UnitState.SUSPENDED for unit in units):
        yield _broken("I21", job.id, "cancelled, and a unit is SUSPENDED")


def _broken(rule: str, subject: str, detail: str) -> Violation:
    return Violation(rule=rule, subject=subject, detail=detail)


# ------------------------------------------------------------------------------------------------------ the replay of events


@dataclass(slots=True)
class Replay:
    """States as the events alone tell them (I13), and what must never go back on the way (I7, I8, I21)."""

    states: dict[str, dict[str, str]] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    last_number: int = 0
    last_attempt: dict[str, int] = field(default_factory=dict)

    def take(self, events: Iterable[StoredEvent]) -> None:
        """Fold events, in order."""
        for event in events:
            if event.number != self.last_number + 1:
                self._add("I7", f"event {event.number}", f"follows {self.last_number}")
            self.last_number = event.number
            moves = event.draft.body.get("moves")
            for name, changed in (moves if isinstance(moves, Mapping) else {}).items():
                table = self.states.setdefault(str(name), {})
                for row, state in changed.items():
                    self._check_move(str(name), row, table.get(row), state)
                    if state is None:
                        table.pop(row, None)
                    else:
                        table[row] = state

    def _check_move(self, name: str, row: str, before: str | None, after: str | None) -> None:
        if name == "units" and before in {state.value for state in UNIT_ENDS}:
            self._add("I8", row, f"left {before} for {after}")
        if name == "attempts" and before == AttemptState.RELEASED.value:
            self._add("I8", row, f"left RELEASED for {after}")
        if name == "intents" and before == Intent.CANCEL.value:
            self._add("I21", row, f"left CANCEL for {after}")
        if name == "devices" and before is not None and after is not None:
            self._add("I4", row, f"went from {before} to {after} without being free")
        if name == "attempts" and before is None:
            ref = AttemptRef.parse(row)
            if ref.number != self.last_attempt.get(ref.unit_id, 0) + 1:
                self._add("I7", row, f"follows attempt {self.last_attempt.get(ref.unit_id, 0)}")
            self.last_attempt[ref.unit_id] = ref.number
            if self.states.get("intents", {}).get(ref.job_id) == Intent.CANCEL.value:
                self._add("I21", row, "assigned after its job was cancelled")

    def _add(self, rule: str, subject: str, detail: str) -> None:
        self.violations.append(_broken(rule, subject, detail))

    def compare(self, snapshot: Snapshot) -> tuple[Violation, ...]:
        """Violations on the way, and each state where the table differs from the replay."""
        table: dict[str, dict[str, str]] = {
            "intents": {job.id: job.intent.value for job in snapshot.jobs()},
            "units": {unit.id: unit.state.value for unit in snapshot.units()},
            "attempts": {str(attempt.ref): attempt.state.value for attempt in snapshot.attempts()},
            "devices": {key: str(owner) for key, owner in snapshot.owners().items()},
            "commands": {
                row: command.action.value
                for row, command in zip(sorted(snapshot.of_kind(RecordKind.INTENT)), snapshot.commands(), strict=True)
            },
        }
        found = list(self.violations)
        for name, rows in table.items():
            replayed = self.states.get(name, {})
            for row in sorted(set(rows) | set(replayed)):
                if rows.get(row) != replayed.get(row):
                    found.append(_broken("I13", f"{name} {row}", f"table {rows.get(row)}, replay {replayed.get(row)}"))
        return tuple(found)
