"""Collects the rows that a decision touches into one guarded write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import cast

from scheduler.core.records import EventDraft, Guard, RecordKind
from scheduler.core.rows import CommandAction, DeviceOwner, PendingCommand, RowValue, command_id
from scheduler.core.snapshot import Put, Snapshot, Write
from trimtab.ids import AttemptRef, JobId, UnitId
from trimtab.job import Attempt, Job, Unit


class WriteBuilder:
    """Reads through to the snapshot and remembers what changes.

    Every row that is put is guarded by the version that the snapshot has, so the write fails as a whole when anybody else was
    faster. ``build`` adds to the last event what moved (``moves``): replaying the events gives the states of the table again.
    """

    def __init__(self, snapshot: Snapshot, *, now: datetime) -> None:
        self.snapshot = snapshot
        self.now = now
        self._puts: dict[tuple[RecordKind, str], RowValue | None] = {}
        self._guards: dict[tuple[RecordKind, str], int] = {}
        self._events: list[EventDraft] = []

    # -------------------------------------------------------------------------------------------------------- read

    def _value(self, kind: RecordKind, record_id: str) -> RowValue | None:
        if (kind, record_id) in self._puts:
            return self._puts[kind, record_id]
        return self.snapshot.value(kind, record_id)

    def job(self, job_id: JobId) -> Job:
        """The job as it stands in this write; it must exist."""
        value = self._value(RecordKind.JOB, job_id)
        assert isinstance(value, Job), f"no job {job_id}"
        return value

    def unit(self, unit_id: UnitId) -> Unit:
        """The unit as it stands in this write; it must exist."""
        value = self._value(RecordKind.UNIT, unit_id)
        assert isinstance(value, Unit), f"no unit {unit_id}"
        return value

    def attempt(self, ref: AttemptRef) -> Attempt:
        """The attempt as it stands in this write; it must exist."""
        value = self._value(RecordKind.ATTEMPT, str(ref))
        assert isinstance(value, Attempt), f"no attempt {ref}"
        return value

    # ------------------------------------------------------------------------------------------------------- write

    def guard(self, kind: RecordKind, record_id: str) -> None:
        """Require that the row is still as the snapshot has it."""
        self._guards[kind, record_id] = self.snapshot.version(kind, record_id)

    def put(self, kind: RecordKind, record_id: str, value: RowValue | None) -> None:
        """Write or delete a row, guarded."""
        if value is None and self.snapshot.version(kind, record_id) == 0:
            self._puts.pop((kind, record_id), None)
            return
        self.guard(kind, record_id)
        self._puts[kind, record_id] = value

    def put_job(self, job: Job) -> None:
        """Write a job."""
        self.put(RecordKind.JOB, job.id, job)

    def put_unit(self, unit: Unit) -> None:
        """Write a unit."""
        self.put(RecordKind.UNIT, unit.id, unit)

    def put_attempt(self, attempt: Attempt) -> None:
        """Write an attempt."""
        self.put(RecordKind.ATTEMPT, str(attempt.ref), attempt)

    def own(self, device_key: str, owner: AttemptRef) -> None:
        """Give a free device to an attempt."""
        assert self._value(RecordKind.DEVICE, device_key) is None, f"device {device_key} has an owner"
        self.put(RecordKind.DEVICE, device_key, DeviceOwner(owner=owner))

    def free(self, device_key: str, owner: AttemptRef) -> None:
        """Take a device back from an attempt."""
        value = cast("DeviceOwner | None", self._value(RecordKind.DEVICE, device_key))
        assert value is not None, f"device {device_key} has no owner"
        assert value.owner == owner, f"device {device_key} belongs to {value.owner}, not to {owner}"
        self.put(RecordKind.DEVICE, device_key, None)

    def command(self, attempt: AttemptRef, action: CommandAction, *, grace_s: float = 0.0) -> None:
        """Commit a command before the act."""
        pending = PendingCommand(attempt=attempt, action=action, committed_at=self.now, grace_s=grace_s)
        self.put(RecordKind.INTENT, command_id(attempt, action), pending)

    def drop_command(self, attempt: AttemptRef, action: CommandAction) -> None:
        """The command was carried out, or is pointless now."""
        self.put(RecordKind.INTENT, command_id(attempt, action), None)

    def event(
        self,
        kind: str,
        *,
        job_id: JobId | None = None,
        attempt: AttemptRef | None = None,
        body: Mapping[str, object] | None = None,
    ) -> None:
        """Tell what happened."""
        self._events.append(EventDraft(kind=kind, at=self.now, job_id=job_id, attempt=attempt, body=dict(body or {})))

    @property
    def is_empty(self) -> bool:
        """True while nothing was put and nothing told."""
        return not self._puts and not self._events

    def build(self) -> Write:
        """The finished write. Every write tells something: readers follow the events alone."""
        assert self._events, f"a write without an event: {sorted((k.value, i) for k, i in self._puts)}"
        moves = self._moves()
        if moves:
            last = self._events[-1]
            self._events[-1] = replace(last, body={**last.body, "moves": moves})
        return Write(
            guards=tuple(Guard(kind=kind, id=row, version=version) for (kind, row), version in self._guards.items()),
            puts=tuple(Put(kind=kind, id=row, value=value) for (kind, row), value in self._puts.items()),
            events=tuple(self._events),
        )

    def _moves(self) -> dict[str, object]:
        moves: dict[str, dict[str, object]] = {}
        for (kind, row), value in self._puts.items():
            before = self.snapshot.value(kind, row)
            old, new = _state(before), _state(value)
            if kind in _MOVE_NAMES and old != new:
                moves.setdefault(_MOVE_NAMES[kind], {})[row] = new
        return cast("dict[str, object]", moves)


_MOVE_NAMES = {
    RecordKind.JOB: "intents",
    RecordKind.UNIT: "units",
    RecordKind.ATTEMPT: "attempts",
    RecordKind.DEVICE: "devices",
    RecordKind.INTENT: "commands",
}


def _state(value: RowValue | None) -> str | None:
    if isinstance(value, Job):
        return value.intent.value
    if isinstance(value, Unit | Attempt):
        return value.state.value
    if isinstance(value, DeviceOwner):
        return str(value.owner)
    if isinstance(value, PendingCommand):
        return value.action.value
    return None
