"""Whether an attempt that ended is a measurement of its prediction, and which. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from trimtab.estimate import Origin
from trimtab.ids import DeviceTypeName
from trimtab.job import Attempt, Job
from trimtab.jobspec import Trainer
from trimtab.lifecycle import AttemptState, ReleaseReason
from trimtab.measurement import MIN_STEPS, Basis, StepMeasurement
from trimtab.plan import Candidate

_QUARTILES_TO_SPREAD = 1.349
"""Standard deviations of a normal distribution between its quartiles."""


class NotMeasured(StrEnum):
    """Why an attempt says nothing of its prediction."""

    NOT_TRAINED = "not-trained"
    NOT_COMPLETED = "not-completed"
    FEW_STEPS = "few-steps"
    NO_PREDICTION = "no-prediction"
    UNKNOWN_DEVICES = "unknown-devices"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What is known of an attempt that ended. ``figures`` are its summary, ``strategy`` the label of what it trained ("": none),
    ``at`` when it began.
    """

    source: str
    completed: bool
    model: str
    strategy: str
    figures: Mapping[str, float]
    at: datetime


def finished(job: Job, attempt: Attempt) -> Finished:
    """An attempt's end."""
    return Finished(
        source=str(attempt.ref),
        completed=attempt.state is AttemptState.RELEASED and attempt.release_reason is ReleaseReason.COMPLETED,
        model=job.spec.model.name if job.spec.model is not None else "",
        strategy=attempt.strategy.label() if attempt.strategy is not None and job.spec.model is not None else "",
        figures=attempt.summary,
        at=attempt.assigned_at,
    )


def objection(end: Finished) -> NotMeasured | None:
    """What speaks against an attempt before its plan is looked at; None where nothing does."""
    if not end.strategy:
        return NotMeasured.NOT_TRAINED
    if not end.completed:
        return NotMeasured.NOT_COMPLETED
    if end.figures.get("timed_steps", 0.0) < MIN_STEPS or not end.figures.get("step_median_s", 0.0) > 0.0:
        return NotMeasured.FEW_STEPS
    return None


def measurement_of(
    end: Finished, candidate: Candidate | None, device_type: DeviceTypeName | None
) -> StepMeasurement | NotMeasured:
    """The measurement that an attempt is: typical steps of its summary (the trainer leaves the first ones out) against what its
    plan predicted before any calibration, so that a multiplier is never measured against itself.
    """
    refused = objection(end)
    if refused is not None:
        return refused
    if device_type is None:
        return NotMeasured.UNKNOWN_DEVICES
    raw = (candidate.raw_step_s or candidate.step_s) if candidate is not None else None
    if raw is None or raw.value <= 0.0:
        return NotMeasured.NO_PREDICTION
    median_s = end.figures["step_median_s"]
    quartiles_s = end.figures.get("step_high_quartile_s", 0.0) - end.figures.get("step_low_quartile_s", 0.0)
    return StepMeasurement(
        source=end.source,
        device_type=device_type,
        framework=str(Trainer.TRIMTAB),  # only our own runs report their steps
        basis=Basis.PROBE if raw.origin is Origin.MEASURED else Basis.ROOFLINE,
        model=end.model,
        strategy=end.strategy,
        predicted_s=raw.value,
        measured_s=median_s,
        num_steps=int(end.figures["timed_steps"]),
        at=end.at,
        spread=raw.log_spread,
        step_spread_frac=max(0.0, quartiles_s) / _QUARTILES_TO_SPREAD / median_s,
    )
