"""Finished runs become measurements, and the next plan uses them; no job ever notices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from planner.api import plan
from scheduler.adapters.measurements.file import MeasurementFile
from scheduler.adapters.measurements.memory import MemoryMeasurements
from scheduler.adapters.planner.inline import InlinePlanner
from scheduler.adapters.simulated.world import Script
from scheduler.core.measure import Finished, NotMeasured, finished, measurement_of
from tests.support.kit import Rig, command_job, train_job
from trimtab.estimate import Estimate, Origin
from trimtab.ids import AttemptRef, DeviceTypeName, UnitId
from trimtab.job import JobState
from trimtab.lifecycle import ReleaseReason
from trimtab.measurement import Basis, StepMeasurement
from trimtab.plan import Candidate

FIGURES = {"timed_steps": 18.0, "step_median_s": 3.0, "step_low_quartile_s": 2.9, "step_high_quartile_s": 3.1}


def rig_of(figures: Mapping[str, float], **fields: object) -> Rig:
    return Rig(script=Script(figures=figures), **fields)  # type: ignore[arg-type]


def kept(rig: Rig) -> tuple[StepMeasurement, ...]:
    return rig.ports.measurements.kept().measurements


def test_a_finished_run_is_measured_once_whatever_restarts() -> None:
    rig = rig_of(FIGURES)
    job = rig.submit(train_job())
    rig.run(60)
    assert rig.control.job(job).state is JobState.SUCCEEDED
    (entry,) = kept(rig)
    assert entry.source == f"{job}.u0.a1"
    assert (entry.predicted_s, entry.measured_s, entry.num_steps) == (1.0, 3.0, 18)
    assert (entry.device_type, entry.framework, entry.basis) == ("cpu-test", "trimtab", Basis.ROOFLINE)
    assert entry.step_spread_frac == pytest.approx(0.2 / 1.349 / 3.0)
    rig.restart()
    rig.run(10)
    assert kept(rig) == (entry,)
    rig.ports.measurements.forget(entry.source)
    rig.restart()
    rig.run(10)
    assert kept(rig) == ()


@pytest.mark.parametrize("figures", [{}, FIGURES | {"timed_steps": 4.0}, FIGURES | {"step_median_s": 0.0}])
def test_runs_with_too_few_typical_steps_say_nothing(figures: Mapping[str, float]) -> None:
    rig = rig_of(figures)
    rig.submit(train_job())
    rig.submit(command_job())
    rig.run(60)
    assert kept(rig) == ()


def test_a_run_that_was_planned_with_a_calibration_is_measured_against_its_raw_prediction() -> None:
    rig = rig_of(FIGURES, planner=InlinePlanner(plan))
    first = rig.submit(train_job())
    rig.run(60)
    rig.script = lambda _: Script(figures=FIGURES)
    second = rig.submit(train_job())
    rig.run(60)
    raw, calibrated = (rig.control.job(job).predicted_step_s for job in (first, second))
    assert raw is not None
    assert calibrated is not None
    assert (raw.origin, calibrated.origin) == (Origin.ASSUMED, Origin.CALIBRATED)
    assert first in calibrated.source
    assert calibrated.value > 1.5 * raw.value
    one, two = kept(rig)
    assert one.predicted_s == two.predicted_s == raw.value
    assert one.ratio == two.ratio


def test_a_shelf_that_cannot_be_read_is_told_and_stops_no_job(tmp_path: Path) -> None:
    path = tmp_path / "calibrations.json"
    path.write_text('{"version": 1, "forgotten": [], "measurements": [{"source": "x"}]}')
    rig = rig_of(FIGURES)
    rig.ports = replace(rig.ports, measurements=MeasurementFile(path))
    rig.restart()
    job = rig.submit(train_job())
    rig.run(60)
    assert rig.control.job(job).state is JobState.SUCCEEDED
    assert any("measurements[0].device_type: missing" in warning for warning in rig.control.status().warnings)
    path.unlink()
    rig.run(60)
    assert [entry.source for entry in kept(rig)] == [f"{job}.u0.a1"]
    assert not rig.control.status().warnings


def test_runs_of_an_older_process_are_taken_in_over_several_cycles() -> None:
    rig = rig_of(FIGURES)
    jobs = [rig.submit(train_job(f"lm-{n}")) for n in range(30)]
    rig.run(300)
    assert all(rig.control.job(job).state is JobState.SUCCEEDED for job in jobs)
    rig.ports = replace(rig.ports, measurements=MemoryMeasurements())
    rig.restart()
    rig.run(1)
    assert 0 < len(kept(rig)) < 30
    rig.run(5)
    assert {entry.source for entry in kept(rig)} == {f"{job}.u0.a1" for job in jobs}


# -------------------------------------------------------------------------------------------------------------- the decision


def ended() -> tuple[Finished, Candidate]:
    rig = rig_of(FIGURES)
    job_id = rig.submit(train_job())
    rig.run(60)
    snapshot = rig.control._mirror.snapshot
    attempt = snapshot.attempt(AttemptRef(unit_id=UnitId(f"{job_id}.u0"), number=1))
    assert attempt is not None
    candidate = rig.control._plans.candidate(attempt)
    job = snapshot.job(attempt.job_id)
    assert candidate is not None
    assert job is not None
    end = finished(job, attempt)
    assert end.completed
    assert end.at == attempt.assigned_at
    assert not finished(job, replace(attempt, release_reason=ReleaseReason.STOPPED)).completed
    assert finished(job, replace(attempt, strategy=None)).strategy == ""
    return end, candidate


def test_the_basis_is_that_of_the_raw_prediction() -> None:
    end, candidate = ended()
    probed = Estimate.within(2.0, 0.1, origin=Origin.MEASURED)
    calibrated = replace(candidate, raw_step_s=probed, step_s=replace(candidate.step_s, origin=Origin.CALIBRATED))
    found = measurement_of(end, calibrated, DeviceTypeName("cpu-test"))
    assert isinstance(found, StepMeasurement)
    assert (found.basis, found.predicted_s, found.spread) == (Basis.PROBE, 2.0, probed.log_spread)


def test_what_is_no_measurement() -> None:
    end, candidate = ended()
    here = DeviceTypeName("cpu-test")
    assert measurement_of(replace(end, completed=False), candidate, here) is NotMeasured.NOT_COMPLETED
    assert measurement_of(replace(end, strategy=""), candidate, here) is NotMeasured.NOT_TRAINED
    assert measurement_of(replace(end, figures={}), candidate, here) is NotMeasured.FEW_STEPS
    assert measurement_of(end, None, here) is NotMeasured.NO_PREDICTION
    assert measurement_of(end, candidate, None) is NotMeasured.UNKNOWN_DEVICES
