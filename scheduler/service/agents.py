"""What the control plane does with the calls of agents: claims, reports, checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from scheduler.core import reflect
from scheduler.core.orders import credential_matches
from scheduler.core.snapshot import Snapshot, Write
from scheduler.ports import Applied
from scheduler.service.live import LiveBook
from scheduler.service.mirror import Mirror
from scheduler.service.wiring import ControlPorts
from trimtab.errors import StoreError
from trimtab.ids import AttemptRef
from trimtab.job import Attempt
from trimtab.orders import (
    CheckpointNote,
    ClaimReply,
    ClaimRequest,
    ClaimVerdict,
    ReportKind,
    ReportReply,
    RunReport,
)

_LOG = logging.getLogger("trimtab.agents")
_MAX_CONFLICTS = 20
_Reply = TypeVar("_Reply")


class AgentDesk:
    """AgentHandler. An answer goes out only after what it says is durable; a stale attempt changes nothing."""

    def __init__(self, ports: ControlPorts, mirror: Mirror, live: LiveBook) -> None:
        self._ports = ports
        self._mirror = mirror
        self._live = live

    def claim(self, request: ClaimRequest, credential: str) -> ClaimReply:
        """See the port."""
        if self._known(request.attempt, credential) is None:
            return ClaimReply(verdict=ClaimVerdict.REFUSED, detail="the credential does not belong to this attempt")
        reply = self._commit("claim", lambda snapshot: reflect.take_claim(snapshot, request, now=self._ports.clock.now()))
        if reply.verdict is ClaimVerdict.GRANTED:
            self._live.seen(request.attempt, self._ports.clock.monotonic())
        self._ports.telemetry.count("agent_claims", verdict=reply.verdict)
        return reply

    def report(self, report: RunReport, credential: str) -> ReportReply:
        """See the port. A report with a sequence number that was taken before changes nothing, whatever it says."""
        if self._known(report.attempt, credential) is None:
            return ReportReply(fenced=True)
        clock = self._ports.clock
        is_new = self._live.is_new(report, clock.monotonic())
        taken = report if is_new else _only_alive(report)
        reply = self._commit("report", lambda snapshot: reflect.take_report(snapshot, taken, now=clock.now()))
        if is_new and not reply.fenced:
            self._live.take(report, clock.monotonic(), clock.now())
        self._ports.telemetry.count("agent_reports", kind=report.kind, fenced=str(reply.fenced).lower())
        if report.kind is not ReportKind.HEARTBEAT:
            clock.wake()
        return reply

    def publish_checkpoint(self, attempt: AttemptRef, note: CheckpointNote, credential: str) -> bool:
        """See the port."""
        if self._known(attempt, credential) is None:
            return False
        self._live.seen(attempt, self._ports.clock.monotonic())
        return self._commit("publish", lambda snapshot: reflect.publish(snapshot, attempt, note, now=self._ports.clock.now()))

    def _known(self, ref: AttemptRef, credential: str) -> Attempt | None:
        attempt = self._mirror.settle().attempt(ref)
        if attempt is None or not credential_matches(attempt, credential):
            _LOG.warning("a call for %s with a credential that is not its own", ref)
            return None
        return attempt

    def _commit(self, label: str, ask: Callable[[Snapshot], tuple[Write | None, _Reply]]) -> _Reply:
        """Ask the pure function until its write is applied. Writes of agents need no leadership: rows guard them."""
        for _ in range(_MAX_CONFLICTS):
            write, reply = ask(self._mirror.settle())
            if write is None:
                return reply
            self._ports.crash_point(f"{label}.before-commit")
            result = self._mirror.commit(write)
            self._ports.crash_point(f"{label}.committed")
            if isinstance(result, Applied):
                return reply
        raise StoreError(f"a {label} lost against other writers {_MAX_CONFLICTS} times")


def _only_alive(report: RunReport) -> RunReport:
    return RunReport(attempt=report.attempt, sequence=report.sequence, kind=ReportKind.HEARTBEAT, at=report.at)
