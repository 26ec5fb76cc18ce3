"""All rows that decisions need, frozen at one moment, and the write that a decision asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast

from scheduler.core.records import Change, EventDraft, Guard, Record, RecordKind
from scheduler.core.rows import (
    CommandAction,
    DeviceOwner,
    PendingCommand,
    PublishedCheckpoint,
    QuarantineEntry,
    RowValue,
    command_id,
    decode_row,
    encode_row,
)
from trimtab.ids import AttemptRef, JobId, UnitId
from trimtab.job import Attempt, Job, Unit
from trimtab.lifecycle import AttemptState

SNAPSHOT_KINDS = (
    RecordKind.JOB,
    RecordKind.UNIT,
    RecordKind.ATTEMPT,
    RecordKind.DEVICE,
    RecordKind.INTENT,
    RecordKind.CHECKPOINT,
    RecordKind.QUARANTINE,
)


@dataclass(frozen=True, slots=True)
class Row:
    """A typed row with its version in the store."""

    version: int
    value: RowValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """A row to write (None: to delete)."""

    kind: RecordKind
    id: str
    value: RowValue | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One atomic step: what must still hold, what changes, and what is told. Each put has its guard."""

    guards: tuple[Guard, ...]
    puts: tuple[Put, ...]
    events: tuple[EventDraft, ...]

    def changes(self) -> tuple[Change, ...]:
        """The puts in stored form."""
        return tuple(
            Change(kind=put.kind, id=put.id, value=None if put.value is None else encode_row(put.value)) for put in self.puts
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A row that could not be read as its kind."""

    record: Record
    why: str


Rows = Mapping[RecordKind, Mapping[str, Row]]
_NO_ROWS: Mapping[str, Row] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Rows by kind and id. ``unreadable`` rows are in no mapping; ``last_event`` is the newest event number that it includes."""

    rows: Rows = field(default_factory=dict)
    unreadable: tuple[Unreadable, ...] = ()
    last_event: int = 0

    @classmethod
    def from_records(cls, records: Iterable[Record], *, last_event: int) -> Snapshot:
        """Read stored rows; one that cannot be read is set aside and never stops the others."""
        rows: dict[RecordKind, dict[str, Row]] = {kind: {} for kind in SNAPSHOT_KINDS}
        unreadable: list[Unreadable] = []
        for record in records:
            try:
                value = decode_row(record.kind, record.value)
            except (ValueError, TypeError) as error:
                unreadable.append(Unreadable(record=record, why=str(error)))
                continue
            rows.setdefault(record.kind, {})[record.id] = Row(record.version, value)
        return cls(rows=rows, unreadable=tuple(unreadable), last_event=last_event)

    def of_kind(self, kind: RecordKind) -> Mapping[str, Row]:
        """Rows of one kind by id."""
        return self.rows.get(kind, _NO_ROWS)

    def version(self, kind: RecordKind, record_id: str) -> int:
        """The row's version; 0 where there is no such row."""
        row = self.of_kind(kind).get(record_id)
        return 0 if row is None else row.version

    def value(self, kind: RecordKind, record_id: str) -> RowValue | None:
        """The row's value, or None."""
        row = self.of_kind(kind).get(record_id)
        return None if row is None else row.value

    def after(self, write: Write, *, last_event: int) -> Snapshot:
        """The snapshot once ``write`` took effect."""
        versions = {(guard.kind, guard.id): guard.version for guard in write.guards}
        rows = dict(self.rows)
        for kind in dict.fromkeys(put.kind for put in write.puts):
            changed = dict(self.of_kind(kind))
            for put in write.puts:
                if put.kind is not kind:
                    continue
                version = versions[kind, put.id] + 1
                present = changed.get(put.id)
                if put.value is None:
                    changed.pop(put.id, None)
                elif present is None or present.version < version:
                    changed[put.id] = Row(version, put.value)
            rows[kind] = changed
        return Snapshot(rows=rows, unreadable=self.unreadable, last_event=last_event)

    # -------------------------------------------------------------------------------------------------- typed access

    def jobs(self) -> Iterator[Job]:
        """All jobs in order of id, which is the order of submission."""
        rows = self.of_kind(RecordKind.JOB)
        return (cast("Job", rows[key].value) for key in sorted(rows))

    def units(self) -> Iterator[Unit]:
        """All units in order of id."""
        rows = self.of_kind(RecordKind.UNIT)
        return (cast("Unit", rows[key].value) for key in sorted(rows))

    def attempts(self) -> Iterator[Attempt]:
        """All attempts in order of their row id."""
        rows = self.of_kind(RecordKind.ATTEMPT)
        return (cast("Attempt", rows[key].value) for key in sorted(rows))

    def job(self, job_id: JobId) -> Job | None:
        """One job."""
        return cast("Job | None", self.value(RecordKind.JOB, job_id))

    def unit(self, unit_id: UnitId) -> Unit | None:
        """One unit."""
        return cast("Unit | None", self.value(RecordKind.UNIT, unit_id))

    def attempt(self, ref: AttemptRef) -> Attempt | None:
        """One attempt."""
        return cast("Attempt | None", self.value(RecordKind.ATTEMPT, str(ref)))

    def attempts_of(self, unit: Unit) -> tuple[Attempt, ...]:
        """The attempts of a unit, oldest first."""
        refs = (AttemptRef(unit_id=unit.id, number=number) for number in range(1, unit.attempt_number + 1))
        return tuple(attempt for ref in refs if (attempt := self.attempt(ref)) is not None)

    def newest_attempt(self, unit: Unit) -> Attempt | None:
        """The newest attempt of a unit, live or not."""
        return self.attempt(AttemptRef(unit_id=unit.id, number=unit.attempt_number)) if unit.attempt_number else None

    def live_attempt(self, unit: Unit) -> Attempt | None:
        """The attempt of a unit that is not released, if there is one."""
        newest = self.newest_attempt(unit)
        return newest if newest is not None and newest.state is not AttemptState.RELEASED else None

    def owner(self, device_key: str) -> AttemptRef | None:
        """The attempt that a device belongs to; None when it is free."""
        row = cast("DeviceOwner | None", self.value(RecordKind.DEVICE, device_key))
        return None if row is None else row.owner

    def owners(self) -> Mapping[str, AttemptRef]:
        """Owners by device key."""
        return {key: cast("DeviceOwner", row.value).owner for key, row in self.of_kind(RecordKind.DEVICE).items()}

    def command(self, ref: AttemptRef, action: CommandAction) -> PendingCommand | None:
        """A pending command of an attempt."""
        return cast("PendingCommand | None", self.value(RecordKind.INTENT, command_id(ref, action)))

    def commands(self) -> Iterator[PendingCommand]:
        """All pending commands in order of id."""
        rows = self.of_kind(RecordKind.INTENT)
        return (cast("PendingCommand", rows[key].value) for key in sorted(rows))

    def checkpoint(self, job_id: JobId) -> PublishedCheckpoint | None:
        """The newest verified checkpoint of a job."""
        return cast("PublishedCheckpoint | None", self.value(RecordKind.CHECKPOINT, job_id))

    def quarantine(self, subject: str) -> QuarantineEntry | None:
        """The note on a unit or row that was set aside."""
        return cast("QuarantineEntry | None", self.value(RecordKind.QUARANTINE, subject))
