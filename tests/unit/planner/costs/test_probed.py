from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from planner.costs import predict
from planner.costs.collectives import group_spans
from planner.costs.probed import ProbedTimes, isotonic
from planner.costs.roofline import RooflineTimes
from planner.costs.types import Exchange, Work
from tests.unit.planner.costs.models import DECODER, TRAIN, context, point, report
from trimtab.estimate import Origin
from trimtab.inventory import ProbeKernel, ProbePoint
from trimtab.strategy import Precision, Strategy

PAIR = Strategy(dp=2)
POINTS = (
    point(ProbeKernel.LAUNCH, (0,), 1e-6),
    point(ProbeKernel.MATMUL, (128, 64, 64, 0), 1e-4),
    point(ProbeKernel.MATMUL, (1024, 64, 64, 0), 8e-4),
    point(ProbeKernel.MATMUL, (1024, 64, 64, 0), 1.2e-3, num_ranks=2),
    point(ProbeKernel.MATMUL, (128, 64, 64, 0), 2.5e-4, precision="fp64"),
    point(ProbeKernel.ALL_REDUCE, (8,), 1e-4, num_ranks=2),
    point(ProbeKernel.ALL_REDUCE, (4096,), 9e-5, num_ranks=2),
    point(ProbeKernel.ALL_REDUCE, (1 << 20,), 1e-3, num_ranks=2),
)


def provider(*points: ProbePoint, num_ranks: int = 1, strategy: Strategy = PAIR) -> ProbedTimes:
    return ProbedTimes(context(strategy), report(*(points or POINTS)), num_ranks=num_ranks)


def matmul(rows: int, precision: Precision = Precision.FP32, num_ranks: int = 1) -> float:
    work = Work(kernel=ProbeKernel.MATMUL, shape=(rows, 64, 64, 0))
    return provider(num_ranks=num_ranks).kernel(work, precision).value


def reduce(num_bytes: float, strategy: Strategy = PAIR) -> float:
    exchange = Exchange(kernel=ProbeKernel.ALL_REDUCE, group="dp", num_bytes=num_bytes)
    return provider(strategy=strategy).exchange(exchange, group_spans(strategy, strategy.world_size)).value


def test_a_measured_shape_is_answered_exactly() -> None:
    assert matmul(128) == pytest.approx(1e-4)
    assert matmul(1024) == pytest.approx(8e-4)


def test_between_two_shapes_the_time_lies_between() -> None:
    assert 1e-4 < matmul(256) < matmul(512) < 8e-4


def test_beyond_the_largest_shape_the_rate_stays() -> None:
    assert matmul(1 << 16) == pytest.approx(64 * 8e-4, rel=0.1)


def test_below_the_smallest_a_launch_is_left() -> None:
    assert matmul(1) > 1e-6


def test_ranks_that_work_at_once_are_slower() -> None:
    assert matmul(1024, num_ranks=2) == pytest.approx(1.5 * 8e-4, rel=0.01)


def test_another_precision_is_scaled_by_what_was_measured() -> None:
    assert matmul(512, Precision.FP64) == pytest.approx(2.5 * matmul(512), rel=0.02)


def test_noise_does_not_make_a_larger_message_cheaper() -> None:
    assert reduce(8) <= reduce(4096) <= reduce(1 << 19) <= reduce(1 << 20) == pytest.approx(1e-3)
    assert reduce(1 << 21) == pytest.approx(2e-3, rel=0.1)


def test_more_ranks_than_measured_cost_more_hops_and_volume() -> None:
    assert reduce(1 << 20, Strategy(dp=4)) > 1.4 * reduce(1 << 20)


def test_what_was_not_measured_comes_from_the_roofline() -> None:
    work = Work(kernel=ProbeKernel.NORM_FORWARD, shape=(128, 64, 0))
    roofline = RooflineTimes(context(PAIR), num_ranks=1).kernel(work, Precision.FP32)
    assert provider().kernel(work, Precision.FP32).value == roofline.value


def test_a_wide_spread_widens_the_interval() -> None:
    work = Work(kernel=ProbeKernel.MATMUL, shape=(128, 64, 64, 0))
    noisy = tuple(replace(each, spread_frac=2.0) for each in POINTS)
    assert provider(*noisy).kernel(work, Precision.FP32).error_frac > provider().kernel(work, Precision.FP32).error_frac


def test_a_prediction_from_a_probe_says_that_it_was_measured() -> None:
    strategy = Strategy(micro_batch=8)
    found = predict(model=DECODER, train=TRAIN, strategy=strategy, context=context(strategy, probe=report(*POINTS)))
    assert found.step_s.origin is Origin.MEASURED
    assert any(constant.origin is Origin.MEASURED and "f00d" in constant.source for constant in found.constants)


@given(some.lists(some.tuples(some.floats(0.1, 10.0), some.floats(0.5, 5.0)), min_size=1, max_size=12))
def test_isotonic_rises_and_keeps_the_weighted_mean(pairs: list[tuple[float, float]]) -> None:
    values, weights = [value for value, _ in pairs], [weight for _, weight in pairs]
    found = isotonic(values, weights)
    assert found == sorted(found)
    mean = sum(value * weight for value, weight in pairs)
    assert sum(a * b for a, b in zip(found, weights, strict=True)) == pytest.approx(mean)
