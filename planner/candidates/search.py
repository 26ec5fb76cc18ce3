"""The best strategies of a whole grid by branch and bound: exact answers without looking at everything.

Recompute and offload only ever add time to a strategy, so that the strategies without them are enough to bound all. In the order
of cheap lower bounds they are timed; those times are tighter bounds of their relatives (the same with recompute or offload).
Relatives that do not fit are left out, the rest is timed, until no bound is below the time of the last strategy that is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from planner.strategies import Grid, Question, StrategyTable, enumerate_grid
from planner.strategies.rules import legal
from planner.strategies.table import OFFLOADS, RECOMPUTES, BoolArray
from planner.training.bound import step_bounds_s
from planner.training.constants import FittedConstants, fitted_constants
from planner.training.evaluate import Evaluated, Job, evaluate, memory_bytes, question_of
from planner.training.places import Array, PlaceArrays
from planner.training.profiles import Profile
from planner.training.step import Question as CostQuestion
from planner.training.step import step_time
from planner.training.verdict import USABLE_FRAC
from trimtab.strategy import Offload, Recompute

NUM_KEPT = 40
"""Strategies that a search keeps: enough for every trade of time against memory that a plan shows."""
_FIRST_CHUNK = 256
_GROWTH = 4
_PLAIN = (RECOMPUTES.index(Recompute.NONE), OFFLOADS.index(Offload.NONE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where strategies run, for the cost model."""

    arrays: PlaceArrays
    device_type: str
    profile: Profile
    constants: FittedConstants = field(default_factory=fitted_constants)

    def step_s(self, job: Job, table: StrategyTable) -> Array:
        """Seconds of a step of every strategy of a table here."""
        return step_time(self.asked(job, table)).step_s

    def asked(self, job: Job, table: StrategyTable) -> CostQuestion:
        """What the cost formulas are asked about a table here."""
        return question_of(job, table, self.arrays, device_type=self.device_type, profile=self.profile, constants=self.constants)

    def bounds_s(self, job: Job, table: StrategyTable) -> Array:
        """Seconds that a step of every strategy takes at least here, with any recompute and offload."""
        return step_bounds_s(lambda few: self.asked(job, few), table)

    def evaluated(self, job: Job, table: StrategyTable) -> Evaluated:
        """Time and memory of a table here."""
        return evaluate(job, table, self.arrays, device_type=self.device_type, profile=self.profile, constants=self.constants)

    def fits(self, job: Job, table: StrategyTable) -> BoolArray:
        """Which strategies of a table are not sure to be too big: the lower end of the interval is within what can be used."""
        peak = memory_bytes(job, table, self.arrays, device_type=self.device_type, profile=self.profile, constants=self.constants)
        return np.asarray(peak * (1.0 - self.profile.memory_error_frac) <= self.arrays.memory_bytes * USABLE_FRAC)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """The ``best`` strategies that fit, the fastest first, with their seconds per step, and how many others there were.

    ``num_timed`` were timed in full, ``num_too_big`` are known not to fit; bounds made the rest needless.
    """

    best: StrategyTable
    step_s: Array
    num_timed: int
    num_too_big: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Search:
    """What ``Found`` says, with the evaluation of the best and the number of legal strategies."""

    best: StrategyTable
    evaluated: Evaluated
    num_legal: int
    num_timed: int
    num_too_big: int


def search_grid(question: Question, place: Place, *, num_kept: int = NUM_KEPT, grid: Grid | None = None) -> Search | None:
    """The ``num_kept`` fastest strategies that fit; None where none does. ``grid`` is that of the question where it is at
    hand.
    """
    whole = grid or enumerate_grid(question)
    found = search_plain(question, place, plain_table(question), num_kept=num_kept)
    if not len(found.best):
        return None
    return Search(
        best=found.best,
        evaluated=place.evaluated(job_of(question), found.best),
        num_legal=len(whole),
        num_timed=found.num_timed,
        num_too_big=found.num_too_big,
    )


def plain_table(question: Question) -> StrategyTable:
    """The legal strategies without recompute and offload, as far as the person and the framework leave that open."""
    return enumerate_grid(_plain(question)).table


def search_plain(
    question: Question, place: Place, table: StrategyTable, *, num_kept: int = NUM_KEPT, limit_s: float = np.inf
) -> Found:
    """The ``num_kept`` fastest strategies that fit and are faster than ``limit_s``, of a ``plain_table`` and its relatives."""
    job = job_of(question)
    kept, times = table.take(np.zeros(0, dtype=np.int64)), np.zeros(0)
    num_timed = num_too_big = start = 0
    size = _FIRST_CHUNK
    bounds = place.bounds_s(job, table) if len(table) else times
    order = np.argsort(bounds, kind="stable")
    while start < len(order):
        limit = times[num_kept - 1] if len(times) >= num_kept else limit_s
        chunk = order[start : start + size]
        chunk = chunk[bounds[chunk] < limit]
        if not len(chunk):
            break
        plain = table.take(chunk)
        near = place.step_s(job, plain) < limit
        num_timed += len(chunk)
        relatives = _relatives(plain.take(near), question)
        fitting = place.fits(job, relatives)
        num_too_big += int((~fitting).sum())
        found = relatives.take(fitting)
        if len(found):
            own = place.step_s(job, found)
            num_timed += int((~_is_plain(found)).sum())
            kept, times = _merged(kept, times, found.take(own < limit_s), own[own < limit_s], num_kept=num_kept)
        start, size = start + size, size * _GROWTH
    return Found(best=kept, step_s=times, num_timed=num_timed, num_too_big=num_too_big)


def job_of(question: Question) -> Job:
    """What the cost model is asked about."""
    return Job(
        model=question.model,
        sequence_length=question.train.sequence_length,
        source_length=question.train.source_length,
    )


def _plain(question: Question) -> Question:
    """The same question without recompute and offload, as far as the person and the framework leave that open."""
    request = question.request
    if request.recompute is None and Recompute.NONE in question.framework.recomputes:
        request = replace(request, recompute=Recompute.NONE)
    offloads = question.offloads or question.framework.offloads
    return replace(question, request=request, offloads=(Offload.NONE,) if Offload.NONE in offloads else offloads)


def _relatives(table: StrategyTable, question: Question) -> StrategyTable:
    """Every legal strategy that differs from one of the table in recompute and offload alone, none of both included."""
    asked = question.request.recompute
    recomputes = question.framework.recomputes if asked is None else (asked,)
    offloads = question.offloads or question.framework.offloads
    made: list[StrategyTable] = []
    for recompute in recomputes:
        for offload in offloads:
            codes = {"recompute": RECOMPUTES.index(recompute), "offload": OFFLOADS.index(offload)}
            made.append(replace(table, **{name: np.full(len(table), code, dtype=np.int64) for name, code in codes.items()}))
    relatives = concatenated(made)
    known = _is_plain(relatives)
    known[~known] = legal(question.setting, relatives.take(~known))
    return relatives.take(known)


def _is_plain(table: StrategyTable) -> BoolArray:
    return np.asarray((table.recompute == _PLAIN[0]) & (table.offload == _PLAIN[1]))


def concatenated(tables: Sequence[StrategyTable]) -> StrategyTable:
    """Several tables one after the other."""
    names = StrategyTable.__dataclass_fields__
    return StrategyTable(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in names})


def _merged(kept: StrategyTable, times: Array, found: StrategyTable, own: Array, *, num_kept: int) -> tuple[StrategyTable, Array]:
    """The fastest of what was kept and what was found, in the order of time; equal times stay in the order of finding."""
    table = concatenated([kept, found])
    everything = np.concatenate([times, own])
    order = np.argsort(everything, kind="stable")[:num_kept]
    return table.take(order), everything[order]
