"""Pipelines whose stages lie on one or several groups of unlike devices: lower bounds of many, exact splits of some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.candidates.mixed_plan import NodeSet
from planner.candidates.mixed_split import Split, StageTable, best_split
from planner.candidates.search import Place
from planner.strategies import Question, StrategyTable
from planner.strategies.table import BoolArray, IntArray
from planner.training.evaluate import Job
from planner.training.mixed import StageCosts, stage_bytes, stage_costs
from planner.training.places import Array
from planner.training.step import Question as CostQuestion
from planner.training.verdict import USABLE_FRAC

_HALVINGS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One group of devices: how it is asked about, and its ``options``, legal strategies on this group alone."""

    group: NodeSet
    question: Question
    place: Place
    job: Job
    options: StrategyTable

    @property
    def limit_bytes(self) -> float:
        """Predicted memory that is not sure to be too much."""
        return float(self.place.arrays.memory_bytes[0]) * USABLE_FRAC / (1.0 - self.place.profile.memory_error_frac)

    @property
    def spare(self) -> float:
        """Micro-batches that a stage holds beyond its depth."""
        return self.place.profile.spare_buffers

    def asked(self, table: StrategyTable, layers: Array) -> CostQuestion:
        """What the cost formulas are asked about stages of ``layers`` layers, one per strategy."""
        return replace(self.place.asked(self.job, table), stage_layers=layers)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pipelines:
    """N pipelines over the same sides in the same order, K segments of like stages each.

    ``tables`` has one strategy per pipeline for each segment, with the stages of the whole pipeline as ``pp``; ``counts`` are the
    stages of each segment, [N, K].
    """

    sides: tuple[Side, ...]
    tables: tuple[StrategyTable, ...]
    counts: IntArray

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def num_stages(self) -> IntArray:
        """Stages in all, [N]."""
        return np.asarray(self.counts.sum(axis=1), dtype=np.int64)

    @property
    def micro(self) -> IntArray:
        """Micro-batches of a step, [N]."""
        return self.tables[0].num_micro_batches

    def take(self, which: IntArray | BoolArray) -> Pipelines:
        """Some of them."""
        return replace(self, tables=tuple(table.take(which) for table in self.tables), counts=self.counts[which])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bounds:
    """Least seconds, [N]: of the slowest slot (infinite where memory is never enough), of all slots, of handing one
    micro-batch on.
    """

    slot_s: Array
    sum_s: Array
    send_s: Array

    def pipe_s(self, num_micro_batches: IntArray, num_stages: IntArray) -> Array:
        """Seconds of all micro-batches, [N]."""
        sends = (num_micro_batches + num_stages - 1.0) * self.send_s
        slots = np.where(np.isfinite(self.slot_s), self.slot_s, 0.0) * (num_micro_batches - 1.0)
        return np.where(np.isfinite(self.slot_s), slots + self.sum_s + sends, np.inf)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Refined:
    """A pipeline with its layers: slots and bytes of each stage, [S]; seconds of all micro-batches, of sending one, of the
    rest.
    """

    layers: IntArray
    slots_s: Array
    stage_bytes: Array
    send_s: float
    rest_s: float

    @property
    def each_s(self) -> float:
        """Seconds that one more micro-batch takes."""
        return float(self.slots_s.max()) + self.send_s

    def pipe_s(self, num_micro_batches: int) -> float:
        """Seconds of that many micro-batches, with sending."""
        slowest = float(self.slots_s.max())
        bubble = float(self.slots_s.sum()) - slowest
        return num_micro_batches * slowest + bubble + (num_micro_batches + len(self.slots_s) - 1.0) * self.send_s


def bounds_of(pipelines: Pipelines, num_layers: int) -> Bounds:
    """Lower bounds of every pipeline: whole layers, memory as of the emptiest stage of each segment."""
    two = [_two_lengths(side, table) for side, table in zip(pipelines.sides, pipelines.tables, strict=True)]
    per_layer = np.stack([b.layers_s - a.layers_s for a, b in two], axis=1)
    start = np.stack([a.layers_s for a, _ in two], axis=1) - per_layer
    last = len(two) - 1
    columns = [0, *range(len(two)), last]
    slope, offset = per_layer[:, columns], start[:, columns].copy()
    one = pipelines.num_stages == 1
    offset[:, 0] += two[0][0].before_s + np.where(one, two[0][0].after_s, 0.0)
    offset[:, -1] += two[last][0].after_s
    counts = pipelines.counts[:, columns]
    counts[:, 0], counts[:, -1] = 1, np.where(one, 0, 1)
    counts[:, 1] -= 1
    counts[:, 1 + last] -= counts[:, -1]
    caps = _caps(pipelines, num_layers)
    slot = _least_slot(offset, slope, counts, caps, num_layers)
    send = np.max([a.send_s for a, _ in two], axis=0)
    return Bounds(
        slot_s=slot,
        sum_s=(counts * offset).sum(axis=1) + num_layers * per_layer.min(axis=1),
        send_s=np.where(one, 0.0, send),
    )


def refine(pipelines: Pipelines, num_layers: int) -> list[Refined | None]:
    """The best split of the layers of every pipeline; None where none fits."""
    found: list[Refined | None] = []
    grown = [_all_lengths(side, table, num_layers) for side, table in zip(pipelines.sides, pipelines.tables, strict=True)]
    for position in range(len(pipelines)):
        counts = pipelines.counts[position]
        segment = np.repeat(np.arange(len(counts)), counts)
        held = _stage_bytes(grown, segment, pipelines, position)
        slots = np.stack([grown[k].slot[position] for k in segment])
        slots[0] += grown[segment[0]].before[position]
        slots[-1] += grown[segment[-1]].after[position]
        limits = np.array([side.limit_bytes for side in pipelines.sides])[segment]
        rest = np.stack([grown[k].rest[position] for k in segment])
        table = StageTable(slot_s=slots, rest_s=rest, fits=held <= limits[:, None])
        split = best_split(table, num_layers, int(pipelines.micro[position]))
        send = max(float(own.send[position]) for own in grown) if len(segment) > 1 else 0.0
        found.append(None if split is None else _refined(table, held, split, send))
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Grown:
    """Costs of stages of 1 to L layers; ``slot``, ``rest`` and bytes [N, L], the others [N].

    Bytes of a middle stage are ``resting`` and ``flying`` for each micro-batch that it holds; ``first`` and ``last`` are those
    of the ends, ``only`` of a pipeline of one stage.
    """

    slot: Array
    rest: Array
    before: Array
    after: Array
    send: Array
    resting: Array
    flying: Array
    first: Array
    last: Array
    only: Array


def _all_lengths(side: Side, table: StrategyTable, num_layers: int) -> _Grown:
    size = len(table)
    rows = table.take(np.repeat(np.arange(size), num_layers))
    layers = np.tile(np.arange(1.0, num_layers + 1.0), size)
    asked = side.asked(rows, layers)
    costs = stage_costs(asked)
    shape = (size, num_layers)
    resting = _bytes(asked, np.zeros(1), first=False, last=False)
    full = np.minimum(rows.num_micro_batches, rows.pp + side.spare)
    end = np.minimum(rows.num_micro_batches, 1.0 + side.spare)
    return _Grown(
        slot=costs.layers_s.reshape(shape),
        rest=costs.rest_s.reshape(shape),
        before=costs.before_s.reshape(shape)[:, 0],
        after=costs.after_s.reshape(shape)[:, 0],
        send=costs.send_s.reshape(shape)[:, 0],
        resting=resting.reshape(shape),
        flying=(_bytes(asked, np.ones(1), first=False, last=False) - resting).reshape(shape),
        first=_bytes(asked, full, first=True, last=False).reshape(shape),
        last=_bytes(asked, end, first=False, last=True).reshape(shape),
        only=_bytes(asked, np.ones(1), first=True, last=True).reshape(shape),
    )


def _bytes(asked: CostQuestion, flying: Array, *, first: bool, last: bool) -> Array:
    ones = np.ones(len(asked.table))
    return stage_bytes(asked, is_first=first * ones, is_last=last * ones, flying=flying * ones)


def _stage_bytes(grown: Sequence[_Grown], segment: IntArray, pipelines: Pipelines, position: int) -> Array:
    """Bytes of every stage by its layers, [S, L]."""
    num_stages, micro = len(segment), float(pipelines.micro[position])
    if num_stages == 1:
        return grown[0].only[position : position + 1]
    held = []
    for stage, k in enumerate(segment):
        own = grown[k]
        flying = min(micro, num_stages - stage + pipelines.sides[k].spare)
        held.append(own.resting[position] + flying * own.flying[position])
    held[0] = grown[segment[0]].first[position]
    held[-1] = grown[segment[-1]].last[position]
    return np.stack(held)


def _refined(table: StageTable, held: Array, split: Split, send_s: float) -> Refined:
    at = (np.arange(len(split.layers)), split.layers - 1)
    return Refined(
        layers=split.layers, slots_s=table.slot_s[at], stage_bytes=held[at], send_s=send_s, rest_s=float(table.rest_s[at].max())
    )


def _two_lengths(side: Side, table: StrategyTable) -> tuple[StageCosts, StageCosts]:
    one, two = (stage_costs(side.asked(table, np.full(len(table), length))) for length in (1.0, 2.0))
    return one, two


def _caps(pipelines: Pipelines, num_layers: int) -> Array:
    """Most layers of the first stage, the middle ones of each segment, and the last, [N, K + 2]."""
    sides, tables, micro = pipelines.sides, pipelines.tables, pipelines.micro
    stages = pipelines.num_stages
    behind = stages[:, None] - np.cumsum(pipelines.counts, axis=1)
    only = np.where(stages == 1, 1.0, 0.0)
    caps = [
        _cap(sides[0], tables[0], np.minimum(micro, stages + sides[0].spare * (1.0 - only)), num_layers, first=True, last=False)
    ]
    for k, (side, table) in enumerate(zip(sides, tables, strict=True)):
        flying = np.minimum(micro, np.maximum(1, behind[:, k] + 1) + side.spare)
        caps.append(_cap(side, table, flying, num_layers, first=False, last=False))
    flying = np.minimum(micro, 1.0 + sides[-1].spare)
    caps.append(_cap(sides[-1], tables[-1], flying, num_layers, first=False, last=True))
    return np.stack(caps, axis=1)


def _cap(side: Side, table: StrategyTable, flying: Array, num_layers: int, *, first: bool, last: bool) -> Array:
    """Bytes grow evenly with the layers: what two lengths say holds for all."""
    one, two = (_bytes(side.asked(table, np.full(len(table), n)), flying, first=first, last=last) for n in (1.0, 2.0))
    return np.clip(np.floor(1.0 + 1e-9 + (side.limit_bytes - one) / np.maximum(1.0, two - one)), 0.0, num_layers)


def _least_slot(offset: Array, slope: Array, counts: IntArray, caps: Array, num_layers: int) -> Array:
    """The smallest bound on all slots that leaves room for all layers, by bisection."""
    there = counts > 0

    def enough(slot: Array) -> BoolArray:
        layers = np.clip(np.floor((slot[:, None] - offset) / slope + 1e-9), 0.0, caps)
        return np.asarray(((layers >= 1) | ~there).all(axis=1) & ((layers * counts).sum(axis=1) >= num_layers))

    low, high = np.zeros(len(offset)), (offset + slope * num_layers).max(axis=1, initial=0.0)
    possible = enough(high)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        fine = enough(middle)
        low, high = np.where(fine, low, middle), np.where(fine, middle, high)
    return np.where(possible, low * (1.0 - 1e-9), np.inf)
