from __future__ import annotations

import pytest

from planner.costs.pipeline import pipeline_seconds, stage_order
from trimtab.strategy import PipelineSchedule, Strategy


def make(pp: int, num_micro: int, schedule: PipelineSchedule = PipelineSchedule.ONE_F_ONE_B, **more: int) -> Strategy:
    return Strategy(pp=pp, num_micro_batches=num_micro, schedule=schedule, **more)


@pytest.mark.parametrize("schedule", [PipelineSchedule.ONE_F_ONE_B, PipelineSchedule.GPIPE])
@pytest.mark.parametrize(("pp", "num_micro"), [(2, 1), (2, 4), (3, 3), (4, 8)])
def test_equal_stages_have_the_bubble_of_the_papers(schedule: PipelineSchedule, pp: int, num_micro: int) -> None:
    seconds = pipeline_seconds([1.0] * pp, [2.0] * pp, sends_s=[0.0] * (pp - 1), strategy=make(pp, num_micro, schedule))
    assert seconds == pytest.approx(3.0 * (num_micro + pp - 1))  # bubble (p - 1) / m of the ideal 3 m


def test_one_stage_has_no_bubble() -> None:
    assert pipeline_seconds([1.0], [2.0], sends_s=[], strategy=make(1, 5)) == 15.0


def test_the_slowest_stage_sets_the_pace() -> None:
    seconds = pipeline_seconds([1.0, 3.0], [2.0, 6.0], sends_s=[0.0], strategy=make(2, 10))
    assert 10 * 9.0 <= seconds <= 10 * 9.0 + 3.0


def test_sends_lengthen_the_way_there_and_back() -> None:
    without = pipeline_seconds([1.0, 1.0], [1.0, 1.0], sends_s=[0.0], strategy=make(2, 1))
    assert pipeline_seconds([1.0, 1.0], [1.0, 1.0], sends_s=[0.25], strategy=make(2, 1)) == pytest.approx(without + 0.5)


def test_long_schedules_agree_with_the_walk() -> None:
    forward, backward = [1.0, 1.2, 0.9, 1.1], [2.0, 2.4, 1.8, 2.2]
    walked = pipeline_seconds(forward, backward, sends_s=[0.0] * 3, strategy=make(4, 512))
    closed = pipeline_seconds(forward, backward, sends_s=[0.0] * 3, strategy=make(4, 513))
    assert closed - walked == pytest.approx(3.6, rel=0.5)


def test_interleaving_shortens_the_bubble_by_the_number_of_virtual_stages() -> None:
    plain = pipeline_seconds([1.0] * 4, [2.0] * 4, sends_s=[0.0] * 3, strategy=make(4, 8))
    split = make(4, 8, PipelineSchedule.INTERLEAVED, virtual_stages=2)
    assert pipeline_seconds([0.5] * 8, [1.0] * 8, sends_s=[0.0] * 7, strategy=split) == pytest.approx(plain - 9.0 / 2)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_each_stage_runs_every_micro_batch_once_each_way(stage: int) -> None:
    order = stage_order(make(3, 5), stage, 3)
    assert sorted(order) == sorted([(True, i) for i in range(5)] + [(False, i) for i in range(5)])
    in_flight = [sum(1 if forward else -1 for forward, _ in order[: index + 1]) for index in range(len(order))]
    assert max(in_flight) == 3 - stage


def test_too_few_micro_batches_for_1f1b_run_as_gpipe() -> None:
    assert stage_order(make(4, 2), 3, 4) == [(True, 0), (True, 1), (False, 0), (False, 1)]
