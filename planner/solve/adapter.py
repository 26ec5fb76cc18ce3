"""Solve a model, trust nothing: every answer is checked in integers before it is believed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from planner.solve.model import Answer, LinearModel
from planner.solve.pulp_backends import BACKENDS, Backend, RawAnswer, SolveLimits
from trimtab.errors import InfeasibleError, SolverError
from trimtab.plan import SolveStatus

INTEGRAL_TOLERANCE = 1e-5
"""How far a binary variable may be from 0 or 1 (HiGHS's own feasibility tolerance is 1e-6)."""
PROOF_TOLERANCE_FRAC = 1e-6
"""An answer is optimal where the bound is within this share of the objective: the solvers' own arithmetic is no finer."""


def solve(
    model: LinearModel,
    *,
    time_limit_s: float,
    start: frozenset[int] | None = None,
    backends: Sequence[Backend] = BACKENDS,
    num_nodes: int | None = None,
) -> Answer:
    """The best answer of the first solver that gives a correct one.

    ``start`` is a feasible choice: it is the warm start, and the answer where the solver has none in time. Raises
    InfeasibleError where a solver proves that there is no answer (and ``start`` does not contradict it), SolverError where
    none gives a usable one.
    """
    failures: list[str] = []
    limits = SolveLimits(time_limit_s=max(0.01, time_limit_s), num_nodes=num_nodes)
    values = _start_values(model, start)
    for backend in backends:
        if not backend.available():
            failures.append(f"{backend.name}: not present")
            continue
        try:
            return check(model, backend.solve(model, limits, values), start=start)
        except SolverError as error:
            failures.append(f"{backend.name}: {error}")
    raise SolverError("no solver gave a usable answer: " + "; ".join(failures))


def check(model: LinearModel, raw: RawAnswer, *, start: frozenset[int] | None = None) -> Answer:
    """The answer if it is one: finite, integral, all rows hold, bound not above the objective. Raises SolverError otherwise."""
    if raw.infeasible:
        if start is not None and not model.broken_rows(start):
            raise SolverError(f"{raw.solver} says infeasible, but a feasible answer is known")
        raise InfeasibleError(f"{raw.solver} proves that no answer exists")
    if raw.values is None:
        return _without_values(model, raw, start)
    chosen = _chosen(model, raw)
    broken = model.broken_rows(chosen)
    if broken:
        raise SolverError(f"{raw.solver} gave an answer that breaks {', '.join(broken[:3])}")
    objective = model.objective(chosen)
    bound = _bound(raw, objective)
    if start is not None and not model.broken_rows(start) and model.objective(start) < objective:
        chosen, objective = start, model.objective(start)
        bound = _bound(raw, objective)
    return Answer(chosen=chosen, objective=objective, bound=bound, status=_status(raw, bound, objective), solver=raw.solver)


def _without_values(model: LinearModel, raw: RawAnswer, start: frozenset[int] | None) -> Answer:
    if start is None or model.broken_rows(start):
        raise SolverError(f"{raw.solver} gave no answer")
    objective = model.objective(start)
    bound = _bound(raw, objective)
    return Answer(chosen=start, objective=objective, bound=bound, status=_status(raw, bound, objective), solver=raw.solver)


def _chosen(model: LinearModel, raw: RawAnswer) -> frozenset[int]:
    assert raw.values is not None
    if len(raw.values) != len(model.variables):
        raise SolverError(f"{raw.solver} gave {len(raw.values)} values for {len(model.variables)} variables")
    chosen = set()
    for index, value in enumerate(raw.values):
        if not math.isfinite(value):
            raise SolverError(f"{raw.solver} gave {value} for {model.variables[index].name}")
        if abs(value - round(value)) > INTEGRAL_TOLERANCE or round(value) not in (0, 1):
            raise SolverError(f"{raw.solver} gave {value} for the binary {model.variables[index].name}")
        if round(value) == 1:
            chosen.add(index)
    return frozenset(chosen)


def _bound(raw: RawAnswer, objective: float) -> float:
    if raw.bound is None:
        return -math.inf
    if math.isnan(raw.bound):
        raise SolverError(f"{raw.solver} gave {raw.bound} as bound")
    if raw.bound > objective + PROOF_TOLERANCE_FRAC * max(1.0, abs(objective)):
        raise SolverError(f"{raw.solver} gave the bound {raw.bound} above the known objective {objective}")
    return min(raw.bound, objective)


def _proved(bound: float, objective: float) -> bool:
    return objective - bound <= PROOF_TOLERANCE_FRAC * max(1.0, abs(objective))


def _status(raw: RawAnswer, bound: float, objective: float) -> SolveStatus:
    if _proved(bound, objective):
        return SolveStatus.OPTIMAL
    return SolveStatus.TIME_LIMIT if raw.stopped_early else SolveStatus.FEASIBLE


def _start_values(model: LinearModel, start: frozenset[int] | None) -> Mapping[int, float] | None:
    if start is None or model.broken_rows(start):
        return None
    return {index: 1.0 if index in start else 0.0 for index in range(len(model.variables))}
