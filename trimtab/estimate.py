"""A number with an interval and the place that it comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

SPREADS_OF_INTERVAL = 1.2816
"""Standard deviations of a normal distribution on each side of its middle that hold 80 % of it."""


class Origin(StrEnum):
    """Where a number comes from, the most trustworthy first."""

    MEASURED = "measured"
    CALIBRATED = "calibrated"
    PUBLISHED = "published"
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """``value`` with an 80 % interval ``[low, high]``; ``source`` names the measurement, document or assumption.

    The unit is that of the field that holds the estimate (its name ends with it).
    """

    value: float
    low: float
    high: float
    origin: Origin
    source: str = ""

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"estimate {self.value} outside its interval [{self.low}, {self.high}]")

    @classmethod
    def within(cls, value: float, half_width_frac: float, *, origin: Origin, source: str = "") -> Estimate:
        """An interval of ``value * (1 -+ half_width_frac)``; negative values keep low below high."""
        spread = abs(value) * half_width_frac
        return cls(value=value, low=value - spread, high=value + spread, origin=origin, source=source)

    @property
    def log_spread(self) -> float:
        """The standard deviation of the logarithm that the upper end stands for; 0 where the value is not above 0."""
        return math.log(self.high / self.value) / SPREADS_OF_INTERVAL if self.value > 0.0 else 0.0

    def scaled(self, factor: float) -> Estimate:
        """The estimate of ``factor`` times the quantity; ``factor`` must not be negative."""
        if factor < 0:
            raise ValueError("factor must not be negative")
        return Estimate(
            value=self.value * factor, low=self.low * factor, high=self.high * factor, origin=self.origin, source=self.source
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A named constant that a prediction used: meaning, value with unit in the name, and where it comes from."""

    name: str
    value: float
    origin: Origin
    source: str
