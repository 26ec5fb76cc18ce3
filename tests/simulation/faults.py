"""Faults of the simulated world: what is lost, delayed, repeated, or dies, all drawn from one seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from scheduler.adapters.simulated.executor import SimulatedExecutor
from scheduler.adapters.simulated.world import World
from scheduler.ports import (
    AgentHandler,
    ApplyResult,
    Change,
    EventDraft,
    Guard,
    Lease,
    Observation,
    PlanOutcome,
    PlanOutcomeKind,
    Record,
    RecordKind,
    StateStore,
    StoredEvent,
    StoreSnapshot,
)
from trimtab.errors import ExecutorError, StoreError, UnknownOutcome
from trimtab.ids import AttemptRef
from trimtab.inventory import Inventory
from trimtab.orders import CheckpointNote, ClaimReply, ClaimRequest, ReportKind, ReportReply, RunOrder, RunReport
from trimtab.plan import Plan, PlanningProblem

_Reply = TypeVar("_Reply")
Call = Callable[[AgentHandler], object]


class SimulatedCrash(BaseException):
    """The control process dies here."""


class Fault(StrEnum):
    """Kinds of faults; a seed switches some of them off."""

    CRASH = "crash"
    LOST_REQUEST = "lost-request"
    LOST_REPLY = "lost-reply"
    REPEATED_CALL = "repeated-call"
    OLD_CALL = "old-call"
    SLOW_CLAIM = "slow-claim"
    LATE_START = "late-start"
    START_ERROR = "start-error"
    STOP_ERROR = "stop-error"
    OBSERVE_ERROR = "observe-error"
    STORE_ERROR = "store-error"
    STORE_UNKNOWN = "store-unknown"
    HIDDEN_NODE = "hidden-node"
    CUT_AGENT = "cut-agent"
    PARTITION = "partition"
    KILLED = "killed"
    RANK_FAILURE = "rank-failure"
    HANG = "hang"
    CLOCK_SET_BACK = "clock-set-back"
    DEVICE_TAKEN = "device-taken"
    SLOW_PLAN = "slow-plan"
    PLAN_FAILURE = "plan-failure"
    SECOND_LEADER = "second-leader"


class Dice:
    """Random choices of one seed. ``calm`` ends all faults."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.on = {fault: self.rng.random() < 0.5 for fault in Fault}
        self.rate = {fault: self.rng.choice([0.01, 0.05, 0.2]) for fault in Fault}
        self.calm = False
        self.counts: dict[Fault, int] = {}

    def strikes(self, fault: Fault, scale: float = 1.0) -> bool:
        """Does this fault happen now?"""
        if self.calm or not self.on[fault] or self.rng.random() >= self.rate[fault] * scale:
            return False
        self.counts[fault] = self.counts.get(fault, 0) + 1
        return True


class FaultyStore:
    """A store whose writes may fail before their effect, or take effect and then seem to fail."""

    def __init__(self, inner: StateStore, dice: Dice) -> None:
        self._inner = inner
        self._dice = dice

    def apply(
        self, *, op_id: str, term: int, guards: Sequence[Guard], changes: Sequence[Change], events: Sequence[EventDraft]
    ) -> ApplyResult:
        if self._dice.strikes(Fault.STORE_ERROR, 0.3):
            raise StoreError("simulated: the store does not answer")
        result = self._inner.apply(op_id=op_id, term=term, guards=guards, changes=changes, events=events)
        if self._dice.strikes(Fault.STORE_UNKNOWN):
            raise UnknownOutcome("simulated: the answer was lost")
        return result

    def get(self, kind: RecordKind, record_id: str) -> Record | None:
        return self._inner.get(kind, record_id)

    def scan(self, kind: RecordKind, *, after: str = "", limit: int = 1000) -> Sequence[Record]:
        return self._inner.scan(kind, after=after, limit=limit)

    def snapshot(self, kinds: Sequence[RecordKind]) -> StoreSnapshot:
        return self._inner.snapshot(kinds)

    def events_after(self, number: int, *, limit: int = 1000) -> Sequence[StoredEvent]:
        return self._inner.events_after(number, limit=limit)

    def acquire_lease(self, holder: str, duration_s: float) -> Lease | None:
        return self._inner.acquire_lease(holder, duration_s)

    def renew_lease(self, lease: Lease, duration_s: float) -> bool:
        if self._dice.strikes(Fault.STORE_ERROR, 0.3):
            raise StoreError("simulated: the store does not answer")
        return self._inner.renew_lease(lease, duration_s)

    def release_lease(self, lease: Lease) -> None:
        self._inner.release_lease(lease)

    def close(self) -> None:
        self._inner.close()


class FaultyExecutor:
    """Commands that fail before or after their effect, or take effect much later."""

    def __init__(self, world: World, dice: Dice) -> None:
        self._inner = SimulatedExecutor(world)
        self._world = world
        self._dice = dice
        self._late: list[tuple[float, RunOrder]] = []

    def advance(self, to_s: float) -> None:
        """Let delayed starts take effect."""
        due = [order for when, order in self._late if when <= to_s]
        self._late = [(when, order) for when, order in self._late if when > to_s]
        for order in due:
            self._inner.start(order)

    def start(self, order: RunOrder) -> None:
        if self._dice.strikes(Fault.LATE_START):
            self._late.append((self._world.now_s + self._dice.rng.uniform(1, 300), order))
            raise ExecutorError("simulated: no answer to the start")
        if self._dice.strikes(Fault.START_ERROR):
            if self._dice.rng.random() < 0.5:
                self._inner.start(order)
            raise ExecutorError("simulated: the start failed")
        self._inner.start(order)

    def stop(self, attempt: AttemptRef, *, grace_s: float) -> None:
        if self._dice.strikes(Fault.STOP_ERROR):
            if self._dice.rng.random() < 0.5:
                self._inner.stop(attempt, grace_s=grace_s)
            raise ExecutorError("simulated: the stop failed")
        self._inner.stop(attempt, grace_s=grace_s)

    def checkpoint_now(self, attempt: AttemptRef) -> None:
        self._inner.checkpoint_now(attempt)

    def observe(self) -> Sequence[Observation]:
        if self._dice.strikes(Fault.OBSERVE_ERROR):
            raise ExecutorError("simulated: nothing can be seen")
        return self._inner.observe()

    def forget(self, attempt: AttemptRef) -> None:
        self._inner.forget(attempt)

    def inventory(self) -> Inventory:
        return self._inner.inventory()

    def close(self) -> None:
        self._inner.close()


class FaultyLine:
    """The line from the agents: calls get lost, answers get lost, calls arrive twice; the control process may die in one."""

    def __init__(
        self,
        handler: AgentHandler,
        dice: Dice,
        *,
        cut: set[AttemptRef],
        old_calls: list[Call],
        on_crash: Callable[[SimulatedCrash], None],
    ) -> None:
        self._handler = handler
        self._dice = dice
        self._cut = cut
        self._old_calls = old_calls
        self._on_crash = on_crash

    def claim(self, request: ClaimRequest, credential: str) -> ClaimReply:
        return self._call(request.attempt, lambda handler: handler.claim(request, credential))

    def report(self, report: RunReport, credential: str) -> ReportReply:
        news = report.kind in (ReportKind.READY, ReportKind.EXITED)
        return self._call(report.attempt, lambda handler: handler.report(report, credential), may_come_again=news)

    def publish_checkpoint(self, attempt: AttemptRef, note: CheckpointNote, credential: str) -> bool:
        return self._call(attempt, lambda handler: handler.publish_checkpoint(attempt, note, credential))

    def _call(self, attempt: AttemptRef, act: Callable[[AgentHandler], _Reply], *, may_come_again: bool = True) -> _Reply:
        if attempt in self._cut or self._dice.strikes(Fault.LOST_REQUEST):
            raise ConnectionError("simulated: the call was lost")
        try:
            if self._dice.strikes(Fault.REPEATED_CALL):
                act(self._handler)
            if self._old_calls and self._dice.strikes(Fault.OLD_CALL, 2.0):
                self._dice.rng.choice(self._old_calls)(self._handler)
            reply = act(self._handler)
            if may_come_again:
                self._old_calls.append(act)
        except SimulatedCrash as crash:
            self._on_crash(crash)
            raise ConnectionError("simulated: the other side died") from None
        except StoreError as error:
            raise ConnectionError(str(error)) from error
        if self._dice.strikes(Fault.LOST_REPLY):
            raise ConnectionError("simulated: the answer was lost")
        return reply


class FaultyPlanner:
    """Plans late, fails, or answers with what was true long ago."""

    def __init__(self, plan: Callable[[PlanningProblem], Plan], dice: Dice, now_s: Callable[[], float]) -> None:
        self._plan = plan
        self._dice = dice
        self._now_s = now_s
        self._rounds: dict[str, tuple[float, PlanOutcome]] = {}

    def submit(self, problem: PlanningProblem) -> str:
        ticket = f"round-{len(self._rounds)}"
        delay_s = self._dice.rng.uniform(0, 60) if self._dice.strikes(Fault.SLOW_PLAN, 3.0) else 0.0
        if self._dice.strikes(Fault.PLAN_FAILURE, 2.0):
            kind = self._dice.rng.choice([PlanOutcomeKind.TIMED_OUT, PlanOutcomeKind.CRASHED, PlanOutcomeKind.REFUSED])
            outcome = PlanOutcome(ticket=ticket, kind=kind, detail="simulated")
        else:
            outcome = PlanOutcome(ticket=ticket, kind=PlanOutcomeKind.PLANNED, plan=self._plan(problem))
        self._rounds[ticket] = (self._now_s() + delay_s, outcome)
        return ticket

    def poll(self, ticket: str) -> PlanOutcome | None:
        when, outcome = self._rounds[ticket]
        return outcome if when <= self._now_s() else None

    def close(self) -> None:
        self._rounds.clear()


def in_order(counts: Mapping[Fault, int]) -> dict[str, int]:
    """Counts by name, for printing."""
    return {fault.value: counts[fault] for fault in Fault if fault in counts}
