"""What the control plane shows of its records to callers: the bodies of the REST API, the SDK and the CLI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from trimtab.estimate import Estimate
from trimtab.ids import AttemptRef, JobId, PlanId
from trimtab.job import JobState
from trimtab.jobspec import JobKind
from trimtab.lifecycle import AttemptState, FailureKind, Intent, ReleaseReason
from trimtab.orders import Progress
from trimtab.plan import RankMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """One attempt, without secrets."""

    ref: AttemptRef
    state: AttemptState
    devices: tuple[str, ...]
    pool: str
    strategy: str
    price_usd_per_hour: float
    assigned_at: datetime
    ready_at: datetime | None = None
    released_at: datetime | None = None
    release_reason: ReleaseReason | None = None
    failure_kind: FailureKind | None = None
    exit_detail: str = ""
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """One job as a person sees it. ``reason`` is a CamelCase or hyphenated code, ``detail`` the sentence; ``observed_at`` is
    when the
    newest report of its attempt arrived. ``summary`` holds figures of the finished run."""

    id: JobId
    name: str
    kind: JobKind
    project: str
    state: JobState
    reason: str
    detail: str
    intent: Intent
    priority: int
    submitted_at: datetime
    submitted_by: str
    ended_at: datetime | None = None
    plan_id: PlanId | None = None
    attempts: tuple[AttemptView, ...] = ()
    progress: Progress | None = None
    predicted_step_s: Estimate | None = None
    predicted_memory: tuple[RankMemory, ...] = ()
    checkpoint_step: int | None = None
    eta_s: float | None = None
    cost_usd: float = 0.0
    num_failures: int = 0
    num_losses: int = 0
    observed_at: datetime | None = None
    summary: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a job is where it is: the binding reason, who holds what it needs, and the smallest change that would let it run."""

    job_id: JobId
    state: JobState
    reason: str
    detail: str
    holders: tuple[str, ...] = ()
    smallest_change: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """One event of the log."""

    number: int
    kind: str
    at: datetime
    job_id: JobId | None
    attempt: AttemptRef | None
    body: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """The control process. ``num_jobs`` counts by state; ``warnings`` name each setting that is not safe and each fault it
    lives with."""

    version: str
    pid: int
    started_at: datetime
    home: str
    store: str
    term: int
    last_event: int
    num_jobs: Mapping[str, int]
    num_devices: int
    num_free_devices: int
    last_cycle_s: float
    warnings: tuple[str, ...] = ()
