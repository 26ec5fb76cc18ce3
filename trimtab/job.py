"""Records of the control plane: a job, its units and their attempts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from trimtab.ids import AttemptRef, JobId, NodeId, OfferId, PlanId, PoolId, UnitId
from trimtab.jobspec import JobSpec
from trimtab.lifecycle import (
    AttemptState,
    EndReason,
    FailureKind,
    Intent,
    QueueReason,
    ReleaseReason,
    UnitState,
)
from trimtab.strategy import Strategy


class JobState(StrEnum):
    """What a person is shown for a job; a function of its units and intent."""

    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    SUSPENDED = "SUSPENDED"
    UNKNOWN = "UNKNOWN"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


JOB_ENDS = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRef:
    """One device of the inventory."""

    pool_id: PoolId
    node_id: NodeId
    index: int

    def key(self) -> str:
        """Unique text of the device: ``pool/node/index``."""
        return f"{self.pool_id}/{self.node_id}/{self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job: what was asked, what is wanted now, and its units."""

    id: JobId
    spec: JobSpec
    spec_digest: str
    intent: Intent
    unit_ids: tuple[UnitId, ...]
    submitted_at: datetime
    submitted_by: str
    plan_id: PlanId | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A training gang or another unit of a job. ``attempt_number`` is that of the newest attempt, 0 before the first."""

    id: UnitId
    job_id: JobId
    state: UnitState
    attempt_number: int = 0
    queue_reason: QueueReason | None = QueueReason.PLANNING
    detail: str = ""
    end_reason: EndReason | None = None
    num_failures: int = 0
    num_losses: int = 0
    not_before: datetime | None = None
    queued_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try to run a unit on certain devices. ``credential_digest`` is the SHA-256 of the agent's secret.

    ``claimed_by`` names the agents that own it, one per line; ``summary`` holds the figures of a finished run.
    """

    ref: AttemptRef
    job_id: JobId
    state: AttemptState
    offer_id: OfferId
    price_usd_per_hour: float
    devices: tuple[DeviceRef, ...]
    strategy: Strategy | None
    plan_id: PlanId | None
    credential_digest: str
    assigned_at: datetime
    ready_at: datetime | None = None
    stop_requested_at: datetime | None = None
    stop_reason: str = ""
    lost_at: datetime | None = None
    state_before_lost: AttemptState | None = None
    released_at: datetime | None = None
    release_reason: ReleaseReason | None = None
    failure_kind: FailureKind | None = None
    exit_detail: str = ""
    claimed_by: str = ""
    cost_usd: float = 0.0
    summary: Mapping[str, float] = field(default_factory=dict)


def job_state(intent: Intent, units: tuple[Unit, ...], attempts: tuple[Attempt, ...]) -> JobState:
    """The shown state of a job of one unit; ``attempts`` holds the newest attempt of each unit that has one."""
    if not units:
        raise ValueError("a job has at least one unit")
    unit = units[0]
    newest = next((a for a in attempts if a.ref.unit_id == unit.id and a.ref.number == unit.attempt_number), None)
    if newest is not None and newest.state is AttemptState.UNKNOWN:
        return JobState.UNKNOWN
    if intent is not Intent.RUN and unit.state in (UnitState.STARTING, UnitState.RUNNING):
        return JobState.STOPPING
    return JobState(unit.state.value)
