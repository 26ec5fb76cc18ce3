"""Measured steps of real runs, held against what was predicted for them: what calibrations are made from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from trimtab.estimate import Estimate
from trimtab.ids import DeviceTypeName

MIN_STEPS = 5
"""Typical steps that a run of ours needs before it counts: fewer say more about caches than about the device."""
MAX_RUNS_PER_KEY = 200
"""Runs of one key that are kept, the newest; more would not move the multiplier."""
WIRE_VERSION = 1


class Basis(StrEnum):
    """What made the prediction. A multiplier belongs to one of them: each errs in its own way."""

    PROBE = "probe"
    ROOFLINE = "roofline"
    FORMULAS = "formulas"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class MeasurementKey:
    """Runs that share a multiplier: device type, framework and what made their predictions."""

    device_type: DeviceTypeName
    framework: str
    basis: Basis

    def __str__(self) -> str:
        return f"{self.device_type}/{self.framework}/{self.basis}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMeasurement:
    """One run: the step time that was predicted before any calibration, and the one that was measured.

    ``source`` names the run and is unique (an attempt, or a file's entry); ``model`` and ``strategy`` are for people.
    ``predicted_s`` and ``measured_s`` are seconds of a step, the latter the median of ``num_steps`` typical ones, whose standard
    deviation is ``step_spread_frac`` of it (0: not known). ``spread`` is the standard deviation of the logarithm that the
    prediction's interval stood for. ``at`` is when the run began.
    """

    source: str
    device_type: DeviceTypeName
    framework: str
    basis: Basis
    model: str
    strategy: str
    predicted_s: float
    measured_s: float
    num_steps: int
    at: datetime
    spread: float
    step_spread_frac: float = 0.0

    def __post_init__(self) -> None:
        for name in ("predicted_s", "measured_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} must be more than 0 and finite, found {value}")
        for name in ("spread", "step_spread_frac"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} must be at least 0 and finite, found {value}")
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, found {self.num_steps}")
        if self.at.tzinfo is None:
            raise ValueError("at needs a time zone")
        if not (self.source and self.device_type and self.framework):
            raise ValueError("source, device_type and framework must not be empty")

    @property
    def key(self) -> MeasurementKey:
        """The runs that it belongs to."""
        return MeasurementKey(device_type=self.device_type, framework=self.framework, basis=self.basis)

    @property
    def ratio(self) -> float:
        """Measured over predicted."""
        return self.measured_s / self.predicted_s


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptMeasurements:
    """All measurements of an installation. ``forgotten`` are sources that a person took out: they are not taken in again."""

    version: int = WIRE_VERSION
    measurements: tuple[StepMeasurement, ...] = ()
    forgotten: tuple[str, ...] = ()

    def with_added(self, measurement: StepMeasurement, *, again: bool = False) -> KeptMeasurements:
        """With one more run, in place of an earlier entry of the same source; unchanged where a person forgot that source.

        ``again``: a person wants it, also where it was forgotten. Beyond ``MAX_RUNS_PER_KEY`` the oldest of its key goes.
        """
        if measurement.source in self.forgotten and not again:
            return self
        others = [entry for entry in self.measurements if entry.source != measurement.source]
        entries = sorted([*others, measurement], key=lambda entry: (entry.at, entry.source))
        mine = [entry for entry in entries if entry.key == measurement.key]
        surplus = {entry.source for entry in mine[: max(0, len(mine) - MAX_RUNS_PER_KEY)]}
        kept = tuple(entry for entry in entries if entry.source not in surplus)
        forgotten = tuple(source for source in self.forgotten if source != measurement.source)
        return KeptMeasurements(measurements=kept, forgotten=forgotten)

    def without(self, sources: frozenset[str]) -> KeptMeasurements:
        """Without these runs, for good."""
        return KeptMeasurements(
            measurements=tuple(entry for entry in self.measurements if entry.source not in sources),
            forgotten=tuple(sorted({*self.forgotten, *sources})),
        )

    def named(self, name: str) -> frozenset[str]:
        """The sources that ``name`` stands for: a source, a key, or a device type with all its keys."""
        return frozenset(
            entry.source for entry in self.measurements if name in (entry.source, str(entry.key), str(entry.device_type))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRun:
    """A measured run beside its prediction, raw and calibrated by all runs of its key. ``note`` says what is special about it."""

    measurement: StepMeasurement
    predicted_s: Estimate
    calibrated_s: Estimate
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiplier:
    """What calibrates the predictions of one key: the multiplier with its 80 % interval, the runs, and what to know of them."""

    key: MeasurementKey
    multiplier: Estimate
    runs: tuple[CheckedRun, ...]
    warnings: tuple[str, ...] = ()
