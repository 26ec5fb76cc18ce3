"""The measures of the accuracy benchmark on cases worked out by hand."""

from __future__ import annotations

import pytest

from benchmarks._accuracy_metrics import (
    best_constant_width,
    error_frac,
    interval_score,
    mean_of_groups,
    nearer_reading,
    noise,
    regret_frac,
    spearman,
)


def test_error_is_relative_to_the_measured_value() -> None:
    assert error_frac(1.5, 1.0) == pytest.approx(0.5)
    assert error_frac(1.0, 2.0) == pytest.approx(0.5)


def test_groups_count_alike_however_many_rows_they_have() -> None:
    assert mean_of_groups([("a", 0.1), ("a", 0.3), ("b", 0.6)]) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1.0, 2.0, 3.0], [10.0, 20.0, 90.0], 1.0),
        ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], -1.0),
        ([1.0, 1.0, 1.0], [3.0, 2.0, 1.0], 0.0),
        ([1.0, 2.0, 2.0, 4.0], [1.0, 2.0, 3.0, 4.0], 0.9486832980505138),
    ],
)
def test_spearman(first: list[float], second: list[float], expected: float) -> None:
    assert spearman(first, second) == pytest.approx(expected)


def test_regret_is_that_of_the_rows_predicted_fastest() -> None:
    predicted, measured = [1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 2.2, 2.0]
    assert regret_frac(predicted, measured, best_of=1) == pytest.approx(0.5)
    assert regret_frac(predicted, measured, best_of=3) == pytest.approx(0.1)


def test_regret_gives_no_credit_for_luck_among_equal_predictions() -> None:
    assert regret_frac([1.0, 1.0, 1.0], [2.0, 3.0, 4.0], best_of=1) == pytest.approx(1.0)


def test_interval_score_is_the_width_and_ten_times_the_miss() -> None:
    assert interval_score(0.9, 1.1, 1.0) == pytest.approx(0.2)
    assert interval_score(1.1, 1.2, 1.0) == pytest.approx(0.1 + 10 * 0.1)
    assert interval_score(0.5, 0.9, 1.0) == pytest.approx(0.4 + 10 * 0.1)
    assert interval_score(9.0, 11.0, 10.0) == pytest.approx(0.2)


def test_the_best_constant_width_is_the_least_of_all_widths() -> None:
    pairs = [(1.0, 1.0 + step / 10) for step in range(10)] + [(2.0, 1.5), (4.0, 4.1)]
    width, score = best_constant_width(pairs)

    def mean_score(half: float) -> float:
        return sum(interval_score(made * (1 - half), made * (1 + half), real) for made, real in pairs) / len(pairs)

    assert score == pytest.approx(mean_score(width))
    assert score <= min(mean_score(number / 200) for number in range(400)) + 1e-12


def test_a_perfect_prediction_wants_no_width() -> None:
    assert best_constant_width([(1.0, 1.0), (2.0, 2.0)]) == (0.0, 0.0)


def test_noise_is_that_of_inputs_measured_with_different_results() -> None:
    assert noise({"a": [1.0, 1.2], "b": [3.0], "c": [2.0, 2.0]}) == pytest.approx([1 - 1 / 1.1, 1.2 / 1.1 - 1])


def test_a_figure_in_gb_counts_at_its_nearer_reading() -> None:
    assert nearer_reading(50e9, 50.0) == (0.0, "GB")
    assert nearer_reading(50.0 * 2**30, 50.0) == (0.0, "GiB")
