"""A mixed-integer linear model as plain data, and an answer to it. No solver library is named here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from trimtab.plan import SolveStatus


class Sense(StrEnum):
    """How a row compares with its right-hand side."""

    AT_MOST = "<="
    EQUAL = "=="
    AT_LEAST = ">="


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A binary variable and its cost in the objective, which is minimised."""

    name: str
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """``sum(coefficient * variable) sense limit``; terms are (position of the variable, integer coefficient)."""

    name: str
    terms: tuple[tuple[int, int], ...]
    sense: Sense
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearModel:
    """Minimise the sum of costs over binary variables subject to rows with integer coefficients."""

    name: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]

    def objective(self, chosen: frozenset[int]) -> float:
        """The objective of a set of variables that are one."""
        return sum(self.variables[index].cost for index in sorted(chosen))

    def broken_rows(self, chosen: frozenset[int]) -> tuple[str, ...]:
        """Names of the rows that a set of variables breaks, in integers."""
        return tuple(row.name for row in self.rows if not _holds(row, chosen))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A checked answer: the variables that are one, the objective computed from them, and the bound that the solver proved.

    ``status`` is OPTIMAL only where bound and objective prove it. ``bound`` is minus infinity where nothing is proved.
    """

    chosen: frozenset[int]
    objective: float
    bound: float
    status: SolveStatus
    solver: str


def _holds(row: Row, chosen: frozenset[int]) -> bool:
    total = sum(coefficient for index, coefficient in row.terms if index in chosen)
    if row.sense is Sense.AT_MOST:
        return total <= row.limit
    if row.sense is Sense.AT_LEAST:
        return total >= row.limit
    return total == row.limit
