"""The figures of step time: errors per class of rows, and what the intervals are worth.

Classes, each scored calibrated, with one row and raw:

- ``dense``, ``moe``: rows of known recompute on GPUs and TPUs whose model has no experts, or has; jobs on one device type.
- ``dense_unknown_recompute``, ``moe_unknown_recompute``: the same where the source does not say what was recomputed.
- ``tpu``: rows of known recompute on TPUs, dense and with experts, which count in ``dense`` and ``moe`` too;
  ``tpu_unknown_recompute`` those that do not say.
- ``mixed``: jobs on several device types, whatever they recompute; they count nowhere else.

Intervals are scored over all of them: calibrated where the group can be, else raw.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks._accuracy_calibration import (
    Calibrate,
    Example,
    Outcome,
    Seeds,
    Summary,
    calibrated_outcomes,
    raw_outcomes,
    summary,
    with_raw,
)
from benchmarks._accuracy_metrics import best_constant_width, interval_score
from benchmarks._point_types import Row

LEAST_IN_CLASS = 20
"""Rows that a class must have for the cover of its intervals to mean anything."""


def _plain(row: Row, *, experts: bool, known: bool) -> bool:
    seen = row.input
    return not seen.is_mixed and seen.has_experts is experts and (seen.recompute is not None) is known


def _tpu(row: Row, *, known: bool) -> bool:
    seen = row.input
    return not seen.is_mixed and seen.hardware.is_tpu and (seen.recompute is not None) is known


CLASSES: dict[str, Callable[[Row], bool]] = {
    "dense": lambda row: _plain(row, experts=False, known=True),
    "moe": lambda row: _plain(row, experts=True, known=True),
    "dense_unknown_recompute": lambda row: _plain(row, experts=False, known=False),
    "moe_unknown_recompute": lambda row: _plain(row, experts=True, known=False),
    "tpu": lambda row: _tpu(row, known=True),
    "tpu_unknown_recompute": lambda row: _tpu(row, known=False),
    "mixed": lambda row: row.input.is_mixed,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResults:
    """The outcomes of every way of scoring."""

    raw: Seeds
    calibrated: Seeds
    one_row: Seeds

    @property
    def best(self) -> Seeds:
        """Calibrated where the group can be, else raw."""
        return with_raw(self.calibrated, self.raw)


def score_steps(examples: Sequence[Example], calibrate: Calibrate, *, other_file: Sequence[Example] | None = None) -> StepResults:
    """Score the examples in every way."""
    return StepResults(
        raw=raw_outcomes(examples),
        calibrated=calibrated_outcomes(examples, calibrate, other_file=other_file),
        one_row=calibrated_outcomes(examples, calibrate, other_file=other_file, num_rows=1, least_in_group=3),
    )


def class_summaries(results: StepResults) -> dict[str, dict[str, Summary | None]]:
    """For every class and for all rows: the errors calibrated, with one row, and raw."""
    classes = {**CLASSES, "all": lambda row: True}
    ways = {"calibrated": results.calibrated, "one_row": results.one_row, "raw": results.raw}
    return {name: {way: _summary(seeds, keep) for way, seeds in ways.items()} for name, keep in classes.items()}


def _summary(seeds: Seeds, keep: Callable[[Row], bool]) -> Summary | None:
    return summary(seeds, lambda example: keep(example.row))


def step_figures(summaries: dict[str, dict[str, Summary | None]]) -> dict[str, float | None]:
    """The figures of all classes: over rows and over groups, with the number of rows; ``one_row`` is of the dense class."""
    figures: dict[str, float | None] = {}
    for name, ways in summaries.items():
        if name == "all":
            continue
        figures |= _figures(name, ways["calibrated"], median=name == "dense")
        figures |= _figures(f"{name}_raw", ways["raw"])
    figures |= _figures("one_row", summaries["dense"]["one_row"])
    return figures | _figures("one_row_all", summaries["all"]["one_row"])


def _figures(name: str, found: Summary | None, *, median: bool = False) -> dict[str, float | None]:
    figures: dict[str, float | None] = {f"{name}_mean_frac": found.mean_frac if found else None}
    if median:
        figures[f"{name}_median_frac"] = found.median_frac if found else None
    figures[f"{name}_group_mean_frac"] = found.group_mean_frac if found else None
    figures[f"{name}_rows_count"] = float(found.num_rows) if found else 0.0
    return figures


def interval_figures(seeds: Seeds) -> dict[str, float | None]:
    """Cover, width and score of the 80 % intervals, all seeds together; the cover of every class with enough rows.

    The score is the interval score over the measured step; it is compared with that of intervals of one relative width around
    the same predictions, the width being the best that there is for these rows in hindsight.
    """
    outcomes = [outcome for own in seeds for outcome in own]
    if not outcomes:
        names = ("interval80_cover_frac", "interval80_median_half_width_frac", "interval_score_over_constant_width_ratio")
        return dict.fromkeys(names)
    ours = statistics.fmean(_score(outcome) for outcome in outcomes)
    width, constant = best_constant_width([(outcome.prediction.step_s, outcome.example.measured_s) for outcome in outcomes])
    figures: dict[str, float | None] = {
        "interval80_cover_frac": _cover(outcomes),
        "interval80_median_half_width_frac": statistics.median(_half_width(outcome) for outcome in outcomes),
        "interval_score_over_constant_width_ratio": ours / constant,
        "interval80_best_constant_half_width_frac": width,
    }
    for name, keep in CLASSES.items():
        own = [outcome for outcome in outcomes if keep(outcome.example.row)]
        if len({outcome.example.index for outcome in own}) >= LEAST_IN_CLASS:
            figures[f"interval80_cover_{name}_frac"] = _cover(own)
    return figures


def _score(outcome: Outcome) -> float:
    return interval_score(outcome.prediction.low_s, outcome.prediction.high_s, outcome.example.measured_s)


def _cover(outcomes: Sequence[Outcome]) -> float:
    return statistics.fmean(outcome.covers for outcome in outcomes)


def _half_width(outcome: Outcome) -> float:
    return (outcome.prediction.high_s - outcome.prediction.low_s) / 2.0 / outcome.prediction.step_s
