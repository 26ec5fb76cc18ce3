"""What a predictor answers about a row, and what it is told when it is calibrated."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks._point_types import RowInput
from trimtab.plan import FitVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPrediction:
    """The answer to one ``RowInput``.

    ``step_s`` with the 80 % interval ``low_s`` to ``high_s``. ``memory_bytes``: peak allocated bytes of the worst rank with its
    80 % interval; None where the predictor has no memory model. ``verdict``: None where there is none, or no capacity is known.
    ``refused``: empty, or the rule and a sentence; the other figures then mean nothing. ``recompute``: what was assumed where the
    row does not say, else the row's own.
    """

    step_s: float
    low_s: float
    high_s: float
    memory_bytes: float | None = None
    memory_low_bytes: float | None = None
    memory_high_bytes: float | None = None
    verdict: FitVerdict | None = None
    refused: str = ""
    recompute: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRow:
    """A measured row of the group that is calibrated: what was seen, predicted and measured."""

    input: RowInput
    prediction: RowPrediction
    measured_s: float

    @property
    def ratio(self) -> float:
        """Measured over predicted step."""
        return self.measured_s / self.prediction.step_s


def multiplier(rows: Sequence[CalibrationRow]) -> float:
    """The multiplier of a group: the median of measured over predicted."""
    return statistics.median(row.ratio for row in rows)


def refuse(rule: str, sentence: str) -> RowPrediction:
    """A row that is not predicted."""
    return RowPrediction(step_s=0.0, low_s=0.0, high_s=0.0, refused=f"{rule}: {sentence}")
