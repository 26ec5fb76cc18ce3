"""How figures grow: exact through three lengths, per token where they are no polynomial."""

from __future__ import annotations

from fractions import Fraction

import pytest

pytestmark = pytest.mark.runtime
pytest.importorskip("torch", reason="torch is not installed (extra: runtime)")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from workers.trace.figures import batch_note, growth, square_note  # noqa: E402

TERMS = st.integers(0, 10**15)


@given(TERMS, TERMS, TERMS, st.integers(8, 10**6), st.integers(1, 1000))
def test_a_polynomial_is_found_exactly(fixed: int, linear: int, square: int, length: int, batch: int) -> None:
    at = {s: batch * (fixed + linear * s + square * s * s) for s in (length, length // 2, length // 4)}
    found = growth(at, batch=batch)
    assert (found.fixed, found.linear, found.square) == (fixed, linear, square)


@given(st.dictionaries(st.integers(1, 10**6), st.integers(0, 10**15), min_size=1, max_size=3), st.integers(1, 64))
def test_the_figure_at_the_longest_is_kept_whatever_it_does(at: dict[int, int], batch: int) -> None:
    longest, found = max(at), growth(at, batch=batch)
    assert batch * (found.fixed + found.linear * longest + found.square * longest**2) == at[longest]
    assert min(found.fixed, found.linear, found.square) >= 0


def test_notes_stand_where_figures_do_not_carry_over() -> None:
    assert batch_note("FLOPs", {"a": 10}, {"a": 20}, batch=2) is None
    assert batch_note("FLOPs", {}, {}, batch=2) is None
    assert "grow 1.5 times" in str(batch_note("FLOPs", {"a": 10}, {"a": 15}, batch=2))
    assert square_note("FLOPs", [Fraction(0)], 10, length=8, batch=2) is None
    assert str(square_note("FLOPs", [Fraction(1)], 256, length=8, batch=2)).startswith("50% of the FLOPs")
