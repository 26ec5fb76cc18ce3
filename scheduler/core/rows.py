"""What each kind of row holds, as typed values, and their wire form in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import cast

from scheduler.core.records import RecordKind
from trimtab import wire
from trimtab.ids import AttemptRef, JobId, UnitId
from trimtab.job import Attempt, Job, Unit
from trimtab.orders import CheckpointNote
from trimtab.plan import Plan


class CommandAction(StrEnum):
    """What a committed command does outside."""

    START = "start"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOwner:
    """The attempt that a device belongs to. A free device has no row."""

    owner: AttemptRef


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingCommand:
    """A command that was committed before the act. START goes when it was carried out, STOP when the attempt is released."""

    attempt: AttemptRef
    action: CommandAction
    committed_at: datetime
    grace_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCheckpoint:
    """The newest verified checkpoint of a job and the attempt that wrote it."""

    attempt: AttemptRef
    note: CheckpointNote
    published_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """What an attempt cost: hours from assignment to release at the offer's price of all its devices together."""

    attempt: AttemptRef
    job_id: JobId
    hours: float
    price_usd_per_hour: float
    cost_usd: float
    released_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyEntry:
    """The job that was made for an idempotency key, and the digest of the body that made it."""

    job_id: JobId
    body_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlan:
    """A plan; for one made for a job before its submission also that job's digest and the unit id that the plan calls it by."""

    plan: Plan
    spec_digest: str = ""
    unit_id: UnitId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineEntry:
    """A unit or row that was set aside: why, and its rows as canonical JSON text."""

    subject: str
    why: str
    at: datetime
    rows: str = ""


RowValue = (
    Job
    | Unit
    | Attempt
    | DeviceOwner
    | PendingCommand
    | PublishedCheckpoint
    | LedgerEntry
    | IdempotencyEntry
    | StoredPlan
    | QuarantineEntry
)

ROW_TYPES: Mapping[RecordKind, type[RowValue]] = MappingProxyType(
    {
        RecordKind.JOB: Job,
        RecordKind.UNIT: Unit,
        RecordKind.ATTEMPT: Attempt,
        RecordKind.DEVICE: DeviceOwner,
        RecordKind.INTENT: PendingCommand,
        RecordKind.PLAN: StoredPlan,
        RecordKind.IDEMPOTENCY: IdempotencyEntry,
        RecordKind.CHECKPOINT: PublishedCheckpoint,
        RecordKind.LEDGER: LedgerEntry,
        RecordKind.QUARANTINE: QuarantineEntry,
    }
)


def encode_row(value: RowValue) -> Mapping[str, object]:
    """The stored form of a row."""
    return cast("Mapping[str, object]", wire.encode(value))


def decode_row(kind: RecordKind, value: Mapping[str, object]) -> RowValue:
    """The typed value of a stored row. Raises WireError for a row that does not have the shape of its kind."""
    return wire.decode(ROW_TYPES[kind], value, kind.value)


def command_id(attempt: AttemptRef, action: CommandAction) -> str:
    """Row id of a pending command: ``<attempt>/<action>``."""
    return f"{attempt}/{action}"
