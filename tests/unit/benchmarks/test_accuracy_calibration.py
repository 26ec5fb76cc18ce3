"""Calibration as it is defined: which rows are drawn, that they are never scored, and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from benchmarks._accuracy_calibration import (
    NUM_SEEDS,
    Example,
    calibrated_outcomes,
    raw_outcomes,
    summary,
    with_raw,
)
from benchmarks._row_prediction import CalibrationRow, RowPrediction, multiplier
from tests.support.points import points


def scale(prediction: RowPrediction, rows: Sequence[CalibrationRow]) -> RowPrediction:
    factor = multiplier(rows)
    return replace(
        prediction, step_s=prediction.step_s * factor, low_s=prediction.low_s * factor, high_s=prediction.high_s * factor
    )


def examples(measured: Sequence[float], *, source: str = "s1", first: int = 0) -> list[Example]:
    """Rows of one group, each predicted at 1 s."""
    made = RowPrediction(step_s=1.0, low_s=0.9, high_s=1.1)
    rows = points(*({"step_time_s": value, "source": source} for value in measured)).rows
    return [Example(index=first + index, row=row, prediction=made) for index, row in enumerate(rows)]


def test_rows_that_calibrate_are_never_scored() -> None:
    """Each row is the only one of its measured step, so what a seed calibrated with can be told from what it scored."""
    own = examples([float(2**index) for index in range(7)])
    drawn_of_seed: list[set[float]] = []

    def record(prediction: RowPrediction, rows: Sequence[CalibrationRow]) -> RowPrediction:
        drawn_of_seed.append({row.measured_s for row in rows})
        return scale(prediction, rows)

    seeds = calibrated_outcomes(own, record)
    assert len(seeds) == NUM_SEEDS == 20
    for seed, outcomes in enumerate(seeds):
        drawn = drawn_of_seed[4 * seed]
        assert all(other == drawn for other in drawn_of_seed[4 * seed : 4 * seed + 4])
        assert len(drawn) == 3
        assert {outcome.example.measured_s for outcome in outcomes} == {float(2**index) for index in range(7)} - drawn
        assert {outcome.prediction.step_s for outcome in outcomes} == {sorted(drawn)[1]}
    assert len({frozenset(drawn) for drawn in drawn_of_seed}) > 5, "the seeds draw different rows"


@pytest.mark.parametrize(("number", "num_rows", "least", "scored"), [(5, 3, 6, 0), (6, 3, 6, 3), (2, 1, 3, 0), (3, 1, 3, 2)])
def test_small_groups_are_not_calibrated(number: int, num_rows: int, least: int, scored: int) -> None:
    seeds = calibrated_outcomes(examples([1.0] * number), scale, num_rows=num_rows, least_in_group=least)
    assert [len(outcomes) for outcomes in seeds] == [scored] * 20


def test_rows_of_another_file_calibrate_and_all_rows_are_scored() -> None:
    own, other = examples([2.0, 2.0]), examples([2.0, 2.0, 2.0])
    seeds = calibrated_outcomes(own, scale, other_file=other)
    assert [[outcome.error_frac for outcome in outcomes] for outcomes in seeds] == [[0.0, 0.0]] * 20
    assert calibrated_outcomes(own, scale, other_file=other[:2]) == [[]] * 20
    assert calibrated_outcomes(own, scale, other_file=examples([2.0] * 9, source="s2")) == [[]] * 20


def test_groups_have_multipliers_of_their_own() -> None:
    own = [*examples([2.0] * 6), *examples([5.0] * 6, source="s2", first=6)]
    for outcomes in calibrated_outcomes(own, scale):
        assert all(outcome.error_frac == pytest.approx(0.0) for outcome in outcomes)
        assert {outcome.prediction.step_s for outcome in outcomes} == {2.0, 5.0}


def test_a_predictor_cannot_calibrate_with_anything_but_the_multiplier() -> None:
    with pytest.raises(AssertionError, match="the raw one times the multiplier"):
        calibrated_outcomes(examples([2.0] * 6), lambda prediction, rows: prediction)


def test_a_summary_averages_over_seeds_and_over_groups() -> None:
    own = [*examples([1.0, 2.0]), *examples([4.0], source="s2", first=2)]
    found = summary(raw_outcomes(own), lambda example: True)
    assert found is not None
    assert found.mean_frac == pytest.approx((0.0 + 0.5 + 0.75) / 3)
    assert found.median_frac == pytest.approx(0.5)
    assert found.group_mean_frac == pytest.approx((0.25 + 0.75) / 2)
    assert (found.num_rows, found.num_groups) == (3, 2)
    assert summary(raw_outcomes(own), lambda example: False) is None


def test_groups_without_a_multiplier_are_completed_raw() -> None:
    own = [*examples([2.0] * 6), *examples([4.0], source="s2", first=6)]
    whole = with_raw(calibrated_outcomes(own, scale), raw_outcomes(own))
    assert [len(outcomes) for outcomes in whole] == [4] * 20
    assert {outcome.error_frac for outcomes in whole for outcome in outcomes} == {0.0, 0.75}
