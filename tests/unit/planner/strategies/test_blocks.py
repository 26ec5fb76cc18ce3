"""Blocks of strategies: cut up, pruned, without what is not needed."""

from __future__ import annotations

import numpy as np
import pytest

from planner.strategies import enumerate_grid
from planner.strategies.table import RECOMPUTES, BoolArray, StrategyTable
from tests.support.strategy_worlds import NAMES, WORLDS, as_rows
from trimtab.strategy import Recompute


@pytest.mark.parametrize("name", WORLDS)
def test_blocks_are_the_table_cut_up(name: str) -> None:
    grid = enumerate_grid(WORLDS[name])
    blocks = list(grid.blocks(num_rows=100))
    if len(grid):
        np.testing.assert_array_equal(np.concatenate([as_rows(block) for block in blocks]), as_rows(grid.table))
        assert len(blocks) == 1 or max(map(len, blocks)) < 400
    else:
        assert blocks == []


@pytest.mark.parametrize("name", WORLDS)
def test_pruning_leaves_what_the_bound_lets_through_and_asks_little(name: str) -> None:
    asked = [0]

    def bound(table: StrategyTable) -> BoolArray:
        asked[0] += len(table)
        some = (table.pp <= 2) & (table.recompute != RECOMPUTES.index(Recompute.NONE))
        return some & (table.micro_batch * table.cp <= 1 + table.tp)

    grid = enumerate_grid(WORLDS[name])
    kept = [as_rows(block) for block in grid.blocks(prune=bound, num_rows=50)]
    num_asked = asked[0]
    everything = grid.table
    np.testing.assert_array_equal(
        np.concatenate(kept) if kept else as_rows(everything)[:0], as_rows(everything.take(bound(everything)))
    )
    assert num_asked <= len(grid)


@pytest.mark.parametrize("name", WORLDS)
def test_only_needed_leaves_out_what_fits_with_less_recompute_or_offload(name: str) -> None:
    def fits(table: StrategyTable) -> BoolArray:
        kept = table.micro_batch * (3 - table.recompute) * (3 - table.offload)
        return kept * 7 <= 40 * table.tp * table.pp + table.fsdp

    grid = enumerate_grid(WORLDS[name])
    found = [as_rows(block) for block in grid.blocks(prune=fits, only_needed=True, num_rows=70)]
    fitting = as_rows(grid.table.take(fits(grid.table)))
    recompute, offload = NAMES.index("recompute"), NAMES.index("offload")
    others = [place for place in range(len(NAMES)) if place not in (recompute, offload)]
    known = {(tuple(row[others]), row[recompute], row[offload]) for row in fitting}
    needed = [
        row
        for row in fitting
        if not any(
            (tuple(row[others]), less, kept) in known
            for less in range(row[recompute] + 1)
            for kept in {0, int(row[offload])}
            if (less, kept) != (row[recompute], row[offload])
        )
    ]
    wanted = np.array(needed, dtype=np.int64).reshape(-1, len(NAMES))
    np.testing.assert_array_equal(np.concatenate([*found, wanted[:0]]), wanted)


def test_distinct_rows_stand_for_all() -> None:
    table = enumerate_grid(WORLDS["experts, megatron"]).table
    some_columns = ("tp", "pp", "ep", "micro_batch")
    few, own = table.distinct(*some_columns)
    assert len(few) == len({tuple(row) for row in as_rows(table)[:, [NAMES.index(name) for name in some_columns]]})
    for name in some_columns:
        np.testing.assert_array_equal(getattr(few, name)[own], getattr(table, name))
    nothing, where = table.take(np.zeros(0, dtype=np.int64)).distinct("tp")
    assert len(nothing) == len(where) == 0
