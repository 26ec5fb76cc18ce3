"""Order of the samples and the guard that none is seen twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.data.order import SampleOrder, SampleOrderError, SeenGuard, share

PINNED_0 = [3, 2, 1, 6, 0, 7, 4, 5]
PINNED_1 = [7, 4, 5, 1, 6, 2, 0, 3]


@given(st.integers(1, 40), st.integers(0, 5), st.integers(0, 100), st.integers(1, 90))
def test_every_sample_once_per_epoch(num_samples: int, seed: int, position: int, count: int) -> None:
    order = SampleOrder(num_samples, seed)
    whole = order.ids(0, (position + count + num_samples) // num_samples * num_samples + num_samples)
    for epoch in range(len(whole) // num_samples):
        assert sorted(whole[epoch * num_samples : (epoch + 1) * num_samples]) == list(range(num_samples))
    assert order.ids(position, count).tolist() == whole[position : position + count].tolist()


def test_order_is_pinned_to_the_seed_and_epoch() -> None:
    # Pinned: a checkpoint goes on in this order in every version.
    assert SampleOrder(8, 0).permutation(0).tolist() == PINNED_0
    assert SampleOrder(8, 0).permutation(1).tolist() == PINNED_1
    assert SampleOrder(8, 1).permutation(0).tolist() != PINNED_0


@given(st.sampled_from([1, 2, 3, 4, 6]))
def test_shares_tile_the_global_batch(num_data_ranks: int) -> None:
    ids = SampleOrder(50, 3).ids(7, 12)
    shares = [share(ids, rank, num_data_ranks) for rank in range(num_data_ranks)]
    assert np.concatenate(shares).tolist() == ids.tolist()


def test_uneven_share_is_refused() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        share(np.arange(7), 0, 2)


@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 20))
def test_guard_accepts_the_order_and_counts(num_samples: int, batch: int, num_steps: int) -> None:
    order, guard = SampleOrder(num_samples, 0), SeenGuard(num_samples)
    for step in range(num_steps):
        guard.take(order.pieces(step * batch, batch))
    assert guard.epoch * num_samples + guard.num_seen == num_steps * batch


def test_guard_refuses_a_sample_seen_before() -> None:
    order, guard = SampleOrder(20, 0), SeenGuard(20)
    guard.take(order.pieces(0, 5))
    with pytest.raises(SampleOrderError, match="twice"):
        guard.take(order.pieces(4, 5))
    assert guard.num_seen == 5


def test_guard_refuses_a_repetition_within_a_batch() -> None:
    with pytest.raises(SampleOrderError, match="twice"):
        SeenGuard(20).take([(0, np.array([1, 2, 1]))])


def test_guard_refuses_an_epoch_with_a_gap() -> None:
    guard = SeenGuard(4)
    guard.take([(0, np.array([0, 1, 3]))])
    with pytest.raises(SampleOrderError, match="sample 2 was not seen"):
        guard.take([(1, np.array([0]))])


def test_guard_refuses_a_jump_over_an_epoch() -> None:
    with pytest.raises(SampleOrderError, match="epoch 2"):
        SeenGuard(4).take([(2, np.array([0]))])


@given(st.integers(1, 40), st.integers(0, 60))
def test_guard_state_goes_on_where_it_was(num_samples: int, position: int) -> None:
    order, guard = SampleOrder(num_samples, 1), SeenGuard(num_samples)
    if position:
        guard.take(order.pieces(0, position))
    again = SeenGuard(num_samples)
    again.restore(guard.epoch, guard.state(), position=position)
    again.take(order.pieces(position, 3))
    guard.take(order.pieces(position, 3))
    assert again.state().tolist() == guard.state().tolist()


def test_guard_refuses_a_state_that_contradicts_the_position() -> None:
    guard = SeenGuard(10)
    guard.take(SampleOrder(10, 0).pieces(0, 4))
    with pytest.raises(SampleOrderError, match="says otherwise"):
        SeenGuard(10).restore(0, guard.state(), position=5)
