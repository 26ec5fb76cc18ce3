"""The best strategies of a whole grid by branch and bound: exact answers without looking at everything.

Recompute and offload only ever add time to a strategy, and micro-batches of a strategy without them take the least time that any
of its relatives can take. So the strategies without them are timed first; their times are bounds. In the order of the bounds,
relatives are made, those that do not fit are left out, the rest is timed, until no bound is below the time of the last strategy
that is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from planner.strategies import Grid, Question, StrategyTable, enumerate_grid
from planner.strategies.rules import legal
from planner.strategies.table import OFFLOADS, RECOMPUTES, BoolArray
from planner.training.constants import FittedConstants, fitted_constants
from planner.training.evaluate import Evaluated, Job, evaluate, memory_bytes, question_of
from planner.training.places import Array, PlaceArrays
from planner.training.profiles import Profile
from planner.training.step import step_time
from planner.training.verdict import USABLE_FRAC
from trimtab.strategy import Offload, Recompute

NUM_KEPT = 40
"""Strategies that a search keeps: enough for every trade of time against memory that a plan shows."""
_FIRST_CHUNK = 1024
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
        return step_time(
            question_of(job, table, self.arrays, device_type=self.device_type, profile=self.profile, constants=self.constants)
        ).step_s

    def evaluated(self, job: Job, table: StrategyTable) -> Evaluated:
        """Time and memory of a table here."""
        return evaluate(job, table, self.arrays, device_type=self.device_type, profile=self.profile, constants=self.constants)

    def fits(self, job: Job, table: StrategyTable) -> BoolArray:
        """Which strategies of a table are not sure to be too big: the lower end of the interval is within what can be used."""
        peak = memory_bytes(job, table, self.arrays, device_type=self.device_type, profile=self.profile, constants=self.constants)
        return np.asarray(peak * (1.0 - self.profile.memory_error_frac) <= self.arrays.memory_bytes * USABLE_FRAC)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Search:
    """The ``best`` strategies that fit, the fastest first, with their evaluation, and how many there were of each fate.

    ``num_timed`` were timed in full, ``num_too_big`` are known not to fit; bounds made the rest needless.
    """

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
    job = job_of(question)
    plain = _plain(question)
    kept: list[StrategyTable] = []
    times: Array = np.zeros(0)
    num_timed = num_too_big = 0
    table = enumerate_grid(plain).table
    if not len(table):
        return None
    bounds = place.step_s(job, table)
    num_timed += len(table)
    order = np.argsort(bounds, kind="stable")
    start, size = 0, _FIRST_CHUNK
    while start < len(order):
        limit = times[num_kept - 1] if len(times) >= num_kept else np.inf
        chunk = order[start : start + size]
        chunk = chunk[bounds[chunk] < limit]
        if not len(chunk):
            break
        relatives = _relatives(table.take(chunk), question)
        fitting = place.fits(job, relatives)
        num_too_big += int((~fitting).sum())
        found = relatives.take(fitting)
        if len(found):
            own = place.step_s(job, found)
            num_timed += len(found)
            kept, times = _merged(kept, times, found, own, num_kept=num_kept)
        start, size = start + size, size * 2
    if not len(times):
        return None
    best = kept[0]
    return Search(
        best=best,
        evaluated=place.evaluated(job, best),
        num_legal=len(whole),
        num_timed=num_timed,
        num_too_big=num_too_big,
    )


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
            columns = {name: np.full(len(table), code, dtype=np.int64) for name, code in codes.items()}
            relatives = replace(table, **columns)
            plain = (codes["recompute"], codes["offload"]) == _PLAIN
            made.append(relatives if plain else relatives.take(legal(question.setting, relatives)))
    return concatenated(made)


def concatenated(tables: Sequence[StrategyTable]) -> StrategyTable:
    """Several tables one after the other."""
    names = StrategyTable.__dataclass_fields__
    return StrategyTable(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in names})


def _merged(
    kept: list[StrategyTable], times: Array, found: StrategyTable, own: Array, *, num_kept: int
) -> tuple[list[StrategyTable], Array]:
    """The fastest of what was kept and what was found, in the order of time; equal times stay in the order of finding."""
    table = concatenated([*kept, found])
    everything = np.concatenate([times, own])
    order = np.argsort(everything, kind="stable")[:num_kept]
    return [table.take(order)], everything[order]
