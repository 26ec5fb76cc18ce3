"""What a plan says beside its choice: alternatives, rejections with reasons, objective parts, constants, warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from planner.candidates.generate import CandidateSet, Scored
from planner.formulation.columns import Column, UnitColumns
from planner.formulation.constants import objective_constants
from planner.formulation.objective import PART_NAMES, column_parts
from trimtab.estimate import Constant
from trimtab.ids import OfferId
from trimtab.inventory import Offer
from trimtab.jobspec import JobKind
from trimtab.plan import Assignment, Candidate, ObjectivePart, PlanningProblem, Rejection, RejectionReason
from trimtab.prices import STALE_AFTER_DAYS, age_days

NUM_ALTERNATIVES = 2
FEW_STEPS_PER_DATA_RANK = 20
"""Below this many optimizer steps per data rank, splitting the data leaves each rank little to average over."""


def alternatives(
    unit: UnitColumns, found: CandidateSet, chosen: Column, *, offers: Mapping[OfferId, Offer]
) -> tuple[Candidate, ...]:
    """The next best candidates that split the work in another way, best first.

    Another way: other degrees, number of devices or pool. Where there are too few of these, other micro-batches and recompute
    fill up.
    """

    def objective(entry: Scored) -> float:
        parts = column_parts(entry, unit.scale, spec=found.request.spec, offer=offers[entry.candidate.offer_id])
        return sum(part.usd_per_hour for part in parts)

    ordered = sorted(
        (entry for entry in found.feasible if entry is not chosen.scored),
        key=lambda entry: (objective(entry), _label(entry.candidate), entry.candidate.offer_id),
    )
    seen = {_way(chosen.scored.candidate)}
    picked: list[Candidate] = []
    for entry in ordered:
        if len(picked) < NUM_ALTERNATIVES and _way(entry.candidate) not in seen:
            seen.add(_way(entry.candidate))
            picked.append(entry.candidate)
    for entry in ordered:
        if len(picked) < NUM_ALTERNATIVES and entry.candidate not in picked:
            picked.append(entry.candidate)
    return tuple(picked)


def rejections(found: CandidateSet, unit: UnitColumns | None, chosen: Column | None) -> tuple[Rejection, ...]:
    """Everything that was considered for a unit and not chosen, one entry per reason and rule, with counts."""
    out = list(found.rejections)
    out += _over_limits(found)
    if unit is not None:
        out += _dominated(found, unit)
        if chosen is not None:
            out += _worse(found, unit, chosen)
    return tuple(out)


def objective_parts(columns: Iterable[Column], waiting: Iterable[ObjectivePart]) -> tuple[ObjectivePart, ...]:
    """The objective by part, summed over units, in a fixed order; parts that are 0 are left out."""
    totals = dict.fromkeys(PART_NAMES, 0.0)
    for part in (*(part for column in columns for part in column.parts), *waiting):
        totals[part.name] += part.usd_per_hour
    return tuple(ObjectivePart(name=name, usd_per_hour=value) for name, value in totals.items() if value != 0.0)


def constants(chosen: Sequence[Scored]) -> tuple[Constant, ...]:
    """The constants of the chosen predictions and of the objective, each once."""
    merged: dict[tuple[str, float], Constant] = {}
    for constant in (*(c for entry in chosen for c in entry.constants), *objective_constants()):
        merged.setdefault((constant.name, constant.value), constant)
    return tuple(merged.values())


def warnings(problem: PlanningProblem, assignments: Sequence[Assignment]) -> tuple[str, ...]:
    """What a person should know: old prices, many data ranks for few steps, tight memory, unknown duration."""
    offers = {offer.id: offer for offer in problem.inventory.offers}
    specs = {request.unit_id: request.spec for request in problem.requests}
    out: list[str] = []
    for offer_id in dict.fromkeys(assignment.candidate.offer_id for assignment in assignments):
        out += _price_warning(offers[offer_id], problem)
    for assignment in assignments:
        spec, candidate = specs[assignment.unit_id], assignment.candidate
        if spec.train is not None and candidate.strategy is not None:
            ranks, steps = candidate.strategy.data_ranks, spec.train.num_steps
            if ranks > 1 and steps < FEW_STEPS_PER_DATA_RANK * ranks:
                out.append(
                    f"{spec.name}: {steps} steps over {ranks} data ranks; data parallel suits long runs, and here start-up and "
                    f"gradient exchange weigh more than in {FEW_STEPS_PER_DATA_RANK * ranks} steps or more"
                )
        if candidate.fit == "tight":
            out.append(f"{spec.name}: memory is tight: the upper end of its interval is above what a device has")
        if spec.kind is JobKind.COMMAND and (spec.limits.max_cost_usd is not None or spec.limits.max_hours is not None):
            out.append(f"{spec.name}: the duration of a program is not known, so max_cost and max_hours bind only while it runs")
    return tuple(out)


def _price_warning(offer: Offer, problem: PlanningProblem) -> list[str]:
    if offer.is_assumed:
        return [f"offer {offer.id}: its price is {offer.source}"]  # no age: it was never anybody's price
    try:
        age = age_days(offer.retrieved_on, problem.now)
    except ValueError:
        return [f"offer {offer.id}: {offer.retrieved_on!r} is not a date, so the age of its price is not known"]
    if age is not None and age > STALE_AFTER_DAYS:
        return [f"offer {offer.id}: its price is {age} days old ({offer.source}, {offer.retrieved_on})"]
    return []


def _over_limits(found: CandidateSet) -> list[Rejection]:
    by_reason: dict[RejectionReason, list[tuple[float, str, Scored]]] = {}
    for entry in found.over_limit:
        first = entry.violations[0]
        by_reason.setdefault(first.reason, []).append((first.ratio, first.sentence, entry))
    out = []
    for reason, entries in by_reason.items():
        ratio, sentence, entry = min(entries, key=lambda item: item[0])
        field = next(v.field for v in entry.violations if v.reason is reason)
        out.append(
            Rejection(
                unit_id=found.request.unit_id,
                reason=reason,
                rule=field,
                detail=f"the closest, {describe(entry.candidate)}, {sentence} ({ratio:.2f} times)",
                strategy=entry.candidate.strategy,
                count=len(entries),
            )
        )
    return out


def _dominated(found: CandidateSet, unit: UnitColumns) -> list[Rejection]:
    pairs = unit.pruned.dominated
    if not pairs:
        return []
    loser, winner = min(pairs, key=lambda pair: (pair[0].candidate.total_s.value, _label(pair[0].candidate)))
    detail = (
        f"no better in devices, time, cost and memory headroom than another: the fastest of them, {describe(loser.candidate)}, "
        f"loses to {describe(winner.candidate)}"
    )
    return [
        Rejection(
            unit_id=found.request.unit_id,
            reason=RejectionReason.DOMINATED,
            rule="pareto-set",
            detail=detail,
            strategy=loser.candidate.strategy,
            count=len(pairs),
        )
    ]


def _worse(found: CandidateSet, unit: UnitColumns, chosen: Column) -> list[Rejection]:
    others = [column for column in unit.columns if column.scored is not chosen.scored]
    if not others:
        return []
    best = min(others, key=lambda column: (column.objective, _label(column.scored.candidate)))
    difference = best.objective - chosen.objective
    verb = (
        f"is ${difference:.4g}/h worse"
        if difference >= 0
        else f"would be ${-difference:.4g}/h better but its devices are needed elsewhere"
    )
    detail = f"the best of them, {describe(best.scored.candidate)}, {verb} for optimize: {found.request.spec.optimize}"
    return [
        Rejection(
            unit_id=found.request.unit_id,
            reason=RejectionReason.WORSE,
            rule="objective",
            detail=detail,
            strategy=best.scored.candidate.strategy,
            count=len({id(column.scored) for column in others}),
        )
    ]


def describe(candidate: Candidate) -> str:
    """A candidate in a few words: strategy, devices, time and cost."""
    devices = f"{candidate.shape.num_devices} devices of {candidate.offer_id}"
    if candidate.strategy is None:
        return f"{devices} (${candidate.price_usd_per_hour:.2f}/h)"
    return f"{candidate.strategy.label()} on {devices} ({duration(candidate.total_s.value)}, ${candidate.cost_usd.value:.2f})"


def duration(seconds: float) -> str:
    """A time for people: seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.2f} h"


def _way(candidate: Candidate) -> tuple[object, ...]:
    s = candidate.strategy
    degrees = (s.dp, s.fsdp, s.zero_stage, s.tp, s.cp, s.pp, s.ep) if s is not None else ()
    return (candidate.pool_id, candidate.shape.num_devices, degrees)


def _label(candidate: Candidate) -> str:
    s = candidate.strategy
    return "" if s is None else f"{s.label()} {s.stage_layers}"
