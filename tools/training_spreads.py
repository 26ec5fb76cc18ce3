"""Spreads of the training cost model's intervals: those that give the residuals of the fitted constants the best interval
score.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks._point_types import Row
from benchmarks._row_predictor import CalibratedPrediction, predict_rows
from planner.training.spread import INTERVAL80, Doubt, log_spread

SEEDS, DRAWN, LEAST_IN_GROUP, SWEEPS = 20, 3, 6, 4
GRID = (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.18, 0.22, 0.26, 0.3, 0.35, 0.4, 0.5)
_MISSED = 0.2
"""1 - 0.8: what an 80 % interval may miss; the interval score counts a miss 2 / 0.2 times (Gneiting and Raftery 2007, eq. 43)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """Measured over predicted of one row, raw (``num_measured`` 0) or after a multiplier."""

    ratio: float
    doubt: Doubt
    num_measured: int


def fitted_spreads(rows: Sequence[Row], shared: Mapping[str, float]) -> dict[str, float]:
    """Log standard deviations, part by part, found one after the other on a grid (see ``planner/training/spread.py``)."""
    residuals = _residuals(rows)
    found = {name: value for name, value in shared.items() if name.startswith("spread_")}
    for _ in range(SWEEPS):
        for name in found:
            least = 0.01 if name == "spread_calibrated" else 0.0
            scores = {value: _score(residuals, {**found, name: value}) for value in GRID if value >= least}
            found[name] = min(scores, key=lambda value: (scores[value], value))
    return found


def _residuals(rows: Sequence[Row]) -> list[Residual]:
    predictions = predict_rows([row.input for row in rows])
    groups: dict[str, list[tuple[float, Doubt]]] = {}
    for row, prediction in zip(rows, predictions, strict=True):
        assert isinstance(prediction, CalibratedPrediction)
        ratio = (row.truth.step_s or 1.0) / prediction.step_s
        groups.setdefault(str(row.truth.group), []).append((ratio, prediction.doubt))
    found = [Residual(ratio=ratio, doubt=doubt, num_measured=0) for own in groups.values() for ratio, doubt in own]
    for own in groups.values():
        for seed in range(SEEDS if len(own) >= LEAST_IN_GROUP else 0):
            drawn = set(random.Random(seed).sample(range(len(own)), DRAWN))  # noqa: S311 - which rows are drawn is no secret
            level = float(np.median([own[index][0] for index in drawn]))
            found += [
                Residual(ratio=ratio / level, doubt=doubt, num_measured=DRAWN)
                for index, (ratio, doubt) in enumerate(own)
                if index not in drawn
            ]
    return found


def _score(residuals: Sequence[Residual], spreads: Mapping[str, float]) -> float:
    """Mean interval score; raw and calibrated residuals count alike, however many there are of each."""
    sums = {True: [0.0, 0], False: [0.0, 0]}
    cache: dict[tuple[Doubt, int], float] = {}
    for entry in residuals:
        key = (entry.doubt, entry.num_measured)
        if key not in cache:
            cache[key] = log_spread(entry.doubt, spreads, num_measured=entry.num_measured)
        low, high = np.exp(-INTERVAL80 * cache[key]), np.exp(INTERVAL80 * cache[key])
        miss = max(0.0, low - entry.ratio) + max(0.0, entry.ratio - high)
        own = sums[entry.num_measured > 0]
        own[0] += (high - low + 2.0 / _MISSED * miss) / entry.ratio
        own[1] += 1
    return sum(total / max(1, count) for total, count in sums.values())
