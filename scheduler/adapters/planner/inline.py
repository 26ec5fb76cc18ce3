"""The planner in this process: for library use, tests and simulations. It has no deadline and no crash isolation of processes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from scheduler.ports import PlanOutcome, PlanOutcomeKind
from trimtab.errors import NotFoundError, SolverError
from trimtab.plan import Plan, PlanningProblem

_KEPT = 1000


class InlinePlanner:
    """Plans when asked for the answer, so that ``submit`` returns at once. An exception of the planner becomes an outcome."""

    def __init__(self, plan: Callable[[PlanningProblem], Plan]) -> None:
        self._plan = plan
        self._waiting: dict[str, PlanningProblem] = {}
        self._done: OrderedDict[str, PlanOutcome] = OrderedDict()
        self._num_tickets = 0
        self._closed = False

    def submit(self, problem: PlanningProblem) -> str:
        """See the port."""
        if self._closed:
            raise SolverError("the planner is closed")
        self._num_tickets += 1
        ticket = f"inline-{self._num_tickets}"
        self._waiting[ticket] = problem
        return ticket

    def poll(self, ticket: str) -> PlanOutcome | None:
        """See the port."""
        problem = self._waiting.pop(ticket, None)
        if problem is not None:
            self._done[ticket] = self._outcome(ticket, problem)
            while len(self._done) > _KEPT:
                self._done.popitem(last=False)
        if ticket not in self._done:
            raise NotFoundError(f"no planning ticket {ticket!r}")
        return self._done[ticket]

    def _outcome(self, ticket: str, problem: PlanningProblem) -> PlanOutcome:
        try:
            return PlanOutcome(ticket=ticket, kind=PlanOutcomeKind.PLANNED, plan=self._plan(problem))
        except SolverError as error:
            return PlanOutcome(ticket=ticket, kind=PlanOutcomeKind.REFUSED, detail=str(error))
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"
            return PlanOutcome(ticket=ticket, kind=PlanOutcomeKind.CRASHED, detail=detail)

    def close(self) -> None:
        """See the port."""
        self._closed = True
