"""Solving: a neutral linear model, PuLP behind one interface, checked answers."""

from planner.solve.adapter import check, solve
from planner.solve.model import Answer, LinearModel, Row, Sense, Variable
from planner.solve.pulp_backends import BACKENDS, Backend, CbcBackend, HighsBackend, RawAnswer, SolveLimits

__all__ = [
    "BACKENDS",
    "Answer",
    "Backend",
    "CbcBackend",
    "HighsBackend",
    "LinearModel",
    "RawAnswer",
    "Row",
    "Sense",
    "SolveLimits",
    "Variable",
    "check",
    "solve",
]
