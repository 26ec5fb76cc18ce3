"""The front holds exactly what nothing dominates."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduler.service.pareto import front_of

NUMBERS = st.integers(0, 12) | st.floats(0, 1e6)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=60)


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] <= other[1] and one != other


@given(PAIRS)
def test_no_point_of_the_front_is_dominated_and_every_other_is(pairs: list[tuple[float, float]]) -> None:
    front = set(front_of(pairs))
    for index, pair in enumerate(pairs):
        assert any(dominates(other, pair) for other in pairs) == (index not in front)


@given(PAIRS)
def test_the_front_goes_from_fast_to_cheap(pairs: list[tuple[float, float]]) -> None:
    front = [pairs[index] for index in front_of(pairs)]
    assert front == sorted(front, key=lambda pair: (pair[0], -pair[1]))
    assert bool(front) == bool(pairs)
