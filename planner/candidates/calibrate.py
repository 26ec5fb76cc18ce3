"""Predictions corrected by measured steps of earlier runs on the same device type."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from planner.costs.constants import PROBED_ERROR_FRAC, ROOFLINE
from planner.costs.types import Prediction
from planner.training.calibration import Calibration, calibrations_of, parts_of_spread
from planner.training.constants import fitted_constants
from planner.training.spread import INTERVAL80
from trimtab.estimate import Constant, Origin
from trimtab.ids import DeviceTypeName
from trimtab.inventory import DeviceKind, DeviceType, ProbeReport
from trimtab.jobspec import Trainer
from trimtab.measurement import Basis, MeasurementKey, StepMeasurement
from trimtab.plan import TimePart

_OF_STEPS = frozenset({"evaluation"})
"""Fixed parts of a run that are made of steps."""


def key_of(device_type: DeviceTypeName, trainer: Trainer, probe: ProbeReport | None) -> MeasurementKey:
    """What calibrates a trainer's predictions on a device type: of ours those by its probe, or by the roofline where there is
    none; of the others those by the formulas.
    """
    basis = Basis.FORMULAS
    if trainer is Trainer.TRIMTAB:
        basis = Basis.ROOFLINE if probe is None else Basis.PROBE
    return MeasurementKey(device_type=device_type, framework=str(trainer), basis=basis)


def prior_spread(key: MeasurementKey, kind: DeviceKind) -> float:
    """The log standard deviation that setups of one key differ by before anything is measured: of the formulas the fitted one,
    of the built-in trainer's models the shared part of their stated error.
    """
    if key.basis is Basis.FORMULAS:
        return fitted_constants().shared["spread_raw"]
    error = PROBED_ERROR_FRAC if key.basis is Basis.PROBE else ROOFLINE[kind].error_frac
    return parts_of_spread(math.log1p(error.value) / INTERVAL80)[0]


def plan_calibrations(
    measurements: Sequence[StepMeasurement],
    device_types: Sequence[DeviceType],
    *,
    probes: Mapping[DeviceTypeName, ProbeReport],
    now: datetime,
) -> Mapping[MeasurementKey, Calibration]:
    """The calibrations of what a plan predicts, where there are runs. A probe that is newer than a run starts anew."""
    if not measurements:
        return {}
    priors: dict[MeasurementKey, float] = {}
    since: dict[MeasurementKey, datetime] = {}
    for kind in device_types:
        probe = probes.get(kind.name)
        for trainer in Trainer:
            key = key_of(kind.name, trainer, probe)
            priors[key] = prior_spread(key, kind.kind)
            if probe is not None and key.basis is Basis.PROBE:
                since[key] = probe.measured_at
    return calibrations_of(measurements, prior_spreads=priors, since=since, now=now)


def calibrated(prediction: Prediction, calibration: Calibration | None) -> Prediction:
    """The prediction with its step, the step's parts and what a run has of whole steps times the multiplier."""
    if calibration is None:
        return prediction
    by = calibration.multiplier
    fixed = tuple(replace(part, seconds=part.seconds * by) if part.name in _OF_STEPS else part for part in prediction.fixed_parts)
    before, after = (math.fsum(part.seconds for part in parts) for parts in (prediction.fixed_parts, fixed))
    note = Constant(name=f"{calibration.key} multiplier", value=by, origin=Origin.CALIBRATED, source=calibration.source)
    return replace(
        prediction,
        constants=(*prediction.constants, note),
        step_s=calibration.apply(prediction.step_s),
        parts=tuple(TimePart(name=part.name, seconds=part.seconds * by) for part in prediction.parts),
        fixed_s=prediction.fixed_s.scaled(after / before) if before > 0.0 else prediction.fixed_s,
        fixed_parts=fixed,
        raw_step_s=prediction.step_s,
    )
