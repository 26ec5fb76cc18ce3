"""How far a predicted step time can be off: the standard deviation of its logarithm, and the 80 % interval that follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

INTERVAL80 = 1.2816
"""Standard deviations on each side that hold 80 % of a normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """What makes a prediction less certain: experts, an unknown choice of the trainer, the share of time that is not
    computation.
    """

    has_experts: bool
    is_guessed: bool
    waiting_frac: float


def log_spread(doubt: Doubt, constants: Mapping[str, float], *, num_measured: int) -> float:
    """Standard deviation of the logarithm of a step time, raw or after calibration on ``num_measured`` rows.

    The parts are independent and their squares add up. A multiplier that is the median of n rows has itself a spread of
    about 1.25 / sqrt(n) of theirs (the large-sample efficiency of a median).
    """
    own = constants["spread_calibrated"] ** 2 + (constants["spread_waiting"] * doubt.waiting_frac) ** 2
    own += doubt.has_experts * constants["spread_experts"] ** 2 + doubt.is_guessed * constants["spread_unknown"] ** 2
    if num_measured == 0:
        return math.sqrt(own + constants["spread_raw"] ** 2)
    return math.sqrt(own * (1.0 + 1.25**2 / num_measured))


def interval(value: float, spread: float) -> tuple[float, float]:
    """The 80 % interval around ``value``."""
    return value * math.exp(-INTERVAL80 * spread), value * math.exp(INTERVAL80 * spread)
