"""The hard limits of a job, and by how much a candidate breaks them."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.plan import Candidate, PlanRequest, RejectionReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A limit that a candidate breaks. ``field`` is its place in the job file; ``needed`` and ``limit`` have its unit."""

    reason: RejectionReason
    field: str
    needed: float
    limit: float
    sentence: str

    @property
    def ratio(self) -> float:
        """How many times the limit would have to be what it is (infinite for a limit of 0)."""
        return self.needed / self.limit if self.limit > 0 else float("inf")


def violations(request: PlanRequest, candidate: Candidate) -> tuple[Violation, ...]:
    """Every limit that the candidate breaks: $/h, total cost, hours, deadline.

    Time and cost of a user's own program are not known and break nothing. The deadline counts from the submission: what the unit
    has waited is already gone.
    """
    limits, found = request.spec.limits, []
    if limits.max_usd_per_hour is not None and candidate.price_usd_per_hour > limits.max_usd_per_hour:
        found.append(
            Violation(
                reason=RejectionReason.OVER_RATE,
                field="limits.max_usd_per_hour",
                needed=candidate.price_usd_per_hour,
                limit=limits.max_usd_per_hour,
                sentence=f"costs ${candidate.price_usd_per_hour:.2f} per hour, over the limit of ${limits.max_usd_per_hour:.2f}",
            )
        )
    if candidate.strategy is None:
        return tuple(found)
    cost, hours = candidate.cost_usd.value, candidate.total_s.value / 3600.0
    if limits.max_cost_usd is not None and cost > limits.max_cost_usd:
        found.append(
            Violation(
                reason=RejectionReason.OVER_COST,
                field="limits.max_cost",
                needed=cost,
                limit=limits.max_cost_usd,
                sentence=f"costs ${cost:.2f}, over the limit of ${limits.max_cost_usd:.2f}",
            )
        )
    if limits.max_hours is not None and hours > limits.max_hours:
        found.append(
            Violation(
                reason=RejectionReason.OVER_TIME,
                field="limits.max_hours",
                needed=hours,
                limit=limits.max_hours,
                sentence=f"takes {hours:.2f} h, over the limit of {limits.max_hours:.2f} h",
            )
        )
    late = _deadline(request, hours)
    return (*found, late) if late is not None else tuple(found)


def _deadline(request: PlanRequest, hours: float) -> Violation | None:
    deadline = request.spec.deadline_hours
    if deadline is None:
        return None
    waited = request.waiting_s / 3600.0
    if hours + waited <= deadline:
        return None
    return Violation(
        reason=RejectionReason.MISSES_DEADLINE,
        field="deadline_hours",
        needed=hours + waited,
        limit=deadline,
        sentence=f"ends {hours + waited:.2f} h after it was submitted, later than the deadline of {deadline:.2f} h",
    )
