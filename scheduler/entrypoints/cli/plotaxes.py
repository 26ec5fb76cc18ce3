"""Axes of plots: range, scale and ticks. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_LOG_FROM_RATIO = 5.0
_MARGIN_FRAC = 0.06
_MAX_TICKS = 7
_TIME_UNITS = ((48.0, 24.0, "days"), (1.0, 1.0, "hours"), (1 / 30, 1 / 60, "minutes"), (0.0, 1 / 3600, "seconds"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis from ``low`` to ``high``; logarithmic where the values differ much. ``ticks`` lie within."""

    low: float
    high: float
    is_log: bool
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high one; beyond them outside."""
        if self.is_log:
            return math.log(max(value, 1e-300) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def axis_of(values: Sequence[float]) -> Axis:
    """An axis that holds every value (at least one), with a margin."""
    least, most = min(values), max(values)
    if least > 0.0 and most / least > _LOG_FROM_RATIO:
        stretch = (most / least) ** _MARGIN_FRAC
        low, high = least / stretch, most * stretch
        return Axis(low=low, high=high, is_log=True, ticks=_log_ticks(low, high))
    margin = (most - least) * _MARGIN_FRAC or abs(most) * _MARGIN_FRAC or 1.0
    low, high = least - margin, most + margin
    return Axis(low=low, high=high, is_log=False, ticks=_linear_ticks(low, high))


def time_unit(hours: Sequence[float]) -> tuple[float, str]:
    """Hours per unit and the name of the unit in which most of these times have few digits."""
    middle = sorted(hours)[len(hours) // 2]
    return next((scale, name) for limit, scale, name in _TIME_UNITS if middle >= limit)


def _log_ticks(low: float, high: float) -> tuple[float, ...]:
    """1, 2 and 5 times powers of ten; powers alone, or every few of them, where that is too many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks: tuple[float, ...] = ()
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = tuple(d * 10.0**power for power in range(first, last + 1) for d in digits if low <= d * 10.0**power <= high)
        if len(ticks) <= _MAX_TICKS:
            break
    return ticks[:: max(1, math.ceil(len(ticks) / _MAX_TICKS))]


def _linear_ticks(low: float, high: float) -> tuple[float, ...]:
    rough = (high - low) / (_MAX_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(d * power for d in (1, 2, 5, 10) if d * power >= rough)
    first = math.ceil(low / step)
    return tuple(index * step for index in range(first, math.floor(high / step) + 1))
