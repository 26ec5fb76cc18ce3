"""Splits of layers and shares of samples are the best of all."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest

from planner.candidates.mixed_replicas import Paces, fewest_micro, shares_of
from planner.candidates.mixed_split import StageTable, best_split


def compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    if parts == 1:
        yield (total,)
        return
    for first in range(1, total - parts + 2):
        for rest in compositions(total - first, parts - 1):
            yield (first, *rest)


def table_of(rng: np.random.Generator, num_stages: int, num_layers: int) -> StageTable:
    lengths = np.arange(1.0, num_layers + 1.0)
    per_layer = rng.choice([0.5, 1.0, 2.5], num_stages)[:, None] * rng.uniform(0.8, 1.2)
    rest = rng.uniform(0.0, 2.0, num_stages)[:, None] * lengths + rng.uniform(0.0, 3.0)
    room = rng.integers(1, num_layers + 1, num_stages)[:, None]
    return StageTable(slot_s=per_layer * lengths + rng.uniform(0.0, 1.0, (num_stages, 1)), rest_s=rest, fits=lengths <= room)


def brute(table: StageTable, num_layers: int, micro: int) -> float:
    best = np.inf
    rows = np.arange(len(table.slot_s))
    for layers in compositions(num_layers, len(rows)):
        at = (rows, np.array(layers) - 1)
        if table.fits[at].all():
            slots = table.slot_s[at]
            best = min(best, (micro - 1) * slots.max() + slots.sum() + table.rest_s[at].max())
    return best


@pytest.mark.parametrize("seed", range(40))
def test_split_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_stages, micro = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    num_layers = int(rng.integers(num_stages, 10))
    table = table_of(rng, num_stages, num_layers)
    expected, found = brute(table, num_layers, micro), best_split(table, num_layers, micro)
    if found is None:
        assert expected == np.inf
        return
    assert found.layers.sum() == num_layers
    assert table.fits[np.arange(num_stages), found.layers - 1].all()
    assert found.pipe_s + found.rest_s == pytest.approx(expected, rel=1e-12)


def test_more_stages_than_layers_have_no_split() -> None:
    assert best_split(table_of(np.random.default_rng(0), 4, 3), 3, 8) is None


@pytest.mark.parametrize("seed", range(30))
def test_shares_end_as_early_as_any(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch = 64
    replicas, micro_batch = rng.integers(1, 6, 2), 2 ** rng.integers(0, 3, 2)
    start, each = rng.uniform(0.0, 2.0, 2), rng.uniform(0.2, 3.0, 2)
    paces = Paces(start_s=start[None], each_s=each[None], replicas=replicas[None], micro_batch=micro_batch[None])
    micro, possible = fewest_micro(paces, batch)
    assert possible[0]
    shares = shares_of(replicas, micro_batch, micro[0], global_batch=batch)
    assert shares is not None
    assert int((shares * micro_batch).sum()) == batch
    assert (shares >= replicas).all()
    busiest = -(-shares // replicas)
    ends = [
        float((start - (-np.array(pair) // replicas) * each).max())
        for pair in product(range(1, batch + 1), repeat=2)
        if (np.array(pair) >= replicas).all() and int((micro_batch * np.array(pair)).sum()) == batch
    ]
    assert float((start + busiest * each).max()) <= min(ends) * (1.0 + 1e-9)


def test_a_batch_below_one_of_each_replica_has_no_shares() -> None:
    ones = np.ones((1, 2))
    paces = Paces(start_s=ones, each_s=ones, replicas=np.array([[4, 4]]), micro_batch=np.array([[2, 2]]))
    assert not fewest_micro(paces, 8)[1][0]
    assert shares_of(np.array([4, 4]), np.array([2, 2]), np.array([1, 1]), global_batch=8) is None
