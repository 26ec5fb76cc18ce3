"""What a plot shows, as data."""

from __future__ import annotations

from dataclasses import replace

from scheduler.service.figures import MEMORY_PARTS
from scheduler.service.pareto import NUM_BARS, Picture, picture
from tests.support.plans import STRATEGY, candidate, inventory
from trimtab.plan import Candidate, FitVerdict


def some(*figures: tuple[float, float]) -> list[Candidate]:
    """Candidates by seconds of a step and cost, each with a strategy of its own."""
    return [
        candidate(replace(STRATEGY, num_micro_batches=number + 1), step_s=step_s, cost_usd=cost_usd, nodes=4)
        for number, (step_s, cost_usd) in enumerate(figures)
    ]


def shown(found: list[Candidate], *, over: float = 1e9, marked: Candidate | None = None) -> Picture:
    return picture(found, inventory(), title="t", is_feasible=lambda c: c.cost_usd.value <= over, marked=marked, mark="chosen")


def test_the_front_is_that_of_the_feasible_ones() -> None:
    found = some((1.0, 900.0), (2.0, 500.0), (3.0, 600.0), (4.0, 100.0))
    assert shown(found).front == (0, 1, 3)
    assert shown(found, over=800.0).front == (1, 3)
    assert [p.feasible for p in shown(found, over=800.0).points] == [False, True, True, True]
    assert shown(found, over=1.0).front == (0, 1, 3), "without a feasible one the front is that of all"


def test_points_carry_hours_dollars_and_intervals() -> None:
    point = shown(some((3.2, 624.0))).points[0]
    assert point.time_h.value == (3.2 * 20 + 60) / 3600
    assert point.time_h.low < point.time_h.value < point.time_h.high
    assert (point.cost_usd.value, point.device_type, point.num_devices) == (624.0, "H100-SXM5-80GB", 32)


def test_the_marked_one_is_found_again_or_added() -> None:
    found = some((1.0, 900.0), (2.0, 500.0))
    assert [p.marked for p in shown(found, marked=found[1]).points] == [False, True]
    other = some((9.0, 1.0), (9.0, 1.0), (9.0, 1.0))[2]
    assert [p.marked for p in shown(found, marked=other).points] == [False, False, True]


def test_a_program_whose_time_nobody_predicts_is_no_point() -> None:
    unknown = [replace(c, total_s=c.total_s.scaled(0.0), cost_usd=c.cost_usd.scaled(0.0)) for c in some((1.0, 1.0))]
    assert shown(unknown, marked=unknown[0]).points == ()


def test_bars_are_the_marked_one_the_front_and_the_best_that_fit() -> None:
    found = some((1.0, 900.0), (2.0, 500.0), (2.1, 510.0), (2.2, 700.0), (2.3, 701.0), (2.4, 702.0), (2.5, 703.0))
    found[2] = replace(found[2], fit=FitVerdict.TIGHT)
    bars = shown(found, marked=found[4]).bars
    assert len(bars) == NUM_BARS
    assert [bar.label.split("mb2x")[1].split()[0] for bar in bars] == ["5", "1", "2", "4", "6"]
    assert [bar.marked for bar in bars] == [True, False, False, False, False]
    assert [name for name, _ in bars[0].parts] == [name for name, _ in MEMORY_PARTS]
    assert bars[0].capacity_bytes == 80 * 1024**3
    assert sum(amount for _, amount in bars[0].parts) == bars[0].total_bytes.value


def test_the_same_strategy_of_two_offers_is_one_bar() -> None:
    found = some((1.0, 900.0))
    assert len(shown([found[0], replace(found[0], cost_usd=found[0].cost_usd.scaled(2.0))]).bars) == 1
