"""Many strategies at once: one array per dimension, so that rules and costs are computed for all of them together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute, Strategy

IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

SCHEDULES = tuple(PipelineSchedule)
RECOMPUTES = tuple(Recompute)
OFFLOADS = tuple(Offload)
PRECISIONS = tuple(Precision)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StrategyTable:
    """N strategies: every field is an int64 array of shape [N] with the meaning that it has in ``Strategy``.

    ``sequence_parallel`` is 0 or 1; ``schedule``, ``recompute``, ``offload`` and ``precision`` are positions in ``SCHEDULES``,
    ``RECOMPUTES``, ``OFFLOADS`` and ``PRECISIONS``. Stages are split evenly by cost; a table names no ``stage_layers``.
    """

    dp: IntArray
    fsdp: IntArray
    zero_stage: IntArray
    tp: IntArray
    sequence_parallel: IntArray
    cp: IntArray
    pp: IntArray
    virtual_stages: IntArray
    schedule: IntArray
    ep: IntArray
    etp: IntArray
    micro_batch: IntArray
    num_micro_batches: IntArray
    recompute: IntArray
    offload: IntArray
    precision: IntArray

    def __len__(self) -> int:
        return len(self.dp)

    @property
    def data_ranks(self) -> IntArray:
        """Ranks that see different samples, shape [N]."""
        return self.dp * self.fsdp

    @property
    def world_size(self) -> IntArray:
        """Ranks in all, shape [N]."""
        return self.dp * self.fsdp * self.tp * self.cp * self.pp

    def take(self, which: IntArray | BoolArray) -> StrategyTable:
        """The strategies at the positions ``which`` (indices or a mask of shape [N]), in that order."""
        return StrategyTable(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    def distinct(self, *names: str) -> tuple[StrategyTable, IntArray]:
        """One strategy for each distinct combination of the named columns, and for each row which of them is its own.

        What depends on these columns alone is computed for the smaller table and indexed with the second answer, shape [N].
        """
        code = np.zeros(len(self), dtype=np.int64)
        for name in names:
            column: IntArray = getattr(self, name)
            code = dense(code * (int(column.max(initial=0)) + 1) + column)
        first = np.zeros(int(code.max(initial=-1)) + 1, dtype=np.int64)
        first[code[::-1]] = np.arange(len(self))[::-1]
        return self.take(first), code

    def strategy(self, position: int) -> Strategy:
        """One of them."""
        row = {field.name: int(getattr(self, field.name)[position]) for field in fields(self)}
        return Strategy(
            dp=row["dp"],
            fsdp=row["fsdp"],
            zero_stage=row["zero_stage"],
            tp=row["tp"],
            sequence_parallel=bool(row["sequence_parallel"]),
            cp=row["cp"],
            pp=row["pp"],
            virtual_stages=row["virtual_stages"],
            schedule=SCHEDULES[row["schedule"]],
            ep=row["ep"],
            etp=row["etp"],
            micro_batch=row["micro_batch"],
            num_micro_batches=row["num_micro_batches"],
            recompute=RECOMPUTES[row["recompute"]],
            offload=OFFLOADS[row["offload"]],
            precision=PRECISIONS[row["precision"]],
        )

    @classmethod
    def of(cls, strategies: Iterable[Strategy]) -> StrategyTable:
        """The table of some strategies, in their order; their ``stage_layers`` are left out."""
        rows = [_coded(strategy) for strategy in strategies]
        columns = np.array(rows, dtype=np.int64).reshape(len(rows), len(_NAMES)).T
        return cls(**dict(zip(_NAMES, columns, strict=True)))


def dense(column: IntArray) -> IntArray:
    """The values of a column, 0 or more, replaced by their ranks: 0, 1, 2 ... without gaps; shape [N]."""
    top = int(column.max(initial=0))
    if top > _MOST_RANKED:
        return np.unique(column, return_inverse=True)[1].reshape(-1)
    present = np.zeros(top + 1, dtype=np.bool_)
    present[column] = True
    return (np.cumsum(present) - 1)[column]


_MOST_RANKED = 1 << 22
"""Largest value for which a table of all values costs less than sorting."""
_NAMES = tuple(field.name for field in fields(StrategyTable))
_READ = attrgetter(*_NAMES)
_CODES = {
    _NAMES.index(name): {value: code for code, value in enumerate(order)}
    for name, order in (("schedule", SCHEDULES), ("recompute", RECOMPUTES), ("offload", OFFLOADS), ("precision", PRECISIONS))
}


def _coded(strategy: Strategy) -> list[int]:
    row = list(_READ(strategy))
    for place, codes in _CODES.items():
        row[place] = codes[row[place]]
    return row
