"""What would have been predicted for a run that somebody measured: the other half of a measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from planner.candidates.calibrate import key_of, prior_spread
from planner.candidates.generate import newest_probes
from planner.candidates.searched import place_of, profile_for
from planner.costs import DeviceContext, predict
from planner.strategies import TRIMTAB, Case, StrategyTable, all_broken, stage_splits
from planner.training.calibration import Calibration, calibrations_of
from planner.training.constants import fitted_constants
from planner.training.evaluate import Job, evaluate
from planner.training.spread import Doubt, interval, log_spread
from trimtab.errors import Problem, SpecError
from trimtab.estimate import Estimate, Origin
from trimtab.ids import DeviceTypeName
from trimtab.inventory import DeviceKind, DeviceType, Pool, ProbeReport, Shape
from trimtab.jobspec import JobSpec, Trainer
from trimtab.measurement import Basis, CheckedRun, MeasurementKey, Multiplier, StepMeasurement
from trimtab.strategy import Strategy

FRAMEWORKS = tuple(str(trainer) for trainer in Trainer)
"""Trainers whose steps can be predicted."""


_OLDER = "older than the newest probe, so not used"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    """What ran where. ``probe`` is the newest of the device type (None: there is none)."""

    spec: JobSpec
    strategy: Strategy
    framework: str
    device_type: DeviceType
    pool: Pool
    shape: Shape
    probe: ProbeReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPrediction:
    """The step of a run as it is predicted without calibration, and what calibrates it."""

    key: MeasurementKey
    step_s: Estimate


def predict_run(run: MeasuredRun) -> RunPrediction:
    """The raw prediction of a run. Raises SpecError where the framework is not known or the strategy cannot be what ran."""
    assert run.spec.model is not None
    assert run.spec.train is not None
    if run.framework not in FRAMEWORKS:
        raise _wrong("framework", f"unknown framework {run.framework!r}", ", ".join(FRAMEWORKS))
    if run.strategy.world_size != run.shape.num_devices:
        ranks, devices = run.strategy.world_size, run.shape.num_devices
        raise _wrong("strategy", f"its degrees come to {ranks} ranks on {devices} devices", f"degrees whose product is {devices}")
    if run.strategy.global_batch != run.spec.train.global_batch:
        found, wanted = run.strategy.global_batch, run.spec.train.global_batch
        raise _wrong("strategy", f"its batch is {found} samples", f"micro-batches that come to the job's {wanted}")
    trainer = Trainer(run.framework)
    return _of_ours(run) if trainer is Trainer.TRIMTAB else _of_formulas(run, trainer)


def calibrations(
    measurements: Sequence[StepMeasurement],
    *,
    kinds: Mapping[DeviceTypeName, DeviceKind],
    probes: Sequence[ProbeReport] = (),
    now: datetime,
) -> tuple[Calibration, ...]:
    """The calibration of every key, as plans use it. A device type that ``kinds`` does not name counts as a GPU."""
    newest = newest_probes(probes)
    keys = {entry.key for entry in measurements}
    since = {key: newest[key.device_type].measured_at for key in keys if key.basis is Basis.PROBE and key.device_type in newest}
    priors = {key: prior_spread(key, kinds.get(key.device_type, DeviceKind.GPU)) for key in keys}
    return tuple(calibrations_of(measurements, prior_spreads=priors, since=since, now=now).values())


def multipliers(
    measurements: Sequence[StepMeasurement],
    *,
    kinds: Mapping[DeviceTypeName, DeviceKind],
    probes: Sequence[ProbeReport] = (),
    now: datetime,
) -> tuple[Multiplier, ...]:
    """The calibrations with every run before and after. Keys whose runs are all older than the newest probe stand there with a
    multiplier of 1.
    """
    made = {entry.key: entry for entry in calibrations(measurements, kinds=kinds, probes=probes, now=now)}
    out = []
    for key in sorted({entry.key for entry in measurements}):
        found = made.get(key)
        mine = sorted((entry for entry in measurements if entry.key == key), key=lambda entry: (entry.at, entry.source))
        out.append(
            Multiplier(
                key=key,
                multiplier=_multiplier(found),
                runs=tuple(_checked(entry, found) for entry in mine),
                warnings=found.warnings if found is not None else (),
            )
        )
    return tuple(out)


def _multiplier(found: Calibration | None) -> Estimate:
    if found is None:
        return Estimate(value=1.0, low=1.0, high=1.0, origin=Origin.ASSUMED, source=_OLDER)
    low, high = interval(found.multiplier, found.spread)
    return Estimate(value=found.multiplier, low=low, high=high, origin=Origin.CALIBRATED, source=found.source)


def _checked(entry: StepMeasurement, found: Calibration | None) -> CheckedRun:
    low, high = interval(entry.predicted_s, entry.spread)
    origin = Origin.MEASURED if entry.basis is Basis.PROBE else Origin.ASSUMED
    raw = Estimate(value=entry.predicted_s, low=low, high=high, origin=origin, source=str(entry.basis))
    if found is None or entry not in found.measurements:
        return CheckedRun(measurement=entry, predicted_s=raw, calibrated_s=raw, note=_OLDER)
    note = "far from the others" if entry.source in found.outliers else ""
    return CheckedRun(measurement=entry, predicted_s=raw, calibrated_s=found.apply(raw), note=note)


def _of_ours(run: MeasuredRun) -> RunPrediction:
    assert run.spec.model is not None
    assert run.spec.train is not None
    strategy = _with_stages(run)
    case = Case(
        model=run.spec.model,
        train=run.spec.train,
        strategy=strategy,
        device_type=run.device_type,
        shape=run.shape,
        framework=TRIMTAB,
    )
    for rule in all_broken(case):
        raise _wrong("strategy", f"{rule.name}: {rule.sentence(case)}", "a strategy that the built-in trainer runs")
    context = DeviceContext(device_type=run.device_type, pool=run.pool, shape=run.shape, probe=run.probe)
    step_s = predict(model=run.spec.model, train=run.spec.train, strategy=strategy, context=context).step_s
    return RunPrediction(key=key_of(run.device_type.name, Trainer.TRIMTAB, run.probe), step_s=step_s)


def _with_stages(run: MeasuredRun) -> Strategy:
    """The strategy with the even split of the layers where it has stages and names none."""
    assert run.spec.model is not None
    assert run.spec.train is not None
    if run.strategy.pp == 1 or run.strategy.stage_layers:
        return run.strategy
    train = run.spec.train
    splits = stage_splits(
        run.spec.model, run.strategy.pp, sequence_length=train.sequence_length, source_length=train.source_length
    )
    return replace(run.strategy, stage_layers=splits[0]) if splits else run.strategy


def _of_formulas(run: MeasuredRun, trainer: Trainer) -> RunPrediction:
    assert run.spec.model is not None
    assert run.spec.train is not None
    train, constants = run.spec.train, fitted_constants()
    profile = profile_for(trainer, run.device_type.kind)
    place = place_of(DeviceContext(device_type=run.device_type, pool=run.pool, shape=run.shape))
    job = Job(model=run.spec.model, sequence_length=train.sequence_length, source_length=train.source_length)
    table = StrategyTable.of([run.strategy])
    found = evaluate(job, table, place, device_type=run.device_type.name, profile=profile, constants=constants).time
    step_s = float(found.step_s[0])
    doubt = Doubt(
        has_experts=any(stack.feed_forward.experts is not None for stack in run.spec.model.stacks),
        is_guessed=False,
        waiting_frac=max(0.0, 1.0 - float(found.compute_s[0]) / step_s),
    )
    low, high = interval(step_s, log_spread(doubt, constants.shared, num_measured=0))
    return RunPrediction(
        key=key_of(run.device_type.name, trainer, None),
        step_s=Estimate(
            value=step_s, low=low, high=high, origin=Origin.PUBLISHED, source=f"training cost model, {constants.source}"
        ),
    )


def _wrong(path: str, message: str, allowed: str) -> SpecError:
    return SpecError([Problem(path=path, message=message, allowed=allowed)])
