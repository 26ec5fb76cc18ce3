"""Setting aside what is broken, so that the loop lives on: units whose invariants broke, rows that cannot be read."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from scheduler.core import attempts
from scheduler.core.records import RecordKind
from scheduler.core.rows import QuarantineEntry, encode_row
from scheduler.core.snapshot import Snapshot, Unreadable, Write
from scheduler.core.write import WriteBuilder
from trimtab import wire
from trimtab.job import Unit
from trimtab.lifecycle import QUARANTINE


def row_subject(unreadable: Unreadable) -> str:
    """Name of an unreadable row in the quarantine: ``<kind>/<id>``."""
    return f"{unreadable.record.kind}/{unreadable.record.id}"


def set_unit_aside(snapshot: Snapshot, unit: Unit, *, why: str, now: datetime) -> Write:
    """The unit FAILED (quarantined), its rows saved as they are. Its devices stay reserved until proof of death."""
    write = WriteBuilder(snapshot, now=now)
    rows = [encode_row(unit), *(encode_row(attempt) for attempt in snapshot.attempts_of(unit))]
    entry = QuarantineEntry(subject=unit.id, why=why, at=now, rows=wire.dumps(rows))
    write.put(RecordKind.QUARANTINE, unit.id, entry)
    if snapshot.job(unit.job_id) is not None:
        attempts.quarantine(write, unit, why=why)
    else:
        state, reason = QUARANTINE
        write.put_unit(replace(unit, state=state, end_reason=reason, detail=why, queue_reason=None))
    write.event("Quarantined", job_id=unit.job_id, body={"subject": unit.id, "why": why})
    return write.build()


def set_row_aside(snapshot: Snapshot, unreadable: Unreadable, *, now: datetime) -> Write | None:
    """Note an unreadable row in the quarantine, as it is; None where that was done before. The row itself stays."""
    subject = row_subject(unreadable)
    if snapshot.quarantine(subject) is not None:
        return None
    write = WriteBuilder(snapshot, now=now)
    entry = QuarantineEntry(subject=subject, why=unreadable.why, at=now, rows=wire.dumps(dict(unreadable.record.value)))
    write.put(RecordKind.QUARANTINE, subject, entry)
    write.event("Quarantined", body={"subject": subject, "why": unreadable.why})
    return write.build()
