"""The whole space of strategies as arrays.

Rows stand in the order of nested loops over the values of ``values.py``: tp, sequence parallelism, cp, pp, ep, etp, schedule,
virtual stages, fsdp, ZeRO stage, recompute, offload, precision, micro-batch. The last four are spread out in blocks, when the
strategies are asked for, so that millions of them need no memory at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from planner.strategies import values
from planner.strategies.question import Question, Refusal
from planner.strategies.table import BoolArray, IntArray, StrategyTable
from planner.strategies.walk import BATCHES, Choices, Columns, Walk, spread, table_of

Prune: TypeAlias = Callable[[StrategyTable], BoolArray]
"""Given a table of N strategies: where one may fit, shape [N]. Where it says no, it must say no to the same strategy with a
larger micro-batch (and fewer of them) too: it is asked with the smallest."""

BLOCK_ROWS = 1 << 17
"""Strategies of one block, about: sixteen columns of it stay in a processor's cache."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """The legal strategies of a question, and what the rules refused, by rule in their order.

    A refusal counts the combinations that a rule refused when it was asked, of the dimensions known by then: those that a
    refused one would have been crossed with are not counted.
    """

    refusals: tuple[Refusal, ...]
    num_legal: int
    _splits: Columns
    _savings: Choices
    _batches: Choices

    def __len__(self) -> int:
        return self.num_legal

    def blocks(self, *, prune: Prune | None = None, num_rows: int = BLOCK_ROWS) -> Iterator[StrategyTable]:
        """The legal strategies in their order, about ``num_rows`` at a time, without those that cannot fit.

        ``prune`` is a bound, not a rule: ``num_legal`` counts what it takes.
        """
        counts = self._strategies_of_splits()
        block = np.cumsum(counts) // max(1, num_rows)
        starts = np.flatnonzero(np.diff(block, prepend=-1))
        for start, end in pairwise([*starts, len(counts)]):
            table = self._spread(int(start), int(end), prune)
            if len(table):
                yield table

    @property
    def table(self) -> StrategyTable:
        """All of them at once."""
        return self._spread(0, len(self._savings.key_of_row), None)

    def _strategies_of_splits(self) -> IntArray:
        batches = self._batches.count[self._splits[BATCHES]] if self._splits else np.zeros(0, dtype=np.int64)
        return batches * self._savings.count[self._savings.key_of_row]

    def _spread(self, start: int, end: int, prune: Prune | None) -> StrategyTable:
        some = {name: column[start:end] for name, column in self._splits.items()}
        rows = spread(some, self._savings.key_of_row[start:end], self._savings)
        if not rows:
            return table_of({}, 0)
        if prune is not None:
            smallest = self._batches.start[rows[BATCHES]]
            first = {name: column[smallest] for name, column in self._batches.columns.items()}
            kept = prune(table_of(rows | first, len(smallest)))
            rows = {name: column[kept] for name, column in rows.items()}
        keys = rows.pop(BATCHES)
        columns = spread(rows, keys, self._batches)
        return table_of(columns, len(columns["tp"]))


def enumerate_grid(question: Question) -> Grid:
    """All legal strategies of a question."""
    walk = Walk(question)
    if not walk.begin():
        nothing = Choices(key_of_row=_NONE, start=_NONE, count=_NONE, columns={})
        return Grid(refusals=walk.refusals(), num_legal=0, _splits={}, _savings=nothing, _batches=nothing)
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
    num_legal = int((batches.count[splits[BATCHES]] * savings.count[savings.key_of_row]).sum())
    return Grid(
        refusals=walk.refusals(),
        num_legal=num_legal,
        _splits=splits,
        _savings=_only(savings, "recompute", "offload", "precision"),
        _batches=_only(batches, "micro_batch", "num_micro_batches"),
    )


_NONE = np.zeros(0, dtype=np.int64)
_KEPT = {BATCHES, *(field.name for field in fields(StrategyTable))}


def _only(choices: Choices, *names: str) -> Choices:
    columns = {name: choices.columns[name] for name in names}
    return Choices(key_of_row=choices.key_of_row, start=choices.start, count=choices.count, columns=columns)
