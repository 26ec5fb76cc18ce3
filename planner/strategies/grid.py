"""The whole space of strategies as arrays.

Rows stand in the order of nested loops over the values of ``values.py``: tp, sequence parallelism, cp, pp, ep, etp, schedule,
virtual stages, fsdp, ZeRO stage, recompute, offload, precision, micro-batch. The last four are spread out in blocks, when the
strategies are asked for, so that millions of them need no memory at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from planner.strategies import values
from planner.strategies.job_rules import JOB_RULES, slice_size
from planner.strategies.question import Question, Refusal
from planner.strategies.rules import ONE_FRAMEWORK
from planner.strategies.table import OFFLOADS, PRECISIONS, RECOMPUTES, BoolArray, IntArray, StrategyTable, dense
from planner.strategies.walk import BATCHES, RUNS, Choices, Columns, Refused, Walk, all_of, spread, table_of
from trimtab.strategy import Strategy

Prune: TypeAlias = Callable[[StrategyTable], BoolArray]
"""Given a table of N strategies: where one may fit, shape [N]. Where it says no, it must say no to the same strategy with a
larger micro-batch (and fewer of them) too: the largest that may fit is found by bisection."""

BLOCK_ROWS = 1 << 16
"""Strategies of one block, about."""

_BATCH_RUNS = "_batch_runs"
"""A column that is no dimension: which members of the framework run the micro-batches."""
_SPLIT = "_split"
"""A column that is no dimension: the number of the row's split in its block."""
_NONE = np.zeros(0, dtype=np.int64)
_KEPT = {BATCHES, *(field.name for field in fields(StrategyTable))}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """The legal strategies of a question, and what the rules refused, by rule in their order.

    A refusal counts the combinations that a rule refused when it was asked, of the dimensions known by then: those that a
    refused one would have been crossed with are not counted.
    """

    num_legal: int
    _refused: tuple[Refused, ...]
    _splits: Columns
    _savings: Choices
    _batches: Choices

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """What the rules refused, with the first example of each."""
        return tuple(refused.refusal for refused in self._refused)

    def __len__(self) -> int:
        return self.num_legal

    def blocks(
        self, *, prune: Prune | None = None, only_needed: bool = False, num_rows: int = BLOCK_ROWS
    ) -> Iterator[StrategyTable]:
        """The legal strategies in their order, about ``num_rows`` at a time, without those that ``prune`` says cannot fit.

        ``prune`` is a bound, not a rule: ``num_legal`` counts what it takes. A block holds all strategies of its splits. With
        ``only_needed`` a recompute or offload is left out where ``prune`` lets the same strategy through without it, or with less
        of it: it only costs time. That is right where ``prune`` says what fits, not what may.
        """
        counts = _num_combinations(self._splits, self._savings, self._batches)
        block = np.cumsum(counts) // max(1, num_rows)
        starts = np.flatnonzero(np.diff(block, prepend=-1))
        for start, end in pairwise([*starts, len(counts)]):
            table = self._block(slice(int(start), int(end)), prune, only_needed)
            if len(table):
                yield table

    @property
    def table(self) -> StrategyTable:
        """All of them at once."""
        return self._block(slice(None), None, False)

    def _block(self, which: slice, prune: Prune | None, only_needed: bool) -> StrategyTable:
        splits = {name: column[which] for name, column in self._splits.items()}
        splits[_SPLIT] = np.arange(len(self._savings.key_of_row[which]))
        rows = spread(splits, self._savings.key_of_row[which], self._savings)
        if not self._splits:
            return table_of({}, 0)
        start, count = self._batches.start[rows[BATCHES]], self._batches.count[rows[BATCHES]]
        if prune is not None:
            count = self._num_fitting(rows, start, count, prune)
            if only_needed:
                without = _num_without(rows, count)
                start, count = start + without, np.maximum(0, count - without)
            rows = {name: column[count > 0] for name, column in rows.items()}
            start, count = start[count > 0], count[count > 0]
        own = replace(self._batches, key_of_row=np.arange(len(start)), start=start, count=count)
        columns = spread(rows, own.key_of_row, own)
        table = table_of(columns, len(columns["tp"]))
        return table if RUNS not in columns else table.take((columns[RUNS] & columns[_BATCH_RUNS]) != 0)

    def _num_fitting(self, rows: Columns, start: IntArray, count: IntArray, prune: Prune) -> IntArray:
        """How many micro-batches of each row, from the smallest up, may fit."""
        fitting, most, tried = np.zeros_like(count), count.copy(), np.ones_like(count)
        unsure = np.arange(len(count))
        while len(unsure):
            at = start[unsure] + tried[unsure] - 1
            batch = {name: column[at] for name, column in self._batches.columns.items()}
            kept = prune(table_of({name: column[unsure] for name, column in rows.items()} | batch, len(unsure)))
            fitting[unsure[kept]] = tried[unsure[kept]]
            most[unsure[~kept]] = tried[unsure[~kept]] - 1
            unsure = unsure[fitting[unsure] < most[unsure]]
            tried[unsure] = (fitting[unsure] + most[unsure] + 1) // 2
        return fitting


def enumerate_grid(question: Question) -> Grid:
    """All legal strategies of a question."""
    walk = Walk(question)
    if not walk.begin():
        nothing = Choices(key_of_row=_NONE, start=_NONE, count=_NONE, columns={})
        return Grid(_refused=walk.refused(), num_legal=0, _splits={}, _savings=nothing, _batches=nothing)
    for names, choices in (
        (("tp", "sequence_parallel"), values.tensor_values),
        (("cp",), values.context_values),
        (("pp",), values.pipeline_values),
        (("ep", "etp"), values.expert_values),
        (("schedule", "virtual_stages"), values.schedule_values),
    ):
        walk.spread(walk.choose(names, choices(question)))
    batches = walk.batches(values.batch_values(question))
    walk.spread(walk.choose(("fsdp", "zero_stage"), values.sharding_values(question)))
    walk.keep_asked()
    savings = walk.choose(("recompute", "offload", "precision"), values.saving_values(question, walk.precisions))
    splits = {name: column for name, column in walk.columns.items() if name in _KEPT}
    num_legal = int(_num_combinations(splits, savings, batches).sum())
    batches.columns[_BATCH_RUNS] = batches.columns.pop(RUNS)
    if (batches.columns[_BATCH_RUNS] == all_of(walk.members)).all():
        savings, batches = _without(savings, RUNS), _without(batches, _BATCH_RUNS)
    else:
        num_legal -= _refuse_unlike(walk, splits, savings, batches)
    return Grid(_refused=walk.refused(), num_legal=num_legal, _splits=splits, _savings=savings, _batches=_without(batches, "dp"))


def device_key(question: Question) -> Hashable:
    """What the rules see of the device type: questions that differ only in device types of equal keys have equal strategies."""
    device, shape = question.device_type, question.shape
    asked = question.precisions or (question.train.precision,)
    table = StrategyTable.of(Strategy(precision=precision) for precision in asked)
    precisions = tuple(JOB_RULES[0].holds(question.setting, table).tolist())
    spans_nodes = device.domain_size > (device.devices_per_node or device.domain_size)
    slices = slice_size(device, shape.num_devices) if device.torus is not None else None
    return device.kind, precisions, slices, device.domain_size if spans_nodes and slices is None else 0


def _num_without(rows: Columns, fitting: IntArray) -> IntArray:
    """How many micro-batches of each row, from the smallest up, fit with less recompute or offload too."""
    shape = (int(rows[_SPLIT].max(initial=-1)) + 1, len(PRECISIONS), len(RECOMPUTES), len(OFFLOADS))
    at = (rows[_SPLIT], rows["precision"], rows["recompute"], rows["offload"])
    most = np.zeros(shape, dtype=np.int64)
    most[at] = fitting
    np.maximum.accumulate(most, axis=2, out=most)  # with this recompute or less
    without = np.zeros_like(most)
    without[:, :, 1:] = most[:, :, :-1]
    without[..., 1:] = np.maximum(without[..., 1:], most[..., :1])  # the first offload is none
    answer: IntArray = without[at]
    return answer


def _num_combinations(splits: Columns, savings: Choices, batches: Choices) -> IntArray:
    """Savings times micro-batches of each split."""
    count = batches.count[splits[BATCHES]] if splits else _NONE
    return np.asarray(count * savings.count[savings.key_of_row], dtype=np.int64)


def _refuse_unlike(walk: Walk, splits: Columns, savings: Choices, batches: Choices) -> int:
    """How many strategies are refused since the frameworks that run the split are not those that run its micro-batches.

    The answer is the same for all splits that share the key of their savings and of their micro-batches.
    """
    code = dense(savings.key_of_row * len(batches.count) + splits[BATCHES])
    _, first, weight = np.unique(code, return_index=True, return_counts=True)
    one = {name: column[first] for name, column in splits.items()} | {"_weight": weight}
    rows = spread(one, savings.key_of_row[first], savings)
    columns = spread(rows, rows[BATCHES], batches)
    unlike = (columns[RUNS] & columns[_BATCH_RUNS]) == 0
    walk.refuse(ONE_FRAMEWORK, unlike, table=table_of(columns, len(unlike)), weight=columns["_weight"])
    return int(columns["_weight"][unlike].sum())


def _without(choices: Choices, name: str) -> Choices:
    return replace(choices, columns={key: column for key, column in choices.columns.items() if key != name})
