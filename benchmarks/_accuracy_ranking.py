"""The figures of ranking inside sweeps, and the noise floor of the measurements themselves."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks._accuracy_calibration import Example
from benchmarks._accuracy_metrics import noise, regret_frac, spearman
from benchmarks._point_types import RowInput

LEAST_IN_SWEEP = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One sweep: rank correlation, and how much slower the choice is than the best."""

    name: str
    num_rows: int
    spearman: float
    regret_best_of_three_frac: float
    regret_first_frac: float


def sweeps(examples: Sequence[Example]) -> list[Sweep]:
    """Every sweep group of enough rows, ranked by raw predictions (one multiplier changes no order)."""
    groups: dict[str, list[Example]] = {}
    for example in examples:
        if example.row.truth.sweep_group is not None:
            groups.setdefault(example.row.truth.sweep_group, []).append(example)
    return [_sweep(name, members) for name, members in groups.items() if len(members) >= LEAST_IN_SWEEP]


def _sweep(name: str, members: Sequence[Example]) -> Sweep:
    predicted = [example.prediction.step_s for example in members]
    measured = [example.measured_s for example in members]
    return Sweep(
        name=name,
        num_rows=len(members),
        spearman=spearman(predicted, measured),
        regret_best_of_three_frac=regret_frac(predicted, measured, best_of=3),
        regret_first_frac=regret_frac(predicted, measured, best_of=1),
    )


def ranking_figures(found: Sequence[Sweep]) -> dict[str, float | None]:
    """Means over the sweeps; None where there is none."""
    return {
        "spearman_mean": statistics.fmean(sweep.spearman for sweep in found) if found else None,
        "regret_best_of_three_frac": statistics.fmean(sweep.regret_best_of_three_frac for sweep in found) if found else None,
        "regret_first_frac": statistics.fmean(sweep.regret_first_frac for sweep in found) if found else None,
        "sweeps_count": float(len(found)),
    }


def noise_figures(examples: Sequence[Example]) -> dict[str, float | None]:
    """How far rows with equal inputs and different measurements lie from their median: the least error that there can be."""
    inputs: dict[RowInput, list[float]] = {}
    for example in examples:
        inputs.setdefault(example.row.input, []).append(example.measured_s)
    found = noise(inputs)
    return {
        "noise_floor_mean_frac": statistics.fmean(found) if found else None,
        "noise_floor_rows_count": float(len(found)),
    }
