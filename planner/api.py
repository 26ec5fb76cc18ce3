"""The planner's door: a problem in, a plan out. Pure: the same problem gives the same plan, byte for byte."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from planner import explain, report
from planner.candidates.fixed import fixed_candidate
from planner.candidates.generate import CandidateSet, Generator, Scored
from planner.formulation.columns import Column, UnitColumns, unit_columns
from planner.formulation.objective import offers_by_id, priority_steps
from planner.optimise import Choice, optimise
from planner.placement.occupancy import PoolSlots, pool_slots
from planner.solve.pulp_backends import BACKENDS, Backend
from planner.verify.checker import check_plan
from trimtab.errors import SolverError
from trimtab.ids import JobId, OfferId, PoolId, UnitId, new_plan_id, unit_id
from trimtab.inventory import Inventory, Offer, ProbeReport
from trimtab.jobspec import JobSpec
from trimtab.measurement import StepMeasurement
from trimtab.plan import (
    Assignment,
    Candidate,
    Placement,
    Plan,
    PlanningProblem,
    PlanRequest,
    Rejection,
    SolveReport,
    SolveStatus,
    Unplaced,
)
from trimtab.wire import dumps

_ESTIMATE_JOB = JobId("job_estimate")


def plan(problem: PlanningProblem, *, clock: Callable[[], float] | None = None, backends: Sequence[Backend] = BACKENDS) -> Plan:
    """The plan of a problem. A unit that cannot run is in ``unplaced`` with its reason; nothing is raised for it.

    ``clock`` (seconds, monotonic) only fills in ``solve.seconds``; without it that is 0 and equal problems give equal bytes.
    The plan is checked before it is handed out; raises SolverError where neither the solver's nor the greedy plan passes.
    """
    started = clock() if clock is not None else 0.0
    work = _prepare(problem)
    faults: tuple[str, ...] = ()
    for solvers in (backends, ()):
        choice = optimise(work.units, work.slots, work.offer_limits, time_limit_s=problem.time_limit_s, backends=solvers)
        seconds = clock() - started if clock is not None else 0.0
        made = _assemble(problem, work, choice, seconds)
        faults = check_plan(problem, made)
        if not faults:
            return made
    raise SolverError("the plan does not pass its check: " + "; ".join(faults))


def estimate(
    spec: JobSpec,
    inventory: Inventory,
    probes: Sequence[ProbeReport] = (),
    *,
    measurements: Sequence[StepMeasurement] = (),
) -> tuple[Candidate, ...]:
    """Every candidate of a job on an inventory, also those over a limit: those that surely fit first, then by time.

    Empty where nothing fits; ``plan`` says why.
    """
    request = PlanRequest(unit_id=unit_id(_ESTIMATE_JOB, 0), job_id=_ESTIMATE_JOB, spec=spec)
    problem = PlanningProblem(
        basis_version=0,
        now=inventory.observed_at,
        inventory=inventory,
        requests=(request,),
        probes=tuple(probes),
        measurements=tuple(measurements),
    )
    found = _generator(problem, pool_slots(problem)).candidates(request)
    scored = (*found.feasible, *found.over_limit)
    ordered = sorted(scored, key=lambda s: (s.candidate.fit != "fits", s.candidate.total_s.value, s.candidate.offer_id))
    return tuple(entry.candidate for entry in ordered)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What is known before anything is chosen. ``fixed`` are the units that keep what they have."""

    slots: Mapping[PoolId, PoolSlots]
    offer_limits: Mapping[OfferId, int]
    fixed: tuple[tuple[PlanRequest, Scored], ...]
    found: tuple[CandidateSet, ...]
    units: tuple[UnitColumns, ...]
    generator: Generator


def _generator(problem: PlanningProblem, slots: Mapping[PoolId, PoolSlots]) -> Generator:
    return Generator(problem.inventory, problem.probes, slots, measurements=problem.measurements, now=problem.now)


def _prepare(problem: PlanningProblem) -> _Work:
    slots = pool_slots(problem)
    generator = _generator(problem, slots)
    offers = offers_by_id(problem.inventory.offers)
    fixed = tuple((r, fixed_candidate(r, problem.inventory, generator)) for r in problem.requests if r.fixed and r.held)
    open_requests = [request for request in problem.requests if not (request.fixed and request.held)]
    steps = priority_steps(open_requests)
    found = tuple(generator.candidates(request) for request in open_requests)
    units = tuple(made for entry in found if (made := unit_columns(entry, offers, steps)) is not None)
    limits = {
        offer.id: max(offer.nodes_now, offer.nodes_possible) * slots[offer.pool_id].pool.devices_per_node
        for offer in problem.inventory.offers
    }
    for _, scored in fixed:
        offer_id = scored.candidate.offer_id
        limits[offer_id] = max(0, limits[offer_id] - scored.candidate.shape.num_devices)
    return _Work(slots=slots, offer_limits=limits, fixed=fixed, found=found, units=units, generator=generator)


def _assemble(problem: PlanningProblem, work: _Work, choice: Choice, seconds: float) -> Plan:
    offers = offers_by_id(problem.inventory.offers)
    columns = {unit.request.unit_id: unit for unit in work.units}
    chosen = {work.units[u].request.unit_id: work.units[u].columns[c] for u, c in choice.picked.items()}
    assignments = [_fixed_assignment(request, scored) for request, scored in work.fixed]
    for entry in work.found:
        column = chosen.get(entry.request.unit_id)
        if column is not None:
            assignments.append(_assignment(entry, columns[entry.request.unit_id], column, choice, offers))
    unplaced = _unplaced(work, columns, chosen, assignments)
    rejected: list[Rejection] = []
    for entry in work.found:
        name = entry.request.unit_id
        rejected += report.rejections(entry, columns.get(name), chosen.get(name))
    waiting = [unit.waiting for unit in work.units if unit.request.unit_id not in chosen]
    parts = report.objective_parts(chosen.values(), waiting)
    used = [column.scored for column in chosen.values()] + [scored for _, scored in work.fixed]
    return Plan(
        id=new_plan_id(problem.now, _digest(problem)),
        basis_version=problem.basis_version,
        made_at=problem.now,
        expires_at=problem.now + timedelta(seconds=problem.expires_after_s),
        assignments=tuple(assignments),
        unplaced=unplaced,
        rejections=tuple(rejected),
        objective=parts,
        solve=_solve_report(work, choice, math.fsum(part.usd_per_hour for part in parts), seconds),
        constants=report.constants(used),
        warnings=report.warnings(problem, assignments) + _calibration_warnings(problem, work, assignments),
    )


def _calibration_warnings(problem: PlanningProblem, work: _Work, assignments: Sequence[Assignment]) -> tuple[str, ...]:
    trainers = {request.unit_id: request.spec.framework for request in problem.requests}
    used = dict.fromkeys((a.candidate.pool_id, trainers[a.unit_id]) for a in assignments if a.candidate.raw_step_s is not None)
    found = (work.generator.calibration(problem.inventory.pool(pool_id), trainer) for pool_id, trainer in used)
    return tuple(dict.fromkeys(sentence for entry in found if entry is not None for sentence in entry.warnings))


def _assignment(
    entry: CandidateSet, unit: UnitColumns, column: Column, choice: Choice, offers: Mapping[OfferId, Offer]
) -> Assignment:
    name = entry.request.unit_id
    return Assignment(
        unit_id=name,
        candidate=column.scored.candidate,
        placement=Placement(devices=choice.devices[name]),
        alternatives=report.alternatives(unit, entry, column, offers=offers),
    )


def _fixed_assignment(request: PlanRequest, scored: Scored) -> Assignment:
    return Assignment(unit_id=request.unit_id, candidate=scored.candidate, placement=Placement(devices=request.held))


def _unplaced(
    work: _Work,
    columns: Mapping[UnitId, UnitColumns],
    chosen: Mapping[UnitId, Column],
    assignments: Sequence[Assignment],
) -> tuple[Unplaced, ...]:
    out: list[Unplaced] = []
    for entry in work.found:
        unit = columns.get(entry.request.unit_id)
        if unit is None:
            out.append(explain.without_candidates(entry, work.generator, work.slots))
        elif entry.request.unit_id not in chosen:
            moving = [a for a in assignments if a.unit_id in chosen]
            out.append(explain.left_out(unit, work.slots, moving))
    return tuple(out)


def _solve_report(work: _Work, choice: Choice, objective: float, seconds: float) -> SolveReport:
    bound = min(choice.bound, objective)
    gap = (objective - bound) / max(abs(objective), 1e-9) if math.isfinite(bound) else math.inf
    status = choice.status
    if status is SolveStatus.OPTIMAL and not work.units and work.found:
        status = SolveStatus.INFEASIBLE
    return SolveReport(
        status=status,
        solver=choice.solver,
        objective_usd_per_hour=objective,
        bound_usd_per_hour=bound,
        gap_frac=gap,
        seconds=seconds,
        num_columns=sum(len(unit.columns) for unit in work.units),
        num_candidates=sum(entry.num_considered for entry in work.found),
    )


def _digest(problem: PlanningProblem) -> bytes:
    return hashlib.sha256(dumps(problem).encode()).digest()
