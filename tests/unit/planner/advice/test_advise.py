"""Batch advice as a whole: what fits, what it costs, and when it warns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from planner.advice import Advice, AdviceQuestion, AdviceWarningKind, Rate, TradePoint, advise
from planner.advice.costs import Costs, costs_of
from planner.advice.micro import largest_fitting
from planner.advice.trade import batches_of, best_batch, front, knee, shapes_of
from tests.support.planning import (
    CPU_TYPE,
    GPT2_SMALL,
    H100,
    LLAMA_8B,
    as_encoder,
    command_spec,
    tiny_model,
    train_spec,
    workload,
)
from trimtab.errors import InfeasibleError, SpecError
from trimtab.estimate import Estimate, Origin
from trimtab.ids import PoolId
from trimtab.inventory import DeviceType, Pool, Shape
from trimtab.jobspec import JobSpec, Limits, Optimize, Trainer
from trimtab.model import ModelSpec
from trimtab.plan import FitVerdict
from trimtab.strategy import Precision, Recompute, Strategy

LONG: dict[str, Any] = {"num_steps": 14_306, "sequence_length": 8192, "global_batch": 128, "precision": Precision.BF16}


def llama(**fields: Any) -> JobSpec:
    return replace(job(LLAMA_8B, **LONG), framework=Trainer.COMPOSER_FSDP, **fields)


def job(model: ModelSpec, **fields: Any) -> JobSpec:
    return replace(train_spec(), model=model, train=workload(**fields))


def asked(spec: JobSpec, *, device: DeviceType = H100, num_devices: int = 8, **fields: Any) -> AdviceQuestion:
    per_node = min(8, num_devices)
    pool = Pool(id=PoolId("p"), device_type=device.name, devices_per_node=per_node, num_nodes=num_devices // per_node)
    rate = Rate(usd_per_device_hour=2.0, source="test")
    return AdviceQuestion(spec=spec, device_type=device, pool=pool, num_devices=num_devices, rate=rate, **fields)


def kinds(advice: Advice) -> set[AdviceWarningKind]:
    return {warning.kind for warning in advice.warnings}


@pytest.fixture(scope="module")
def advice() -> Advice:
    return advise(asked(llama(optimize=Optimize.TIME)))


def test_the_largest_micro_batch_is_the_largest(advice: Advice) -> None:
    question = asked(llama())
    costs, shape = costs_of(question), Shape(num_nodes=1, devices_per_node=8)
    assert len(advice.splits) >= 3
    for split in advice.splits:
        sizes = [
            replace(split.strategy, micro_batch=size, num_micro_batches=2 * split.strategy.pp)
            for size in (max(1, split.largest_micro_batch), split.largest_micro_batch + 1)
        ]
        inside, outside = costs.peaks(shape, sizes)
        assert split.largest_micro_batch == 0 or inside.fit is FitVerdict.FITS
        assert outside.fit is not FitVerdict.FITS


def test_recompute_makes_room_and_costs_time(advice: Advice) -> None:
    by_recompute = {split.strategy.recompute: split for split in advice.splits[:3]}
    none, full = by_recompute[Recompute.NONE], by_recompute[Recompute.FULL]
    assert full.largest_micro_batch > none.largest_micro_batch
    assert full.rows[0].step_s.value > none.rows[0].step_s.value
    assert full.rows[0].peak_bytes.value < none.rows[0].peak_bytes.value


def test_rows_are_powers_of_two_that_keep_the_global_batch(advice: Advice) -> None:
    for split in advice.splits:
        assert any(row.fit is not FitVerdict.DOES_NOT_FIT for row in split.rows[:1]) or len(split.rows) == 1
        for row in split.rows:
            ranks = split.strategy.data_ranks
            assert row.micro_batch * row.num_micro_batches * ranks == advice.recommended.global_batch
            assert row.tokens_per_s == pytest.approx(advice.recommended.global_batch * 8192 / row.step_s.value)
        peaks = [row.peak_bytes.value for row in split.rows]
        assert peaks == sorted(peaks)
        fitting = [row for row in split.rows if row.fit is FitVerdict.FITS]
        if fitting:
            fastest = max(row.tokens_per_s for row in fitting)
            assert next(row for row in fitting if row.micro_batch == split.best_micro_batch).tokens_per_s == fastest
        else:
            assert split.best_micro_batch == 0


def test_the_recommended_strategy_runs_the_recommended_batch(advice: Advice) -> None:
    for point in (advice.recommended, *advice.batches, *advice.trade):
        assert point.strategy.global_batch == point.global_batch
        assert point.strategy.world_size == point.num_devices
        assert point.fit is FitVerdict.FITS
        assert point.total_s.value == pytest.approx(point.num_steps * point.step_s.value)
        assert point.cost_usd is not None
        assert point.cost_usd.value == pytest.approx(point.total_s.value * point.num_devices * 2.0 / 3600)


def test_the_job_s_own_batch_keeps_its_steps(advice: Advice) -> None:
    assert advice.asked is not None
    assert (advice.asked.global_batch, advice.asked.num_steps) == (128, 14_306)


def test_no_compared_batch_ends_much_earlier_than_the_advised_one(advice: Advice) -> None:
    least = min(point.total_s.value for point in advice.batches)
    assert advice.recommended.total_s.value <= least * (1 + advice.level_frac)
    assert advice.low_batch <= advice.recommended.global_batch <= advice.high_batch


def test_aims_choose_different_points() -> None:
    points = {aim: advise(asked(llama(optimize=aim), num_devices=16)).recommended for aim in Optimize}
    assert points[Optimize.TIME].total_s.value < points[Optimize.COST].total_s.value
    assert points[Optimize.TIME].num_devices > points[Optimize.COST].num_devices


def test_exactly_so_many_devices() -> None:
    found = advise(asked(llama(optimize=Optimize.COST), num_devices=16, exactly=True))
    assert found.recommended.num_devices == 16
    assert found.cheapest.num_devices <= 16


def test_a_measured_scale_moves_the_batch() -> None:
    small, large = (advise(asked(llama(), noise_samples=noise)).recommended.global_batch for noise in (40.0, 4000.0))
    assert small < large


def test_the_built_in_trainer_on_cpus() -> None:
    found = advise(asked(job(tiny_model(), global_batch=16), device=CPU_TYPE, num_devices=2))
    assert found.framework == "trimtab"
    assert found.recommended.fit is FitVerdict.FITS
    assert found.splits[0].largest_micro_batch > 16
    assert any("cpu" in constant.name for constant in found.constants)


def test_what_fits_nowhere_is_infeasible() -> None:
    with pytest.raises(InfeasibleError, match="up to 1 H100"):
        advise(asked(llama(), num_devices=1))
    with pytest.raises(InfeasibleError, match="on 1 H100"):
        advise(asked(llama(), num_devices=1, exactly=True))


def test_what_has_no_batches_is_refused() -> None:
    with pytest.raises(SpecError, match="only a job that trains"):
        advise(asked(command_spec()))
    with pytest.raises(SpecError, match="noise scale"):
        advise(asked(llama(), noise_samples=-1.0))
    with pytest.raises(SpecError, match="data size"):
        advise(asked(llama(), data_samples=0.0))


def test_a_small_data_set_does_not_suit_data_parallelism() -> None:
    found = advise(asked(llama(), data_samples=700.0))
    assert {AdviceWarningKind.FEW_STEPS_PER_EPOCH, AdviceWarningKind.REPEATED_DATA} <= kinds(found)
    assert found.epochs == pytest.approx(found.recommended.num_samples / 700)
    text = next(w.text for w in found.warnings if w.kind is AdviceWarningKind.FEW_STEPS_PER_EPOCH)
    assert "a batch of 14 or less" in text


def test_a_large_data_set_gives_no_warning_of_it() -> None:
    found = advise(asked(llama(), data_samples=1e8))
    assert not kinds(found) & {
        AdviceWarningKind.FEW_STEPS_PER_EPOCH,
        AdviceWarningKind.REPEATED_DATA,
        AdviceWarningKind.DROPPED_LAST_BATCH,
    }


def test_the_last_batch_that_is_dropped() -> None:
    batch = advise(asked(llama())).recommended.global_batch
    found = advise(asked(llama(), data_samples=batch * 8.5))
    text = next(w.text for w in found.warnings if w.kind is AdviceWarningKind.DROPPED_LAST_BATCH)
    assert "6% of the data" in text


def test_a_batch_above_the_critical_one() -> None:
    large = replace(llama(), train=workload(**{**LONG, "global_batch": 4096, "num_steps": 447}))
    found = advise(asked(large, noise_samples=512.0))
    text = next(w.text for w in found.warnings if w.kind is AdviceWarningKind.ABOVE_CRITICAL_BATCH)
    assert "9.0 times the least samples" in text
    assert found.recommended.global_batch < 4096


def test_more_devices_than_samples() -> None:
    few = replace(llama(), train=workload(**{**LONG, "global_batch": 4}))
    found = advise(asked(few, exactly=True))
    assert AdviceWarningKind.MORE_DEVICES_THAN_SAMPLES in kinds(found)


def test_small_micro_batches_leave_the_device_waiting() -> None:
    spec = replace(job(GPT2_SMALL, num_steps=1000, sequence_length=128, global_batch=64), framework=Trainer.TORCHTITAN)
    fixed = replace(spec, strategy=replace(spec.strategy, micro_batch=1))
    found = advise(asked(fixed, num_devices=1, noise_samples=1000.0))
    assert found.recommended.strategy.micro_batch == 1
    assert AdviceWarningKind.SMALL_MICRO_BATCH in kinds(found)


def test_limits_are_kept_where_they_can_be_and_said_where_not() -> None:
    cheap = advise(asked(llama(optimize=Optimize.COST), num_devices=16)).recommended
    hours = cheap.total_s.value / 3600
    quick = advise(asked(llama(optimize=Optimize.COST, limits=Limits(max_hours=0.8 * hours)), num_devices=16))
    assert quick.recommended.num_devices > cheap.num_devices
    assert AdviceWarningKind.OVER_LIMITS not in kinds(quick)
    assert AdviceWarningKind.OVER_LIMITS in kinds(advise(asked(llama(limits=Limits(max_hours=0.1)))))


def test_a_model_without_a_law_keeps_its_batch() -> None:
    encoder = replace(llama(), model=as_encoder(LLAMA_8B))
    found = advise(asked(encoder))
    assert found.critical is None
    assert found.recommended.global_batch == 128
    assert AdviceWarningKind.NO_RULE in kinds(found)
    assert advise(asked(encoder, noise_samples=300.0)).critical is not None


def test_devices_and_batches_that_are_compared() -> None:
    question = asked(llama(), num_devices=24)
    assert [shape.num_devices for shape in shapes_of(question)] == [1, 2, 4, 8, 16, 24]
    assert [shape.num_devices for shape in shapes_of(replace(question, min_devices=8))] == [8, 16, 24]
    assert batches_of(question, None) == (128,)
    assert batches_of(question, 100.0) == (4, 8, 16, 32, 64, 128, 256, 512)


def point(total_s: float, cost_usd: float, *, batch: int = 8, fit: FitVerdict = FitVerdict.FITS) -> TradePoint:
    def known(value: float) -> Estimate:
        return Estimate(value=value, low=value, high=value, origin=Origin.ASSUMED)

    return TradePoint(
        num_devices=1,
        strategy=Strategy(micro_batch=batch),
        fit=fit,
        global_batch=batch,
        step_s=known(1.0),
        num_steps=1,
        num_samples=1.0,
        total_s=known(total_s),
        cost_usd=known(cost_usd),
    )


def test_the_front_and_its_knee() -> None:
    slow, bend, quick, beaten = point(100, 10), point(20, 12), point(10, 40), point(30, 30)
    assert front([quick, beaten, slow, bend]) == (slow, bend, quick)
    assert knee((slow, bend, quick)) == bend
    assert knee((slow, quick)) == slow


def test_equal_times_give_the_largest_batch_that_surely_fits() -> None:
    points = [point(100, 1, batch=8), point(105, 1, batch=16), point(120, 1, batch=32)]
    critical = Estimate(value=20.0, low=10.0, high=40.0, origin=Origin.ASSUMED)
    assert best_batch(points, critical).global_batch == 16
    assert best_batch(points, replace(critical, value=12.0)).global_batch == 8, "equal times give none above the critical batch"
    assert best_batch([point(50, 1, batch=64), *points], critical).global_batch == 64, "unless it is the fastest"
    tight = point(50, 1, batch=64, fit=FitVerdict.TIGHT)
    assert best_batch([*points, tight], critical).global_batch == 16
    assert best_batch([tight], None).global_batch == 64


def test_bisection_against_counting() -> None:
    question = asked(job(GPT2_SMALL, sequence_length=1024, precision=Precision.BF16, global_batch=64), num_devices=1)
    costs: Costs = costs_of(replace(question, spec=replace(question.spec, framework=Trainer.TORCHTITAN)))
    shape = Shape(num_nodes=1, devices_per_node=1)
    base = Strategy(precision=Precision.BF16)
    (found,) = largest_fitting(costs, shape, [base])
    sized = [replace(base, micro_batch=size, num_micro_batches=2) for size in range(1, 200)]
    counted = sum(peak.fit is FitVerdict.FITS for peak in costs.peaks(shape, sized))
    assert 1 < found == counted < 199
