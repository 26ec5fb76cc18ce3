"""Plans from end to end: choice, placement, reasons, determinism."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from planner.api import estimate, plan
from planner.verify import check_plan
from tests.support.planning import (
    NOW,
    command_spec,
    cpu_pool,
    devices,
    h100_pool,
    inventory,
    llama_spec,
    offer,
    problem,
    request,
    tiny_model,
    train_spec,
    with_priority,
    workload,
)
from trimtab import wire
from trimtab.inventory import DeviceState, Market
from trimtab.jobspec import DeviceRequest, Limits, Optimize, StrategyRequest
from trimtab.plan import FitVerdict, Plan, PlanningProblem, RejectionReason, SolveStatus


def single(made: Plan, number: int = 0) -> object:
    found = made.assignment(f"job_{number}.u0")  # type: ignore[arg-type]
    assert found is not None, made.unplaced
    return found


def assert_sound(asked: PlanningProblem, made: Plan) -> None:
    assert check_plan(asked, made) == ()
    assert {a.unit_id for a in made.assignments} | {u.unit_id for u in made.unplaced} == {r.unit_id for r in asked.requests}
    assert made.solve.bound_usd_per_hour <= made.solve.objective_usd_per_hour
    for left in made.unplaced:
        assert len(left.detail) > 20


def test_the_fastest_candidate_is_chosen_for_time_and_the_cheapest_for_cost() -> None:
    for optimize, measure in ((Optimize.TIME, lambda c: c.total_s.value), (Optimize.COST, lambda c: c.cost_usd.value)):
        asked = problem(request(train_spec(optimize=optimize)))
        made = plan(asked)
        assert_sound(asked, made)
        chosen = made.assignments[0].candidate
        every = [c for c in estimate(asked.requests[0].spec, asked.inventory) if c.fit is FitVerdict.FITS]
        assert measure(chosen) <= min(measure(c) for c in every) * 1.02
        assert made.solve.status is SolveStatus.OPTIMAL
        assert made.solve.gap_frac <= 1e-6


def test_equal_problems_give_equal_bytes() -> None:
    requests = [request(train_spec(f"t{i}", train=workload(num_steps=50 + i)), i) for i in range(3)]
    asked = problem(*requests, request(command_spec(), 3), where=inventory(cpu_pool(num_nodes=2)))
    texts = {wire.dumps(plan(wire.loads(PlanningProblem, wire.dumps(asked)))) for _ in range(3)}
    assert len(texts) == 1
    assert plan(asked).id != plan(replace(asked, basis_version=2)).id


def test_a_clock_fills_in_the_seconds_only() -> None:
    asked = problem(request(command_spec()))
    ticks = iter([10.0, 12.5, 13.0])
    timed = plan(asked, clock=lambda: next(ticks))
    assert timed.solve.seconds == 2.5
    assert replace(timed, solve=replace(timed.solve, seconds=0.0)) == plan(asked)


def test_alternatives_split_the_work_in_other_ways() -> None:
    made = plan(problem(request(train_spec())))
    found = made.assignments[0]
    ways = {
        (c.shape.num_devices, c.strategy.dp, c.strategy.fsdp, c.strategy.tp, c.strategy.pp)
        for c in (found.candidate, *found.alternatives)
        if c.strategy is not None
    }
    assert len(found.alternatives) == 2
    assert len(ways) == 3


def test_rejections_are_typed_and_counted() -> None:
    asked = problem(request(train_spec(limits=Limits(max_usd_per_hour=0.25))))
    made = plan(asked)
    reasons = {r.reason for r in made.rejections}
    assert {RejectionReason.ILLEGAL, RejectionReason.OVER_RATE, RejectionReason.DOMINATED} <= reasons
    assert all(r.count >= 1 and r.rule and r.detail for r in made.rejections)
    assert made.assignments[0].candidate.price_usd_per_hour <= 0.25
    listed = sum(r.count for r in made.rejections if r.rule != "device-request")
    assert listed == made.solve.num_candidates - 1


def test_objective_parts_are_the_objective() -> None:
    made = plan(problem(request(train_spec()), request(command_spec(least=4), 1)))
    assert math.fsum(part.usd_per_hour for part in made.objective) == pytest.approx(made.solve.objective_usd_per_hour, rel=1e-12)
    assert {"cost", "time"} <= {part.name for part in made.objective}


def test_a_command_gets_the_devices_it_asked_for() -> None:
    made = plan(problem(request(command_spec(least=2, most=3))))
    found = made.assignments[0]
    assert len(found.placement.devices) == 3
    assert found.candidate.strategy is None
    assert found.candidate.step_s.source == "duration unknown"
    crowded = plan(problem(request(command_spec(least=2, most=3), 0), request(command_spec(least=2, most=3), 1)))
    assert sorted(len(a.placement.devices) for a in crowded.assignments) == [2, 2]


def test_priority_decides_and_the_other_is_told_who_holds_the_devices() -> None:
    low, high = request(command_spec(least=3), 0), request(with_priority(command_spec(least=3), 5), 1)
    made = plan(problem(low, high))
    assert [a.unit_id for a in made.assignments] == ["job_1.u0"]
    left = made.unplaced[0]
    assert left.reason is RejectionReason.NO_CAPACITY
    assert "job_1.u0 (3)" in left.detail
    assert left.smallest_change == "2 more free devices in local-cpu"


def test_waiting_decides_between_equals() -> None:
    first, second = request(command_spec(least=3), 0, waiting_s=10.0), request(command_spec(least=3), 1, waiting_s=7200.0)
    assert [a.unit_id for a in plan(problem(first, second)).assignments] == ["job_1.u0"]


def test_a_running_unit_stays_where_it_is_and_waiting_alone_does_not_push_it_out() -> None:
    pool = cpu_pool(states={(0, i): DeviceState.ASSIGNED for i in (1, 2, 3)})
    running = request(command_spec(least=3), 0, held=devices(pool, (0, 1), (0, 2), (0, 3)))
    waiting = request(command_spec(least=3), 1, waiting_s=1e6)
    asked = problem(running, waiting, where=inventory(pool))
    made = plan(asked)
    assert_sound(asked, made)
    assert made.assignments[0].unit_id == "job_0.u0"
    assert made.assignments[0].placement.devices == running.held
    urgent = replace(waiting, spec=with_priority(waiting.spec, 1))
    assert [a.unit_id for a in plan(problem(running, urgent, where=inventory(pool))).assignments] == ["job_1.u0"]


def test_a_running_training_unit_keeps_strategy_and_devices() -> None:
    pool = cpu_pool()
    asked = problem(request(train_spec()), where=inventory(pool))
    first = plan(asked).assignments[0]
    states = {(0, d.index): DeviceState.ASSIGNED for d in first.placement.devices}
    held = request(train_spec(), held=first.placement.devices, strategy=first.candidate.strategy)
    again = plan(problem(held, where=inventory(cpu_pool(states=states)))).assignments[0]
    assert again.candidate.strategy == first.candidate.strategy
    assert again.placement == first.placement


def test_a_fixed_unit_keeps_what_it_has_and_others_go_around_it() -> None:
    pool = cpu_pool(states={(0, 0): DeviceState.ASSIGNED, (0, 2): DeviceState.ASSIGNED})
    fixed = request(command_spec(least=2), 0, held=devices(pool, (0, 0), (0, 2)), fixed=True)
    asked = problem(fixed, request(with_priority(command_spec(least=1, most=4), 9), 1), where=inventory(pool))
    made = plan(asked)
    assert_sound(asked, made)
    placed = {a.unit_id: a.placement.devices for a in made.assignments}
    assert placed["job_0.u0"] == fixed.held  # type: ignore[index]
    assert {d.index for d in placed["job_1.u0"]} == {1, 3}  # type: ignore[index]


def test_busy_devices_are_avoided() -> None:
    pool = cpu_pool(states={(0, 0): DeviceState.BUSY_ELSEWHERE, (0, 1): DeviceState.DRAINING})
    asked = problem(request(train_spec()), where=inventory(pool))
    made = plan(asked)
    assert_sound(asked, made)
    assert {d.index for d in made.assignments[0].placement.devices} <= {2, 3}


@pytest.mark.parametrize(
    ("fields", "reason", "change"),
    [
        ({"limits": Limits(max_cost_usd=1e-6)}, RejectionReason.OVER_COST, "limits.max_cost of"),
        ({"limits": Limits(max_hours=1e-6)}, RejectionReason.OVER_TIME, "limits.max_hours of"),
        ({"limits": Limits(max_usd_per_hour=0.01)}, RejectionReason.OVER_RATE, "limits.max_usd_per_hour of 0.10 instead of 0.01"),
        ({"deadline_hours": 1e-6}, RejectionReason.MISSES_DEADLINE, "deadline_hours of"),
        ({"strategy": StrategyRequest(tp=4)}, RejectionReason.ILLEGAL, "leave strategy to the planner"),
        (
            {"model": tiny_model(num_layers=2), "devices": DeviceRequest(min_devices=3, max_devices=3)},
            RejectionReason.ILLEGAL,
            "2 devices of local-cpu",
        ),
        (
            {"devices": DeviceRequest(min_devices=9)},
            RejectionReason.NO_CAPACITY,
            "devices: 4 instead of 9, or 5 more free devices",
        ),
        ({"devices": DeviceRequest(types=("H100",))}, RejectionReason.NOT_REQUESTED, "leave devices.types open"),
        ({"train": workload(source_length=8)}, RejectionReason.ILLEGAL, ""),
    ],
)
def test_what_cannot_run_says_why_and_what_would_do(fields: dict[str, object], reason: RejectionReason, change: str) -> None:
    asked = problem(request(train_spec(**fields)))
    made = plan(asked)
    assert_sound(asked, made)
    assert made.assignments == ()
    assert made.solve.status is SolveStatus.INFEASIBLE
    assert made.unplaced[0].reason is reason
    assert change in made.unplaced[0].smallest_change


def test_the_changed_limit_really_lets_it_run() -> None:
    asked = problem(request(train_spec(limits=Limits(max_usd_per_hour=0.01))))
    assert "0.10" in plan(asked).unplaced[0].smallest_change
    assert plan(problem(request(train_spec(limits=Limits(max_usd_per_hour=0.10))))).assignments


def test_too_big_for_the_memory_names_the_devices_that_would_do() -> None:
    where = inventory(h100_pool(num_nodes=1), offers=(offer(h100_pool(num_nodes=1), price=2.0),))
    asked = problem(request(llama_spec(devices=DeviceRequest(max_devices=1))), where=where)
    made = plan(asked)
    assert made.unplaced[0].reason is RejectionReason.DOES_NOT_FIT
    assert "of 80.00 on a H100-SXM5-80GB" in made.unplaced[0].detail
    number = int(made.unplaced[0].smallest_change.split(" ")[0])
    bigger = plan(problem(request(llama_spec(devices=DeviceRequest(min_devices=number, max_devices=number))), where=where))
    assert len(bigger.assignments) == 1
    smaller = DeviceRequest(min_devices=number - 1, max_devices=number - 1)
    assert not plan(problem(request(llama_spec(devices=smaller)), where=where)).assignments


def test_old_prices_and_few_steps_are_warned_about() -> None:
    pool = cpu_pool()
    old = inventory(pool, offers=(offer(pool, retrieved_on="2026-08-01"),))
    made = plan(problem(request(train_spec(train=workload(num_steps=5), strategy=StrategyRequest(dp=4))), where=old))
    assert any("115 days old" in warning for warning in made.warnings)
    assumed = inventory(pool, offers=(offer(pool, source="assumed: 0.04 USD", retrieved_on="2020-01-01"),))
    found = plan(problem(request(train_spec()), where=assumed)).warnings
    assert [warning for warning in found if "price" in warning] == [f"offer {pool.id}/on-demand: its price is assumed: 0.04 USD"]
    assert any("5 steps over 4 data ranks" in warning for warning in made.warnings)
    assert plan(problem(request(train_spec(strategy=StrategyRequest(dp=1, fsdp=1))))).warnings == ()


def test_offers_with_their_own_capacity() -> None:
    pool = h100_pool(num_nodes=2)
    where = inventory(
        pool,
        offers=(
            offer(pool, price=5.0, nodes_now=1),
            offer(pool, price=1.0, market=Market.SPOT, nodes_now=1, interruptions_per_hour=0.01),
        ),
    )
    units = [request(command_spec(least=8, optimize=Optimize.COST), number) for number in range(2)]
    asked = problem(*units, where=where)
    made = plan(asked)
    assert_sound(asked, made)
    assert sorted(a.candidate.offer_id for a in made.assignments) == ["h100/on-demand", "h100/spot"]
    assert plan(problem(units[0], where=where)).assignments[0].candidate.offer_id == "h100/spot"


def test_nodes_that_could_be_had_take_their_start_up_time() -> None:
    pool = h100_pool(num_nodes=1)
    now = inventory(pool, offers=(offer(pool, price=1.0),))
    later = inventory(pool, offers=(offer(pool, price=1.0, nodes_now=0, nodes_possible=1, startup_s=600.0),))
    times = [plan(problem(request(llama_spec()), where=where)).assignments[0].candidate.total_s.value for where in (now, later)]
    assert times[1] - times[0] == pytest.approx(600.0)


def test_an_offer_without_nodes_gives_nothing() -> None:
    pool = h100_pool(num_nodes=1)
    made = plan(problem(request(llama_spec()), where=inventory(pool, offers=(offer(pool, nodes_now=0),))))
    assert made.unplaced[0].reason is RejectionReason.NO_CAPACITY
    assert "lists no nodes" in made.unplaced[0].detail


def test_times_and_expiry() -> None:
    made = plan(problem(request(command_spec()), expires_after_s=60.0))
    assert made.made_at == NOW
    assert (made.expires_at - made.made_at).total_seconds() == 60.0


def test_an_empty_problem_has_an_empty_plan() -> None:
    asked = problem()
    made = plan(asked)
    assert_sound(asked, made)
    assert made.assignments == made.unplaced == ()


def test_without_a_solver_the_greedy_plan_stands() -> None:
    asked = problem(*(request(command_spec(least=1, most=2), number) for number in range(3)))
    made = plan(asked, backends=())
    assert_sound(asked, made)
    assert made.solve.solver == "greedy"
    assert made.solve.status is SolveStatus.ERROR
    assert math.isinf(made.solve.gap_frac)
    assert len(made.assignments) == 3


def test_placement_conflicts_are_cut_and_solved_again() -> None:
    # Two nodes of four: counts allow 3 + 3 + 2 devices, nodes do not.
    asked = problem(
        *(request(command_spec(least=size), number) for number, size in enumerate((3, 3, 2))),
        where=inventory(cpu_pool(num_nodes=2)),
    )
    made = plan(asked)
    assert_sound(asked, made)
    assert len(made.assignments) == 2
    assert made.solve.status is SolveStatus.OPTIMAL


def test_estimate_lists_candidates_that_fit_first() -> None:
    found = estimate(llama_spec(), inventory(h100_pool()))
    assert found
    fits = [c.fit is FitVerdict.FITS for c in found]
    assert fits == sorted(fits, reverse=True)
    assert all(c.memory for c in found)
    assert estimate(train_spec(model=tiny_model(), train=workload(source_length=4)), inventory()) == ()
