"""What the entrypoints may ask of the control plane. ``scheduler.service.control.ControlPlane`` implements it; thread-safe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from scheduler.ports import LogChunk
from trimtab.ids import AttemptRef
from trimtab.inventory import Inventory, ProbeReport
from trimtab.jobspec import JobSpec
from trimtab.plan import Plan
from trimtab.views import EventView, Explanation, JobView, ServerStatus


class ControlService(Protocol):
    """Verbs of the control plane. ``job`` parameters take an id, a unique prefix of one, or the newest job of that name."""

    def plan(self, spec: JobSpec) -> Plan:
        """Plan this job beside what runs now; store the plan; change nothing else. Raises InfeasibleError, SolverError."""
        ...

    def stored_plan(self, plan_id: str) -> Plan:
        """A plan made before. Raises NotFoundError."""
        ...

    def submit(self, spec: JobSpec, *, plan_id: str | None, idempotency_key: str | None, submitted_by: str) -> JobView:
        """Accept a job; durable when it returns. The same key with the same body gives the same job, with another body
        ConflictError.

        With ``plan_id`` the job starts with that plan's assignment if it still holds, else ConflictError (plan out of date).
        """
        ...

    def jobs(self, *, states: Sequence[str] = (), limit: int = 100, after: str = "") -> Sequence[JobView]:
        """Jobs, newest first."""
        ...

    def job(self, job: str) -> JobView:
        """One job. Raises NotFoundError (naming close matches)."""
        ...

    def cancel(self, job: str) -> JobView:
        """Intent CANCEL: final once this returns. Idempotent; ConflictError for a job that ended otherwise."""
        ...

    def suspend(self, job: str) -> JobView:
        """Intent SUSPEND."""
        ...

    def resume(self, job: str) -> JobView:
        """Intent RUN after SUSPEND."""
        ...

    def vouch_dead(self, attempt: AttemptRef, *, operator: str) -> None:
        """An operator vouches that nothing of an UNKNOWN attempt runs any more."""
        ...

    def explain(self, job: str) -> Explanation:
        """Why the job is where it is."""
        ...

    def events(self, *, after: int, job: str | None = None, limit: int = 1000) -> Sequence[EventView]:
        """Events with a higher number."""
        ...

    def wait_events(self, *, after: int, timeout_s: float) -> bool:
        """Block until an event (or progress) newer than ``after`` may exist, or the timeout."""
        ...

    def log(self, job: str, *, attempt: int | None, rank: int, offset: int, limit: int) -> LogChunk:
        """A piece of a rank's log; the newest attempt by default. Empty and incomplete while the job is queued."""
        ...

    def log_ranks(self, job: str, *, attempt: int | None) -> Sequence[int]:
        """Ranks with a log."""
        ...

    def inventory(self) -> Inventory:
        """What there is now."""
        ...

    def probes(self) -> Sequence[ProbeReport]:
        """Probe reports that plans use."""
        ...

    def put_probe(self, report: ProbeReport) -> None:
        """Use this report from now on."""
        ...

    def status(self) -> ServerStatus:
        """The control process itself."""
        ...
