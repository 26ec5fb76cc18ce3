"""Rows, guards, changes, events and observations: the frozen data that the core reads and returns.

``scheduler.ports`` re-exports them; a store keeps rows and events as they are here, an executor reports observations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from trimtab.ids import AttemptRef, JobId, NodeId
from trimtab.orders import RunReport


class RecordKind(StrEnum):
    """Kinds of records in the store. The value of each is the wire form of the kernel's dataclass, or a small mapping."""

    JOB = "job"
    UNIT = "unit"
    ATTEMPT = "attempt"
    DEVICE = "device"  # id DeviceRef.key(), value {"owner": attempt}; absent: free
    INTENT = "intent"  # id "<attempt>/start" or "<attempt>/stop": a command committed and not yet confirmed
    PLAN = "plan"
    IDEMPOTENCY = "idempotency"
    CHECKPOINT = "checkpoint"  # id job id, value CheckpointNote of the newest verified checkpoint and the attempt that wrote it
    LEDGER = "ledger"  # id attempt, value cost, hours, price
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One stored row. ``version`` starts at 1 and rises by one with each change of this row."""

    kind: RecordKind
    id: str
    version: int
    value: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The row must have exactly this version; 0 means that it must not exist."""

    kind: RecordKind
    id: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Put the row to ``value``, or delete it where ``value`` is None."""

    kind: RecordKind
    id: str
    value: Mapping[str, object] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDraft:
    """An event to append: a CamelCase kind, the job and attempt that it concerns, and a small body."""

    kind: str
    at: datetime
    job_id: JobId | None = None
    attempt: AttemptRef | None = None
    body: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event with its number (rises by one, no gaps)."""

    number: int
    draft: EventDraft


class Sight(StrEnum):
    """What an executor knows of an attempt. DEAD needs proof that none of its processes is left; UNSEEN is no proof."""

    ALIVE = "alive"
    DEAD = "dead"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One attempt as seen at ``at``. ``exit_file`` content, if the agent left one, travels as the last report."""

    attempt: AttemptRef
    sight: Sight
    at: datetime
    node_id: NodeId | None = None
    last_report: RunReport | None = None
    spot_notice_s: float | None = None
    detail: str = ""
