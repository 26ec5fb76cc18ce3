"""The figures of memory: predicted peaks against measured ones, and what was said to fit.

A row ran out of memory where its ``outcome`` says so (only rows of ``memory_points`` do); every other row that was measured
ran. ``memory_megatron_*``: framework ``megatron-lm``, allocated memory in GiB. ``memory_all_*``: every measured peak; where the
unit is printed as GB it may be either, and the nearer reading counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks._accuracy_metrics import error_frac, nearer_reading
from benchmarks._point_types import Row
from benchmarks._row_prediction import RowPrediction
from trimtab.plan import FitVerdict

Predicted = Sequence[tuple[Row, RowPrediction]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """A measured peak and what was predicted; ``unit`` is that of the reading."""

    row: Row
    predicted_bytes: float
    measured_bytes: float
    error_frac: float
    unit: str
    unit_is_known: bool


def peaks(predicted: Predicted) -> list[Peak]:
    """Every measured peak of a row whose memory was predicted."""
    found = []
    for row, prediction in predicted:
        truth, made = row.truth, prediction.memory_bytes
        if prediction.refused or made is None:
            continue
        if truth.memory_gib is not None:
            measured, known = truth.memory_gib, True
            error, unit = error_frac(made, measured * (1 << 30)), "GiB"
        elif truth.memory_gb_reported is not None:
            measured, known = truth.memory_gb_reported, False
            error, unit = nearer_reading(made, measured)
        else:
            continue
        size = measured * (1e9 if unit == "GB" else float(1 << 30))
        found.append(Peak(row=row, predicted_bytes=made, measured_bytes=size, error_frac=error, unit=unit, unit_is_known=known))
    return found


def memory_figures(predicted: Predicted) -> dict[str, float | None]:
    """Errors of the peaks and counts of wrong verdicts; None where no memory was predicted."""
    found = peaks(predicted)
    megatron = [peak.error_frac for peak in found if peak.row.truth.framework == "megatron-lm" and peak.unit_is_known]
    everything = [peak.error_frac for peak in found]
    judged = [(row, prediction) for row, prediction in predicted if prediction.verdict is not None and not prediction.refused]
    ran = [prediction.verdict for row, prediction in judged if not row.truth.out_of_memory]
    ended = [prediction.verdict for row, prediction in judged if row.truth.out_of_memory]
    return {
        "memory_megatron_mean_frac": statistics.fmean(megatron) if megatron else None,
        "memory_megatron_worst_frac": max(megatron, default=None),
        "memory_megatron_rows_count": float(len(megatron)),
        "memory_all_mean_frac": statistics.fmean(everything) if everything else None,
        "memory_all_rows_count": float(len(everything)),
        "memory_tight_frac": ran.count(FitVerdict.TIGHT) / len(ran) if ran else None,
        "false_does_not_fit_count": float(ran.count(FitVerdict.DOES_NOT_FIT)) if ran else None,
        "false_fits_count": float(ended.count(FitVerdict.FITS)) if ended else None,
        "judged_ran_rows_count": float(len(ran)),
        "judged_out_of_memory_rows_count": float(len(ended)),
    }


def wrong_verdicts(predicted: Predicted) -> list[str]:
    """One line for each row that ran and was said not to fit, and for each that ran out of memory and was said to fit."""
    lines = []
    for row, prediction in predicted:
        if prediction.refused:
            continue
        if row.truth.out_of_memory and prediction.verdict is FitVerdict.FITS:
            lines.append(f"{row.truth.id}: ran out of memory, said to fit")
        if not row.truth.out_of_memory and prediction.verdict is FitVerdict.DOES_NOT_FIT:
            lines.append(f"{row.truth.id}: ran, said not to fit")
    return lines
