"""Rows with their predictions, raw and calibrated, as the accuracy benchmark defines it.

A calibration group is (publisher, hardware, framework). *Calibrated*: a group gets one multiplier, the median of measured over
predicted of 3 of its rows, drawn anew for each of 20 seeds; the drawn rows are not scored. They come from a second file where one
is given (then every row of a group that has 3 there is scored), else from groups of 6 rows or more of the same file. *One row*:
the same with 1 row, and groups of 3 rows or more. *Raw*: no multiplier.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks._accuracy_metrics import error_frac, mean_of_groups
from benchmarks._point_types import Row
from benchmarks._row_prediction import CalibrationRow, RowPrediction, multiplier

Calibrate = Callable[[RowPrediction, Sequence[CalibrationRow]], RowPrediction]
Group = tuple[str, str, str]
NUM_SEEDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A row that has a measured step and a raw prediction of it; ``index`` tells rows apart whose ids are equal."""

    index: int
    row: Row
    prediction: RowPrediction

    @property
    def measured_s(self) -> float:
        """The measured step."""
        assert self.row.truth.step_s is not None
        return self.row.truth.step_s

    @property
    def group(self) -> Group:
        """The calibration group."""
        return self.row.truth.group

    def as_calibration(self) -> CalibrationRow:
        """The row as one that a group is calibrated with."""
        return CalibrationRow(input=self.row.input, prediction=self.prediction, measured_s=self.measured_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """An example with the prediction that is scored, raw or calibrated."""

    example: Example
    prediction: RowPrediction

    @property
    def error_frac(self) -> float:
        """|predicted / measured - 1|."""
        return error_frac(self.prediction.step_s, self.example.measured_s)

    @property
    def covers(self) -> bool:
        """Whether the interval holds the measured step."""
        return self.prediction.low_s <= self.example.measured_s <= self.prediction.high_s


Seeds = Sequence[Sequence[Outcome]]
"""The scored outcomes of every seed; raw ones have a single seed."""


def raw_outcomes(examples: Sequence[Example]) -> list[list[Outcome]]:
    """All examples with their raw predictions, in one seed."""
    return [[Outcome(example=example, prediction=example.prediction) for example in examples]]


def by_group(examples: Sequence[Example]) -> dict[Group, list[Example]]:
    """The examples of every group, in the order of the file."""
    groups: dict[Group, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.group, []).append(example)
    return groups


def calibrated_outcomes(
    examples: Sequence[Example],
    calibrate: Calibrate,
    *,
    other_file: Sequence[Example] | None = None,
    num_rows: int = 3,
    least_in_group: int = 6,
) -> list[list[Outcome]]:
    """One list of outcomes per seed, of the rows that were not drawn in it; groups that cannot be calibrated are left out.

    ``other_file`` holds the examples that the rows are drawn from, None: those of the same group. ``least_in_group`` bounds
    groups of the same file.
    """
    groups = by_group(examples)
    sources = groups if other_file is None else by_group(other_file)
    least = least_in_group if other_file is None else num_rows
    seeds: list[list[Outcome]] = []
    for seed in range(NUM_SEEDS):
        outcomes = []
        for group, members in groups.items():
            source = sources.get(group, [])
            if len(source) < least:
                continue
            drawn = [source[index] for index in random.Random(seed).sample(range(len(source)), num_rows)]
            hidden = {example.index for example in drawn} if other_file is None else set()
            outcomes += _calibrated(drawn, [member for member in members if member.index not in hidden], calibrate)
        seeds.append(outcomes)
    return seeds


def _calibrated(drawn: Sequence[Example], scored: Sequence[Example], calibrate: Calibrate) -> list[Outcome]:
    rows = [example.as_calibration() for example in drawn]
    factor = multiplier(rows)
    outcomes = []
    for example in scored:
        prediction = calibrate(example.prediction, rows)
        expected_s = example.prediction.step_s * factor
        assert math.isclose(prediction.step_s, expected_s, rel_tol=1e-9), "a calibrated step is the raw one times the multiplier"
        outcomes.append(Outcome(example=example, prediction=prediction))
    return outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Errors of a class of rows: over rows and over groups, each averaged over the seeds; how many different rows and groups."""

    mean_frac: float
    median_frac: float
    group_mean_frac: float
    num_rows: int
    num_groups: int


def summary(seeds: Seeds, keep: Callable[[Example], bool]) -> Summary | None:
    """The errors of the examples that ``keep`` takes; None where there are none."""
    kept = [[outcome for outcome in outcomes if keep(outcome.example)] for outcomes in seeds]
    kept = [outcomes for outcomes in kept if outcomes]
    if not kept:
        return None
    errors = [[outcome.error_frac for outcome in outcomes] for outcomes in kept]
    groups = [[(outcome.example.group, outcome.error_frac) for outcome in outcomes] for outcomes in kept]
    everything = [outcome.example for outcomes in kept for outcome in outcomes]
    return Summary(
        mean_frac=statistics.fmean(statistics.fmean(values) for values in errors),
        median_frac=statistics.fmean(statistics.median(values) for values in errors),
        group_mean_frac=statistics.fmean(mean_of_groups(pairs) for pairs in groups),
        num_rows=len({example.index for example in everything}),
        num_groups=len({example.group for example in everything}),
    )


def with_raw(calibrated: Seeds, raw: Seeds) -> list[list[Outcome]]:
    """Every seed of ``calibrated`` completed by the raw outcomes of the groups that it does not have."""
    known = {outcome.example.group for outcomes in calibrated for outcome in outcomes}
    others = [outcome for outcome in raw[0] if outcome.example.group not in known]
    return [[*outcomes, *others] for outcomes in calibrated]
