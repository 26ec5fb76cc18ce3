"""The measures of the accuracy benchmark as pure functions of numbers."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

_Input = TypeVar("_Input", bound=Hashable)
_MISS = 0.2
"""What an 80 % interval may miss."""


def error_frac(predicted: float, measured: float) -> float:
    """|predicted / measured - 1|."""
    return abs(predicted / measured - 1.0)


def mean_of_groups(values: Iterable[tuple[Hashable, float]]) -> float:
    """The mean over groups of each group's mean; ``values`` are pairs of a group and a value, not empty."""
    groups: dict[Hashable, list[float]] = {}
    for group, value in values:
        groups.setdefault(group, []).append(value)
    return statistics.fmean(statistics.fmean(own) for own in groups.values())


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Rank correlation, equal values at their mean rank; 0 where one side is all equal."""
    ranks = _ranks(first), _ranks(second)
    if min(len(set(side)) for side in ranks) < 2:
        return 0.0
    return statistics.correlation(*ranks)


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(values)
    first = {value: index for index, value in reversed(list(enumerate(order)))}
    count = {value: order.count(value) for value in first}
    return [first[value] + (count[value] - 1) / 2.0 for value in values]


def regret_frac(predicted: Sequence[float], measured: Sequence[float], *, best_of: int) -> float:
    """How much slower than the fastest the fastest of the ``best_of`` rows is that were predicted fastest.

    Among rows that were predicted equally fast those that are slower come first: luck does not count.
    """
    order = sorted(range(len(predicted)), key=lambda index: (predicted[index], -measured[index]))
    return min(measured[index] for index in order[:best_of]) / min(measured) - 1.0


def interval_score(low: float, high: float, measured: float) -> float:
    """The interval score of an 80 % interval over the measured value: width, and ten times by how much it misses.

    Gneiting and Raftery, JASA 102 (2007), equation 43; a smaller one is better.
    """
    missed = max(low - measured, measured - high, 0.0)
    return (high - low + 2.0 / _MISS * missed) / measured


def best_constant_width(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The relative half width w for which predicted x (1 +- w) has the least mean interval score, and that score.

    ``pairs`` of predicted and measured, not empty. The mean score is convex and piecewise linear in w, with its corners where an
    interval just reaches a measured value, so the least lies at a corner or at 0, and bisection over the corners finds it.
    """
    corners = sorted({0.0, *(error_of_predicted(*pair) for pair in pairs)})
    low, high = 0, len(corners) - 1
    while low < high:
        middle = (low + high) // 2
        if _constant_score(pairs, corners[middle]) <= _constant_score(pairs, corners[middle + 1]):
            high = middle
        else:
            low = middle + 1
    return corners[low], _constant_score(pairs, corners[low])


def error_of_predicted(predicted: float, measured: float) -> float:
    """|measured / predicted - 1|."""
    return abs(measured / predicted - 1.0)


def _constant_score(pairs: Sequence[tuple[float, float]], width: float) -> float:
    return statistics.fmean(interval_score(made * (1.0 - width), made * (1.0 + width), real) for made, real in pairs)


def noise(measured: Mapping[_Input, Sequence[float]]) -> list[float]:
    """|x / median - 1| of every measurement of an input that was measured with different results."""
    return [
        error_frac(value, statistics.median(values)) for values in measured.values() if len(set(values)) > 1 for value in values
    ]


def nearer_reading(predicted_bytes: float, reported: float) -> tuple[float, str]:
    """Error against a figure whose unit is GB or GiB, at the reading that is nearer, and that unit."""
    readings = ((error_frac(predicted_bytes, reported * unit), name) for unit, name in ((1e9, "GB"), (float(1 << 30), "GiB")))
    return min(readings)
