"""The search for the edge and the figures of the exhaustion benchmark, on cases worked out by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks._exhaustion_search import Tried, figures, ladder, largest
from trimtab.plan import FitVerdict


def tried(verdict: FitVerdict, *, ran: bool, size: int = 1, peak: int | None = None) -> Tried:
    return Tried(
        family="single",
        size=size,
        verdict=verdict,
        ran=ran,
        predicted_needed_bytes=900.0,
        predicted_tensor_bytes=110.0,
        resident_peak_bytes=1000,
        peak_tensor_bytes=peak,
    )


def test_a_ladder_holds_its_start_and_rises_by_its_step() -> None:
    sizes = ladder(100, step_frac=0.1, low_frac=0.5, high_frac=2.0)
    assert 100 in sizes
    assert sizes == sorted(set(sizes))
    assert 45 <= sizes[0] <= 50
    assert 200 <= sizes[-1] <= 220
    assert all(1.05 < high / low < 1.15 for low, high in pairwise(sizes))


@pytest.mark.parametrize(("start", "expected"), [(1, [1, 2]), (2, [1, 2, 3, 4])])
def test_small_ladders_take_whole_steps(start: int, expected: list[int]) -> None:
    assert ladder(start, step_frac=0.1, low_frac=0.5, high_frac=2.0) == expected


def test_a_ladder_from_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="found 0"):
        ladder(0, step_frac=0.1, low_frac=0.5, high_frac=2.0)


@pytest.mark.parametrize("first", [1, 13, 20])
@pytest.mark.parametrize("edge", range(21))
def test_the_search_finds_every_edge_and_tries_nothing_twice(edge: int, first: int) -> None:
    asked: list[int] = []

    def holds(size: int) -> bool:
        asked.append(size)
        return size <= edge

    assert largest(range(1, 21), holds, first=first) == (edge or None)
    assert asked[0] == first
    assert len(asked) == len(set(asked)) <= 10


def test_figures_count_what_was_promised_wrongly() -> None:
    runs = [
        tried(FitVerdict.FITS, ran=False),
        tried(FitVerdict.FITS, ran=True, peak=100),
        tried(FitVerdict.TIGHT, ran=False),
        tried(FitVerdict.DOES_NOT_FIT, ran=True),
        tried(FitVerdict.DOES_NOT_FIT, ran=False),
    ]
    found = figures(runs, {"single": 12, "dp 2": 9}, {"single": 10, "dp 2": 10})
    assert found["configurations_count"] == 5
    assert found["ran_out_count"] == 3
    assert found["false_fits_count"] == 1
    assert found["false_does_not_fit_count"] == 1
    assert found["tight_frac"] == pytest.approx(0.2)
    assert found["largest_predicted_over_real_highest_ratio"] == pytest.approx(1.2)
    assert found["largest_predicted_over_real_lowest_ratio"] == pytest.approx(0.9)
    assert found["tensor_peak_worst_error_frac"] == pytest.approx(0.1)
    assert found["resident_peak_mean_error_frac"] == pytest.approx(0.1)


def test_figures_without_an_edge_are_null() -> None:
    found = figures([tried(FitVerdict.FITS, ran=True)], {}, {})
    assert found["largest_predicted_over_real_median_ratio"] is None
    assert found["tensor_peak_worst_error_frac"] is None
