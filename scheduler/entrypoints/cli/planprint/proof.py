"""What was refused and why, what the solver proved, and what the plan rests on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from scheduler.entrypoints.cli.columns import wrapped
from scheduler.entrypoints.cli.words import moment_text, percent_text, plural, seconds_text, usd_text
from trimtab.ids import UnitId
from trimtab.inventory import Inventory
from trimtab.plan import Plan, Rejection, RejectionReason, SolveStatus

Style = Callable[..., str]
_DETAILS_PER_REASON = 3
_REASON_WIDTH = 20

_MEANING = {
    RejectionReason.ILLEGAL: "broke a rule of the model, the batch or the trainer",
    RejectionReason.DOES_NOT_FIT: "needs more memory than a device has",
    RejectionReason.OVER_COST: "costs more than limits.max_cost",
    RejectionReason.OVER_TIME: "takes longer than limits.max_hours",
    RejectionReason.OVER_RATE: "costs more per hour than limits.max_hourly",
    RejectionReason.MISSES_DEADLINE: "ends after the deadline",
    RejectionReason.NOT_REQUESTED: "the job asks for other devices, markets or degrees",
    RejectionReason.DOMINATED: "another one on the same devices is faster and needs no more memory",
    RejectionReason.WORSE: "feasible, and worse for the objective",
    RejectionReason.NO_CAPACITY: "its devices are not there or not free",
}
_STATUS = {
    SolveStatus.OPTIMAL: "optimal: bound and objective prove it",
    SolveStatus.FEASIBLE: "feasible; not proved optimal",
    SolveStatus.INFEASIBLE: "proved infeasible",
    SolveStatus.TIME_LIMIT: "stopped at the time limit; the best answer found by then",
    SolveStatus.ERROR: "the solver failed; this is the greedy plan",
}


def rejection_lines(plan: Plan, unit_id: UnitId, *, width: int, style: Style) -> list[str]:
    """Refused candidates by typed reason, with counts and the commonest details."""
    mine = [rejection for rejection in plan.rejections if rejection.unit_id == unit_id]
    if not mine:
        return []
    total = sum(rejection.count for rejection in mine)
    lines = [style("REJECTED", "bold") + f"  {plural(total, 'candidate')}"]
    for reason in RejectionReason:
        members = [rejection for rejection in mine if rejection.reason is reason]
        if members:
            lines += _reason_lines(reason, members, width, style)
    return [*lines, ""]


def _reason_lines(reason: RejectionReason, members: Sequence[Rejection], width: int, style: Style) -> list[str]:
    count = sum(member.count for member in members)
    lines = [f"  {style(reason.value, 'yellow')}{' ' * (_REASON_WIDTH - len(reason.value))}{count:>7,}  {_MEANING[reason]}"]
    shown = sorted(members, key=lambda member: -member.count)[:_DETAILS_PER_REASON]
    for member in shown:
        label = (
            f"{member.strategy.label()}: " if member.strategy is not None and member.strategy.label() not in member.detail else ""
        )
        times = f" (×{member.count:,})" if member.count > 1 and len(members) > 1 else ""
        lines += wrapped(f"{label}{member.detail}{times}", width=width, first=" " * (_REASON_WIDTH + 11))
    if len(members) > len(shown):
        rest = len(members) - len(shown)
        lines.append(" " * (_REASON_WIDTH + 11) + style(f"and {plural(rest, 'other detail')}; -o json has them all", "dim"))
    return lines


def objective_lines(plan: Plan, *, width: int, style: Style) -> list[str]:
    """Objective, bound and gap as the solver proved them."""
    solve = plan.solve
    lines = [style("OBJECTIVE", "bold") + f"  {usd_text(solve.objective_usd_per_hour)}/h, to be as small as possible"]
    parts = [f"{part.name} {usd_text(part.usd_per_hour)}/h" for part in plan.objective]
    if parts:
        lines += wrapped(" + ".join(parts), width=width, first="  parts      ")
    bound = "no bound proved" if not math.isfinite(solve.bound_usd_per_hour) else f"bound {usd_text(solve.bound_usd_per_hour)}/h"
    gap = "gap unknown" if not math.isfinite(solve.gap_frac) else f"gap {percent_text(solve.gap_frac)}"
    lines += wrapped(f"{_STATUS[solve.status]}; {bound}, {gap}", width=width, first="  proof      ")
    effort = f"{plural(solve.num_candidates, 'candidate')}, {plural(solve.num_columns, 'column')} after pruning"
    lines += wrapped(f"{solve.solver}, {effort}, {seconds_text(solve.seconds)}", width=width, first="  solver     ")
    return [*lines, ""]


def basis_lines(plan: Plan, inventory: Inventory, *, width: int, style: Style) -> list[str]:
    """What the plan was made from and until when it holds, and the warnings."""
    life_s = (plan.expires_at - plan.made_at).total_seconds()
    devices = sum(pool.num_devices for pool in inventory.pools)
    seen = f"{plural(devices, 'device')} in {plural(len(inventory.pools), 'pool')} ({inventory.source})"
    lines = [
        style("BASIS", "bold")
        + f"  made {moment_text(plan.made_at)}, expires {moment_text(plan.expires_at)} ({seconds_text(life_s)})"
    ]
    lines += wrapped(f"{seen}; state version {plan.basis_version}", width=width, first="  inventory  ")
    for warning in plan.warnings:
        first, *rest = wrapped(warning, width=width, first="  warning    ")
        lines += [first.replace("warning", style("warning", "yellow"), 1), *rest]
    return lines
