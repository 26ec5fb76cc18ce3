"""One multiplier for the step times of a device type, a framework and a cost model, from measured steps of real runs.

The logarithm of the multiplier has a normal prior around 0 whose standard deviation is what setups of equal description differ
by. Each run is one look at it, off by the prediction's own spread and the scatter of its steps. The estimate is the weighted
median of the runs, drawn to the prior by as much as the prior knows: with few runs it moves little, with many it is their median.
Where the median lies beyond twice the prior's standard deviation, the prior does not describe the setup and is taken as wide as
that. A median of n looks has about 1.25 / sqrt(n) times their spread (its large-sample efficiency), as in ``spread.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from planner.training.constants import fitted_constants
from planner.training.spread import interval
from trimtab.estimate import Estimate, Origin
from trimtab.measurement import Basis, MeasurementKey, StepMeasurement

OUTLIER_SPREADS = 4.0
"""A run whose logarithm is further than so many of its standard deviations from the others counts less."""
STALE_AFTER_DAYS = 90
_MEDIAN_VARIANCE = 1.25**2
_LEAST_SPREAD = 0.01
_CONTRADICTION_SPREADS = 2.5
_MAD_TO_SPREAD = 1.4826
"""Standard deviations of a normal distribution in one median absolute deviation."""
_NAMED_RUNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A multiplier and where it comes from.

    ``log_multiplier`` has the standard deviation ``spread`` (``prior_spread`` before any run). ``measurements`` are the runs, the
    oldest first; ``outliers`` the sources of those that lie far from the others; ``warnings`` are sentences for a person.
    ``scatter`` is the standard deviation of the runs' logarithms where they contradict each other, else 0.
    """

    key: MeasurementKey
    log_multiplier: float
    spread: float
    prior_spread: float
    measurements: tuple[StepMeasurement, ...]
    outliers: tuple[str, ...] = ()
    scatter: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def multiplier(self) -> float:
        """What a predicted step time is multiplied with."""
        return math.exp(self.log_multiplier)

    @property
    def num_runs(self) -> int:
        """Runs that it rests on."""
        return len(self.measurements)

    @property
    def source(self) -> str:
        """The multiplier, its runs and their days in one sentence."""
        named = ", ".join(entry.source for entry in self.measurements[-_NAMED_RUNS:])
        more = f" and {self.num_runs - _NAMED_RUNS} more" if self.num_runs > _NAMED_RUNS else ""
        first, last = (f"{entry.at:%Y-%m-%d}" for entry in (self.measurements[0], self.measurements[-1]))
        days = first if first == last else f"{first} to {last}"
        return f"times {self.multiplier:.3f} by {self.num_runs} measured run{'s' * (self.num_runs > 1)} ({named}{more}; {days})"

    def apply(self, raw: Estimate) -> Estimate:
        """``raw`` times the multiplier. As a share of the value its interval is never wider than the raw one, unless runs
        contradict each other: then it is at least as wide as they scatter.
        """
        if raw.value <= 0.0:
            return raw
        value = raw.value * self.multiplier
        known = math.hypot(own_spread(self.key.basis, raw.log_spread), self.spread)
        spread = max(min(raw.log_spread, known), self.scatter)
        low, high = interval(value, spread)
        source = f"{raw.source}, {self.source}" if raw.source else self.source
        return Estimate(value=value, low=min(low, value), high=max(high, value), origin=Origin.CALIBRATED, source=source)


def calibrate(measurements: Iterable[StepMeasurement], *, prior_spread: float, now: datetime) -> Calibration:
    """The calibration of one key, whatever the order of its runs. Of one source the newest entry counts.

    Raises ValueError where there is no run, the runs have different keys, or the prior spread is not above 0.
    """
    runs = _distinct(measurements)
    keys = {entry.key for entry in runs}
    if len(keys) != 1 or prior_spread <= 0.0:
        raise ValueError(f"a calibration needs runs of one key and a prior spread above 0, found {len(keys)} and {prior_spread}")
    logs = [math.log(entry.ratio) for entry in runs]
    variances = [_variance(entry) for entry in runs]
    plain = _median(logs, [1.0 / variance for variance in variances])
    away = [abs(value - plain) / math.sqrt(variance) for value, variance in zip(logs, variances, strict=True)]
    is_far = [len(runs) > 2 and spreads > OUTLIER_SPREADS for spreads in away]
    weights = [
        (OUTLIER_SPREADS / spreads) ** 2 / variance if far else 1.0 / variance
        for spreads, variance, far in zip(away, variances, is_far, strict=True)
    ]
    known = math.fsum(1.0 / (_MEDIAN_VARIANCE * variance) for variance in sorted(variances))
    variance = 1.0 / (1.0 / prior_spread**2 + known)
    middle = _median(logs, weights)
    wide = max(prior_spread, abs(middle) / 2.0)
    scatter = _contradiction(logs, variances)
    made = Calibration(
        key=runs[0].key,
        log_multiplier=middle * known / (1.0 / wide**2 + known),
        spread=max(math.sqrt(variance), math.sqrt(_MEDIAN_VARIANCE / len(runs)) * scatter),
        prior_spread=prior_spread,
        measurements=runs,
        outliers=tuple(entry.source for entry, far in zip(runs, is_far, strict=True) if far),
        scatter=scatter,
    )
    return _warned(made, plain, logs=logs, variances=variances, now=now)


def combined(first: Calibration, second: Calibration, *, now: datetime) -> Calibration:
    """The calibration of the runs of both; the prior is the first's. Raises ValueError where their keys differ."""
    return calibrate((*first.measurements, *second.measurements), prior_spread=first.prior_spread, now=now)


def calibrations_of(
    measurements: Sequence[StepMeasurement],
    *,
    prior_spreads: Mapping[MeasurementKey, float],
    since: Mapping[MeasurementKey, datetime],
    now: datetime,
) -> Mapping[MeasurementKey, Calibration]:
    """A calibration of each key of ``prior_spreads`` that has runs. Runs before ``since`` of their key were predicted by another
    model (an older probe) and are left out.
    """
    groups: dict[MeasurementKey, list[StepMeasurement]] = {}
    for entry in measurements:
        begun = since.get(entry.key)
        if entry.key in prior_spreads and (begun is None or entry.at >= begun):
            groups.setdefault(entry.key, []).append(entry)
    return {key: calibrate(runs, prior_spread=prior_spreads[key], now=now) for key, runs in sorted(groups.items())}


def own_spread(basis: Basis, spread: float) -> float:
    """What runs of one key keep of a prediction's log standard deviation, whatever the multiplier: of the formulas all but the
    fitted ``spread_raw``; of the other models, whose error is one figure, the same share as the formulas'.
    """
    constants = fitted_constants().shared
    if basis is Basis.FORMULAS:
        return math.sqrt(max(0.0, spread**2 - constants["spread_raw"] ** 2))
    return parts_of_spread(spread)[1]


def parts_of_spread(spread: float) -> tuple[float, float]:
    """What of a log standard deviation the runs of one key share, and what each keeps: in the ratio of the fitted
    ``spread_raw`` and ``spread_calibrated``. Their squares add up to that of ``spread``.
    """
    constants = fitted_constants().shared
    shared, own = constants["spread_raw"], constants["spread_calibrated"]
    whole = math.hypot(shared, own)
    return spread * shared / whole, spread * own / whole


def _variance(entry: StepMeasurement) -> float:
    scatter = _MEDIAN_VARIANCE * entry.step_spread_frac**2 / entry.num_steps
    return max(_LEAST_SPREAD, own_spread(entry.basis, entry.spread)) ** 2 + scatter


def _distinct(measurements: Iterable[StepMeasurement]) -> tuple[StepMeasurement, ...]:
    newest: dict[str, StepMeasurement] = {}
    for entry in sorted(measurements, key=lambda entry: (entry.at, entry.source, entry.ratio)):
        newest[entry.source] = entry
    return tuple(sorted(newest.values(), key=lambda entry: (entry.at, entry.source)))


def _median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The weighted median: half of the weight on each side, between two values by the middles of their weights. With equal
    weights it is the plain median.
    """
    pairs = sorted(zip(values, weights, strict=True))
    half, passed = math.fsum(sorted(weights)) / 2.0, 0.0
    last_value, last_middle = pairs[0][0], -math.inf
    for value, weight in pairs:
        middle = passed + weight / 2.0
        if middle >= half:
            share = (half - last_middle) / (middle - last_middle) if math.isfinite(last_middle) else 1.0
            return last_value + (value - last_value) * share
        passed += weight
        last_value, last_middle = value, middle
    return last_value


def _contradiction(logs: Sequence[float], variances: Sequence[float]) -> float:
    """How far runs scatter (by their median absolute deviation), where that is more than their own deviations explain; else 0."""
    equal = [1.0] * len(logs)
    middle = _median(logs, equal)
    scatter = _MAD_TO_SPREAD * _median([abs(value - middle) for value in logs], equal)
    return scatter if scatter > _CONTRADICTION_SPREADS * math.sqrt(_median(variances, equal)) else 0.0


def _warned(made: Calibration, middle: float, *, logs: Sequence[float], variances: Sequence[float], now: datetime) -> Calibration:
    sentences: list[str] = []
    for source in made.outliers:
        ratio = next(entry.ratio for entry in made.measurements if entry.source == source)
        sentences.append(f"{source} took {ratio:.2f} times its prediction, far from the other runs of {made.key}; it counts less")
    if made.scatter:
        low, high = math.exp(min(logs)), math.exp(max(logs))
        sentences.append(f"the runs of {made.key} contradict each other: {low:.2f} to {high:.2f} times their predictions")
    elif abs(middle) > OUTLIER_SPREADS * math.hypot(made.prior_spread, math.sqrt(_median(variances, [1.0] * len(variances)))):
        sentences.append(
            f"steps of {made.key} take {math.exp(middle):.2f} times what is predicted, more than the model's doubt explains: "
            f"see whether device type and links are described as they are"
        )
    newest = made.measurements[-1].at
    if now - newest > timedelta(days=STALE_AFTER_DAYS):
        sentences.append(f"the newest measured run of {made.key} is {(now - newest).days} days old")
    return replace(made, warnings=tuple(sentences))
