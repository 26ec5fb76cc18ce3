"""The ports of the control plane: what the loops need from outside, as small Protocols.

Every adapter of a port passes the same suite in ``tests/contract``. Expected outcomes are values; an exception means that the
outside
could not answer. ``scheduler.core`` never sees a port: it gets frozen data and ``now``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from scheduler.core.records import Change, EventDraft, Guard, Observation, Record, RecordKind, Sight, StoredEvent
from trimtab.ids import AttemptRef, JobId
from trimtab.inventory import Inventory, Offer, ProbeReport
from trimtab.measurement import KeptMeasurements, StepMeasurement
from trimtab.orders import (
    CheckpointNote,
    ClaimReply,
    ClaimRequest,
    ReportReply,
    RunOrder,
    RunReport,
)
from trimtab.plan import Plan, PlanningProblem

__all__ = [
    "Action",
    "AgentGateway",
    "AgentHandler",
    "Applied",
    "ApplyResult",
    "ArtifactStore",
    "Change",
    "Clock",
    "Conflict",
    "EventDraft",
    "Executor",
    "Guard",
    "Identity",
    "Lease",
    "LogChunk",
    "LogStore",
    "MeasurementShelf",
    "Notifier",
    "Observation",
    "PlanOutcome",
    "PlanOutcomeKind",
    "PlannerRunner",
    "PriceBook",
    "Principal",
    "ProbeShelf",
    "Record",
    "RecordKind",
    "Sight",
    "StaleTerm",
    "StateStore",
    "StoreSnapshot",
    "StoredEvent",
    "Telemetry",
]

# ---------------------------------------------------------------------------------------------------------------- state store


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The write took effect (now, or when the same op id was first applied). ``last_event`` is the newest event number after
    it."""

    last_event: int
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """At least one guard failed; nothing changed. ``rows`` holds (kind, id, version found)."""

    rows: tuple[tuple[RecordKind, str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleTerm:
    """A newer leader exists; nothing changed."""

    current: int


ApplyResult = Applied | Conflict | StaleTerm


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Leadership: ``term`` rises with each new holder."""

    holder: str
    term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSnapshot:
    """All records of the asked kinds and the newest event number, read at one moment."""

    records: tuple[Record, ...]
    last_event: int


class StateStore(Protocol):
    """Durable records and an append-only event log behind one write primitive."""

    def apply(
        self, *, op_id: str, term: int, guards: Sequence[Guard], changes: Sequence[Change], events: Sequence[EventDraft]
    ) -> ApplyResult:
        """All changes and events in one atomic, durable step, or none.

        The same ``op_id`` again gives the first answer without a second effect. ``term`` below the newest known gives
        StaleTerm; term 0
        is for writers that need no leadership (submit, cancel, claims). Raises UnknownOutcome where it cannot be told.
        """
        ...

    def get(self, kind: RecordKind, record_id: str) -> Record | None:
        """One row."""
        ...

    def scan(self, kind: RecordKind, *, after: str = "", limit: int = 1000) -> Sequence[Record]:
        """Rows of a kind in order of id, beginning behind ``after``."""
        ...

    def snapshot(self, kinds: Sequence[RecordKind]) -> StoreSnapshot:
        """All rows of these kinds, consistent."""
        ...

    def events_after(self, number: int, *, limit: int = 1000) -> Sequence[StoredEvent]:
        """Events with a higher number, in order."""
        ...

    def acquire_lease(self, holder: str, duration_s: float) -> Lease | None:
        """Become leader if the lease is free, expired (in store time) or already ours; else None."""
        ...

    def renew_lease(self, lease: Lease, duration_s: float) -> bool:
        """Prolong; False when somebody else leads now."""
        ...

    def release_lease(self, lease: Lease) -> None:
        """Give leadership up at once."""
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...


# ------------------------------------------------------------------------------------------------------------------- executor


class Executor(Protocol):
    """Starts and stops attempts. All calls return quickly; effects are seen through ``observe``."""

    def start(self, order: RunOrder) -> None:
        """Start the attempt's agents. Idempotent by attempt: a second call for a known attempt has no effect. Raises
        ExecutorError."""
        ...

    def stop(self, attempt: AttemptRef, *, grace_s: float) -> None:
        """Ask to stop, and kill what is left after the grace. Idempotent; unknown attempts are proven dead or ignored."""
        ...

    def checkpoint_now(self, attempt: AttemptRef) -> None:
        """Ask for a checkpoint as soon as the running step ends."""
        ...

    def observe(self) -> Sequence[Observation]:
        """Every attempt that was ever started and not yet forgotten, also those started before this process began."""
        ...

    def forget(self, attempt: AttemptRef) -> None:
        """The attempt is RELEASED in the store: drop what is kept about it (never its logs or checkpoints)."""
        ...

    def inventory(self) -> Inventory:
        """What there is, with what others use of it."""
        ...

    def close(self) -> None:
        """Detach. Running attempts go on."""
        ...


class AgentHandler(Protocol):
    """What the control plane does with the calls of agents. Thread-safe."""

    def claim(self, request: ClaimRequest, credential: str) -> ClaimReply:
        """May this agent run this attempt? Granted again to the same agent, to nobody else."""
        ...

    def report(self, report: RunReport, credential: str) -> ReportReply:
        """Take a report; a stale attempt gets ``fenced`` and changes nothing."""
        ...

    def publish_checkpoint(self, attempt: AttemptRef, note: CheckpointNote, credential: str) -> bool:
        """Make this the checkpoint to resume from. False when fenced: the writer must not use it."""
        ...


class AgentGateway(Protocol):
    """Brings the calls of agents to the handler. ``address`` goes into each RunOrder."""

    @property
    def address(self) -> str:
        """Where agents call: ``unix:/path`` or ``https://host:port``."""
        ...

    def serve(self, handler: AgentHandler) -> None:
        """Begin to take calls; returns at once."""
        ...

    def close(self) -> None:
        """Stop taking calls."""
        ...


# -------------------------------------------------------------------------------------------------------------------- planner


class PlanOutcomeKind(StrEnum):
    """How a planning round ended."""

    PLANNED = "planned"
    TIMED_OUT = "timed-out"
    CRASHED = "crashed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOutcome:
    """``plan`` is set when PLANNED; ``detail`` says what went wrong otherwise."""

    ticket: str
    kind: PlanOutcomeKind
    plan: Plan | None = None
    detail: str = ""


class PlannerRunner(Protocol):
    """Runs the planner elsewhere, with a hard deadline; a crash or hang there never reaches the loop."""

    def submit(self, problem: PlanningProblem) -> str:
        """Begin; returns a ticket. A second submit while one runs queues behind it."""
        ...

    def poll(self, ticket: str) -> PlanOutcome | None:
        """The outcome, or None while it runs. Raises NotFoundError for an unknown ticket."""
        ...

    def close(self) -> None:
        """Stop the planner process."""
        ...


# --------------------------------------------------------------------------------------------------------------------- others


class PriceBook(Protocol):
    """Prices."""

    def offers(self, at: datetime, inventory: Inventory) -> Sequence[Offer]:
        """Offers for the pools of the inventory at that time, each with source and date."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChunk:
    """Bytes of one rank's log from ``offset``; ``next_offset`` continues. ``complete``: the attempt ended and this is the end."""

    data: bytes
    next_offset: int
    complete: bool


class LogStore(Protocol):
    """Logs by attempt and rank; they outlive workers and control process."""

    def ranks(self, attempt: AttemptRef) -> Sequence[int]:
        """Ranks with a log; -1 is the agent's own."""
        ...

    def read(self, attempt: AttemptRef, rank: int, *, offset: int, limit: int) -> LogChunk:
        """A piece of the log; empty data where there is nothing yet. Raises NotFoundError for an attempt never started."""
        ...


class ArtifactStore(Protocol):
    """Checkpoints with verified manifests."""

    def checkpoint_dir(self, job_id: JobId) -> str:
        """Folder for the checkpoints of a job (created)."""
        ...

    def attempt_dir(self, attempt: AttemptRef) -> str:
        """Folder for order, logs and exit note of an attempt (created)."""
        ...

    def verify(self, note: CheckpointNote) -> bool:
        """Is the checkpoint still complete: manifest digest and every file's digest."""
        ...


class ProbeShelf(Protocol):
    """Keeps probe reports, the newest of each node fingerprint."""

    def reports(self) -> Sequence[ProbeReport]:
        """All reports that can be read, in order of fingerprint."""
        ...

    def put(self, report: ProbeReport) -> None:
        """Keep this report in place of an older one of the same fingerprint; durable when it returns."""
        ...


class MeasurementShelf(Protocol):
    """Keeps what runs measured, for calibration."""

    def kept(self) -> KeptMeasurements:
        """Everything. Raises SpecError naming each entry that cannot be read, StoreError where nothing can."""
        ...

    def put(self, measurement: StepMeasurement, *, again: bool = False) -> bool:
        """Keep it; durable when it returns. False where nothing changed: it is there already, or its source was forgotten.

        ``again``: take it in also where its source was forgotten.
        """
        ...

    def forget(self, name: str) -> frozenset[str]:
        """Take out, for good, the runs of that source, key or device type; their sources (none: nothing has that name)."""
        ...


class Notifier(Protocol):
    """Tells others about events."""

    def notify(self, event: StoredEvent) -> None:
        """At least once, in order; must not block the loop."""
        ...


class Action(StrEnum):
    """What a principal may do."""

    READ = "read"
    SUBMIT = "submit"
    CONTROL = "control"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who calls."""

    name: str
    role: str
    projects: tuple[str, ...]


class Identity(Protocol):
    """Who may do what."""

    def authenticate(self, token: str | None, *, local_user: str | None) -> Principal | None:
        """The caller, or None. On the unix socket the peer's user id is the proof."""
        ...

    def allowed(self, principal: Principal, action: Action, project: str) -> bool:
        """May this principal do this in that project?"""
        ...


class Clock(Protocol):
    """Time."""

    def now(self) -> datetime:
        """Aware wall-clock time, for people and records."""
        ...

    def monotonic(self) -> float:
        """Seconds for measuring waits."""
        ...

    def wait(self, seconds: float) -> bool:
        """Sleep; True when woken early by ``wake``."""
        ...

    def wake(self) -> None:
        """End a running wait (from any thread)."""
        ...


class Telemetry(Protocol):
    """Counters and timings."""

    def count(self, name: str, value: float = 1.0, **labels: str) -> None:
        """Add to a counter."""
        ...

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Record a value (seconds, ratios) into a histogram."""
        ...

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        ...
