"""Multipliers from measured runs: by hand, against the formulas of the spread, and in plans."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from datetime import timedelta

import pytest

from planner.api import estimate, plan
from planner.candidates.calibrate import prior_spread
from planner.measured import MeasuredRun, calibrations, predict_run
from planner.training.calibration import calibrate, combined, own_spread, parts_of_spread
from planner.training.constants import fitted_constants
from planner.training.spread import Doubt, log_spread
from tests.support.measurements import BEGAN, measured
from tests.support.planning import (
    CPU_TYPE,
    H100,
    NOW,
    cpu_pool,
    devices,
    h100_pool,
    inventory,
    llama_spec,
    problem,
    request,
    train_spec,
    workload,
)
from trimtab.errors import SpecError
from trimtab.estimate import Estimate, Origin
from trimtab.inventory import DeviceKind, ProbeReport, Shape
from trimtab.jobspec import Trainer
from trimtab.measurement import Basis, MeasurementKey
from trimtab.strategy import Precision, Recompute, Strategy
from trimtab.wire import dumps, loads

LATER = BEGAN + timedelta(days=2)
CONSTANTS = fitted_constants().shared


def test_one_run_moves_the_multiplier_by_what_the_prior_leaves() -> None:
    made = calibrate([measured(1.2)], prior_spread=0.12, now=LATER)
    known = 1 / (1.25**2 * 0.06**2)
    weight = known / (known + 1 / 0.12**2)
    assert made.log_multiplier == pytest.approx(weight * math.log(1.2))
    assert 0.7 < weight < 0.75
    assert made.spread == pytest.approx((known + 1 / 0.12**2) ** -0.5)
    assert made.num_runs == 1


def test_a_run_beyond_all_doubt_is_believed_rather_than_the_prior() -> None:
    made = calibrate([measured(7.0)], prior_spread=0.12, now=LATER)
    assert made.multiplier == pytest.approx(7.0, rel=0.02)


def test_many_runs_give_their_median() -> None:
    ratios = [1.2 + 0.001 * number for number in range(200)]
    made = calibrate([measured(ratio, n) for n, ratio in enumerate(ratios)], prior_spread=0.12, now=BEGAN + timedelta(days=30))
    assert made.multiplier == pytest.approx(statistics.median(ratios), rel=2e-3)
    assert not made.outliers


@pytest.mark.parametrize("number", [2, 3, 6, 7])
def test_runs_of_equal_weight_are_moved_by_their_plain_median(number: int) -> None:
    ratios = [1.02, 1.30, 1.11, 1.05, 1.21, 1.08, 1.16][:number]
    made = calibrate([measured(ratio, n) for n, ratio in enumerate(ratios)], prior_spread=0.3, now=LATER)
    known = number / (1.25**2 * 0.06**2)
    goal = statistics.median(math.log(ratio) for ratio in ratios)
    assert made.log_multiplier == pytest.approx(goal * known / (known + 1 / 0.3**2))


def test_scattered_steps_and_few_of_them_count_less() -> None:
    steady = calibrate([measured(1.5)], prior_spread=0.12, now=LATER)
    shaky = calibrate([measured(1.5, step_spread_frac=0.5, num_steps=5)], prior_spread=0.12, now=LATER)
    assert 1.0 < shaky.multiplier < steady.multiplier
    assert shaky.spread > steady.spread


def test_a_run_far_from_the_others_is_kept_named_and_counts_less() -> None:
    runs = [measured(1.10, 0), measured(1.11, 1), measured(1.12, 2), measured(3.0, 3)]
    made = calibrate(runs, prior_spread=0.12, now=LATER)
    assert made.outliers == (runs[3].source,)
    assert runs[3] in made.measurements
    assert any("3.00 times its prediction" in sentence and runs[3].source in sentence for sentence in made.warnings)
    trusting = calibrate([*runs[:3], measured(1.13, 3)], prior_spread=0.12, now=LATER)
    assert made.multiplier <= trusting.multiplier


def test_runs_that_contradict_each_other_are_told() -> None:
    made = calibrate([measured(0.7), measured(1.4, 1)], prior_spread=0.12, now=LATER)
    assert any("contradict each other: 0.70 to 1.40" in sentence for sentence in made.warnings)
    raw = Estimate.within(10.0, 0.1, origin=Origin.ASSUMED)
    found = made.apply(raw)
    assert found.low < 7.5
    assert found.high > 13.0
    agreeing = calibrate([measured(1.0), measured(1.05, 1)], prior_spread=0.12, now=LATER)
    assert agreeing.warnings == ()


def test_a_ratio_beyond_doubt_and_old_runs_are_told() -> None:
    assert any("more than the model's doubt" in s for s in calibrate([measured(4.0)], prior_spread=0.12, now=LATER).warnings)
    old = calibrate([measured(1.0)], prior_spread=0.12, now=BEGAN + timedelta(days=100))
    assert any("100 days old" in sentence for sentence in old.warnings)


def test_runs_of_two_keys_or_none_have_no_calibration() -> None:
    with pytest.raises(ValueError, match="runs of one key"):
        calibrate([], prior_spread=0.1, now=LATER)
    with pytest.raises(ValueError, match="found 2"):
        calibrate([measured(1.0), measured(1.0, 1, framework="megatron")], prior_spread=0.1, now=LATER)


def test_combining_is_calibrating_the_union_and_counts_a_run_once() -> None:
    runs = [measured(1.0 + 0.1 * n, n) for n in range(4)]
    first, second = (calibrate(part, prior_spread=0.12, now=LATER) for part in (runs[:3], runs[2:]))
    assert combined(first, second, now=LATER) == calibrate(runs, prior_spread=0.12, now=LATER)


def test_an_estimate_is_moved_named_and_never_less_certain() -> None:
    raw = Estimate.within(10.0, 0.25, origin=Origin.ASSUMED, source="roofline")
    made = calibrate([measured(1.3), measured(1.3, 1)], prior_spread=0.156, now=LATER)
    found = made.apply(raw)
    assert found.value == pytest.approx(10.0 * made.multiplier)
    assert found.origin is Origin.CALIBRATED
    assert found.log_spread <= raw.log_spread
    assert "2 measured runs (job_0.u0.a1, job_1.u0.a1; 2026-11-20)" in found.source
    assert found.source.startswith("roofline, times 1.2")
    narrow = Estimate.within(10.0, 0.001, origin=Origin.MEASURED)
    assert made.apply(narrow).log_spread == pytest.approx(narrow.log_spread)


def test_the_spread_of_the_formulas_is_split_as_it_was_fitted() -> None:
    whole = log_spread(Doubt(has_experts=False, is_guessed=False, waiting_frac=0.0), CONSTANTS, num_measured=0)
    assert parts_of_spread(whole) == pytest.approx((CONSTANTS["spread_raw"], CONSTANTS["spread_calibrated"]))
    many = [measured(1.0, n) for n in range(50)]
    made = calibrate(many, prior_spread=CONSTANTS["spread_raw"], now=LATER)
    plain = log_spread(Doubt(has_experts=False, is_guessed=False, waiting_frac=0.0), CONSTANTS, num_measured=50)
    assert math.hypot(CONSTANTS["spread_calibrated"], made.spread) == pytest.approx(plain, rel=2e-3)


# ------------------------------------------------------------------------------------------------------------------ in plans


def test_candidates_are_calibrated_on_the_device_type_that_was_measured() -> None:
    where = inventory(cpu_pool(), h100_pool())
    raw = {(c.offer_id, c.strategy): c for c in estimate(train_spec(), where)}
    runs = [measured(1.5, n) for n in range(5)]
    (made,) = calibrations(runs, kinds={CPU_TYPE.name: DeviceKind.CPU}, now=NOW)
    found = estimate(train_spec(), where, measurements=runs)
    assert found
    for candidate in found:
        before = raw[candidate.offer_id, candidate.strategy]
        if candidate.pool_id != "local-cpu":
            assert candidate == before
            continue
        assert candidate.raw_step_s == before.step_s
        assert candidate.step_s.value == pytest.approx(before.step_s.value * made.multiplier)
        assert candidate.step_s.origin is Origin.CALIBRATED
        assert sum(part.seconds for part in candidate.time_parts) == pytest.approx(candidate.step_s.value)
        steps = (candidate.step_s.value - before.step_s.value) * 100
        fixed = {part.name: part.seconds for part in candidate.run_parts}
        fixed_before = {part.name: part.seconds for part in before.run_parts}
        assert fixed["evaluation"] == pytest.approx(fixed_before["evaluation"] * made.multiplier)
        assert fixed["start of the ranks"] == fixed_before["start of the ranks"]
        more = sum(fixed.values()) - sum(fixed_before.values())
        assert candidate.total_s.value - before.total_s.value == pytest.approx(steps + more)


def test_runs_against_the_roofline_do_not_touch_what_a_probe_predicts_nor_older_runs_a_newer_probe() -> None:
    probe = ProbeReport(fingerprint="f", device_type=CPU_TYPE, num_devices=4, points=(), measured_at=BEGAN + timedelta(hours=2))
    key = MeasurementKey(device_type=CPU_TYPE.name, framework="trimtab", basis=Basis.PROBE)
    runs = [measured(1.5), measured(1.2, 1, basis=Basis.PROBE), measured(1.3, 3, basis=Basis.PROBE)]
    found = {made.key: made for made in calibrations(runs, kinds={}, probes=[probe], now=NOW)}
    assert [entry.source for entry in found[key].measurements] == ["job_3.u0.a1"]
    assert len(found) == 2


def test_a_plan_and_a_fixed_unit_use_the_runs_and_say_so() -> None:
    pool = cpu_pool()
    held = request(train_spec(), 1, held=devices(pool, (0, 0)), strategy=Strategy(micro_batch=16), fixed=True)
    asked = problem(held, request(train_spec()), where=inventory(pool), measurements=(measured(0.7), measured(1.4, 1)))
    made = plan(asked)
    assert len(made.assignments) == 2
    assert {a.candidate.step_s.origin for a in made.assignments} == {Origin.CALIBRATED}
    assert any("contradict each other" in sentence for sentence in made.warnings)
    assert "cpu-test/trimtab/roofline multiplier" in {constant.name for constant in made.constants}
    assert plan(replace(asked, measurements=asked.measurements[::-1])).assignments == made.assignments
    assert loads(type(asked), dumps(asked)) == asked


# ------------------------------------------------------------------------------------------------------- runs from elsewhere


def run_of(**fields: object) -> MeasuredRun:
    values: dict[str, object] = {
        "spec": llama_spec(),
        "strategy": Strategy(
            fsdp=16, zero_stage=3, micro_batch=1, num_micro_batches=16, recompute=Recompute.FULL, precision=Precision.BF16
        ),
        "framework": "torchtitan",
        "device_type": H100,
        "pool": h100_pool(),
        "shape": Shape(num_nodes=2, devices_per_node=8),
    }
    return MeasuredRun(**(values | fields))  # type: ignore[arg-type]


def test_other_trainers_are_predicted_by_the_formulas_ours_by_the_roofline() -> None:
    other, ours = predict_run(run_of()), predict_run(run_of(framework="trimtab"))
    assert (other.key.basis, ours.key.basis) == (Basis.FORMULAS, Basis.ROOFLINE)
    assert 5.0 < other.step_s.value < 60.0
    assert 5.0 < ours.step_s.value < 60.0
    shared, own = prior_spread(other.key, DeviceKind.GPU), own_spread(Basis.FORMULAS, other.step_s.log_spread)
    assert math.hypot(shared, own) == pytest.approx(other.step_s.log_spread)
    same = next(c for c in estimate(llama_spec(), inventory(h100_pool())) if c.shape == run_of().shape and c.strategy)
    assert predict_run(run_of(framework="trimtab", strategy=same.strategy)).step_s == same.step_s


def test_plans_for_another_trainer_are_calibrated_by_its_runs_alone() -> None:
    spec, where = llama_spec(framework=Trainer.TORCHTITAN), inventory(h100_pool())
    raw = {c.strategy: c for c in estimate(spec, where) if c.shape == run_of().shape}
    strategy = next(iter(raw))
    assert strategy is not None
    own = predict_run(run_of(spec=spec, strategy=strategy))
    assert own.step_s.value == pytest.approx(raw[strategy].step_s.value)
    assert own.step_s.log_spread == pytest.approx(raw[strategy].step_s.log_spread)
    keyed = {"device_type": H100.name, "basis": Basis.FORMULAS, "spread": own.step_s.log_spread}
    runs = [measured(1.2, 0, framework="torchtitan", **keyed), measured(3.0, 1, framework="megatron", **keyed)]
    found = next(c for c in estimate(spec, where, measurements=runs) if c.strategy == strategy)
    assert found.raw_step_s == raw[strategy].step_s
    assert found.step_s.origin is Origin.CALIBRATED
    assert 1.1 < found.step_s.value / raw[strategy].step_s.value < 1.2
    assert "job_1" not in found.step_s.source


def test_pipelines_without_a_split_get_the_even_one() -> None:
    strategy = Strategy(pp=2, micro_batch=4, num_micro_batches=4)
    spec = train_spec(train=workload(num_steps=10))
    found = predict_run(
        run_of(
            spec=spec,
            strategy=strategy,
            framework="trimtab",
            device_type=CPU_TYPE,
            pool=cpu_pool(),
            shape=Shape(num_nodes=1, devices_per_node=2),
        )
    )
    named = replace(strategy, stage_layers=(2, 2))
    (same,) = [c for c in estimate(spec, inventory(cpu_pool(per_node=2))) if c.strategy == named]
    assert found.step_s == same.step_s


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"framework": "torch-titan"}, "unknown framework 'torch-titan'"),
        ({"shape": Shape(num_nodes=1, devices_per_node=8)}, "16 ranks on 8 devices"),
        ({"strategy": Strategy(dp=16, micro_batch=1, num_micro_batches=1)}, "its batch is 16 samples"),
        (
            {
                "framework": "trimtab",
                "strategy": Strategy(dp=2, cp=8, micro_batch=1, num_micro_batches=128, precision=Precision.BF16),
            },
            "framework-supports: the trimtab trainer does not run context parallel",
        ),
    ],
)
def test_what_cannot_have_run_is_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        predict_run(run_of(**fields))
