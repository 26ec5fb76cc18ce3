"""PuLP behind one interface, on its lines 3 and 4: HiGHS first, CBC where it is present.

What differs between the lines and is handled here: 4 has no ``LpVariable`` constructor, ``prob.status`` or ``LpStatus``, and
``solve`` returns statistics instead of a number; 3 says "Optimal" when the time limit stopped it and hides the bound. Both
keep the highspy object in ``solverModel`` after a solve, so status and bound of HiGHS are read from there. CBC on line 3
tells its bound in its log only.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

import pulp

from planner.solve.model import LinearModel, Sense
from planner.solve.quiet import quiet_stdout
from trimtab.errors import SolverError


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveLimits:
    """When to stop: seconds, and the relative gap that is good enough. ``num_nodes`` bounds the search by work."""

    time_limit_s: float
    gap_frac: float = 0.0
    num_nodes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    """What a solver says, unchecked. ``values`` None: it has no solution. ``infeasible``: it claims that there is none."""

    values: tuple[float, ...] | None
    bound: float | None
    infeasible: bool
    stopped_early: bool
    solver: str


class Backend(Protocol):
    """A solver. ``solve`` raises SolverError where it fails without an answer."""

    @property
    def name(self) -> str:
        """Name for people."""
        ...

    def available(self) -> bool:
        """Whether it can run here."""
        ...

    def solve(self, model: LinearModel, limits: SolveLimits, start: Mapping[int, float] | None) -> RawAnswer:
        """Solve the model; ``start`` is a feasible assignment of values by position."""
        ...


class HighsBackend:
    """HiGHS through PuLP's highspy interface: one thread, fixed seed, nothing on the standard output."""

    name = "HiGHS"

    def available(self) -> bool:
        """Whether highspy is there."""
        return bool(pulp.HiGHS().available())

    def solve(self, model: LinearModel, limits: SolveLimits, start: Mapping[int, float] | None) -> RawAnswer:
        """Solve; status, bound and values are HiGHS's own."""
        problem, variables = build(model)
        options: dict[str, Any] = {"random_seed": 0, "mip_abs_gap": 0.0}
        if limits.num_nodes is not None:
            options["mip_max_nodes"] = limits.num_nodes
        solver = _starting_highs(start, variables)(
            msg=False, timeLimit=limits.time_limit_s, gapRel=limits.gap_frac, threads=1, **options
        )
        with quiet_stdout():
            try:
                problem.solve(solver)
            except Exception as error:  # the library raises whatever its bindings raise
                raise SolverError(f"HiGHS failed: {error}") from error
        return self._read(problem, variables)

    def _read(self, problem: Any, variables: Sequence[Any]) -> RawAnswer:
        highs = problem.solverModel
        status, info = highs.getModelStatus(), highs.getInfo()
        has_solution = bool(highs.getSolution().value_valid) and math.isfinite(info.objective_function_value)
        bound = float(info.mip_dual_bound)
        return RawAnswer(
            values=tuple(_value(variable) for variable in variables) if has_solution else None,
            bound=bound if math.isfinite(bound) else None,
            infeasible=status.name == "kInfeasible",
            stopped_early=status.name not in ("kOptimal", "kInfeasible"),
            solver=f"HiGHS {highs.version()} via PuLP {pulp_version()}",
        )


class CbcBackend:
    """CBC through PuLP, where its program is present."""

    name = "CBC"

    def available(self) -> bool:
        """Whether a CBC program is there."""
        return _cbc(time_limit_s=1.0, log="", gap_frac=0.0) is not None

    def solve(self, model: LinearModel, limits: SolveLimits, start: Mapping[int, float] | None) -> RawAnswer:
        """Solve; the bound is read from CBC's log. ``start`` and ``num_nodes`` are not used: CBC gets them through files only."""
        problem, variables = build(model)
        with tempfile.TemporaryDirectory(prefix="trimtab-cbc-") as folder:
            log = os.path.join(folder, "cbc.log")
            solver = _cbc(time_limit_s=limits.time_limit_s, log=log, gap_frac=limits.gap_frac)
            if solver is None:
                raise SolverError("CBC is not present")
            with quiet_stdout():
                try:
                    outcome = problem.solve(solver)
                except Exception as error:
                    raise SolverError(f"CBC failed: {error}") from error
            text = _read_text(log)
        return self._read(problem, variables, outcome, text)

    def _read(self, problem: Any, variables: Sequence[Any], outcome: Any, log: str) -> RawAnswer:
        values = tuple(_value(variable) for variable in variables)
        if isinstance(outcome, int):
            has_solution, infeasible = problem.sol_status in (1, 2), outcome == -1
            optimal = problem.sol_status == 1
        else:
            has_solution, infeasible = bool(outcome.has_solution), int(outcome.status) == -1
            optimal = int(outcome.status) == 1
        found = re.search(r"Lower bound:\s+(-?[\d.eE+-]+)", log)
        bound = float(found.group(1)) if found else None
        if bound is None and optimal and "Optimal solution found" in log:
            stated = re.search(r"Objective value:\s+(-?[\d.eE+-]+)", log)
            bound = float(stated.group(1)) if stated else None
        return RawAnswer(
            values=values if has_solution else None,
            bound=bound,
            infeasible=infeasible,
            stopped_early=not optimal and not infeasible,
            solver=f"CBC via PuLP {pulp_version()}",
        )


BACKENDS: tuple[Backend, ...] = (HighsBackend(), CbcBackend())


def build(model: LinearModel) -> tuple[Any, list[Any]]:
    """The PuLP problem of a model and its variables in the model's order."""
    problem = pulp.LpProblem(model.name, pulp.LpMinimize if hasattr(pulp, "LpMinimize") else 1)
    variables = [problem.add_variable(variable.name, 0, 1, cat="Binary") for variable in model.variables]
    problem += pulp.lpSum(variable.cost * made for variable, made in zip(model.variables, variables, strict=True))
    for row in model.rows:
        total = pulp.lpSum(coefficient * variables[index] for index, coefficient in row.terms)
        if row.sense is Sense.AT_MOST:
            problem += total <= row.limit, row.name
        elif row.sense is Sense.AT_LEAST:
            problem += total >= row.limit, row.name
        else:
            problem += total == row.limit, row.name
    return problem, variables


def pulp_version() -> str:
    """PuLP's version."""

    return version("pulp")


def _starting_highs(start: Mapping[int, float] | None, variables: Sequence[Any]) -> Any:
    """PuLP's HiGHS with a starting point: line 3 has no such option, and both call ``callSolver`` with the model built."""
    by_name = {variables[index].name: value for index, value in (start or {}).items()}

    class StartingHighs(pulp.HiGHS):  # type: ignore[misc]
        def callSolver(self, lp: Any) -> None:
            ordered = lp.exported_variables() if hasattr(lp, "exported_variables") else lp.variables()
            lp.solverModel.setOptionValue("output_flag", False)
            if by_name:
                pairs = [(column, by_name[v.name]) for column, v in enumerate(ordered) if v.name in by_name]
                lp.solverModel.setSolution(len(pairs), [column for column, _ in pairs], [value for _, value in pairs])
            lp.solverModel.run()

        def findSolutionValues(self, lp: Any) -> Any:
            try:
                return super().findSolutionValues(lp)
            except KeyError:  # line 3 knows no status for a limit on work; status and values are read from HiGHS itself
                return 0, 0

    return StartingHighs


def _cbc(*, time_limit_s: float, log: str, gap_frac: float) -> Any | None:
    """PuLP's CBC: a program on the path, or the one that line 3 brings."""
    options: dict[str, Any] = {"msg": False, "timeLimit": time_limit_s, "gapRel": gap_frac, "threads": 1}
    if log:
        options["logPath"] = log
    for name in ("COIN_CMD", "PULP_CBC_CMD"):
        maker = getattr(pulp, name, None)
        if maker is None:
            continue
        with warnings.catch_warnings():  # line 3 says that line 4 will not bring CBC; both are handled here
            warnings.simplefilter("ignore", DeprecationWarning)
            solver = maker(**options)
        if solver.available():
            return solver
    return None


def _value(variable: Any) -> float:
    value = variable.varValue
    return math.nan if value is None else float(value)


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""
