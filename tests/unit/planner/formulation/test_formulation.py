"""Objective parts, weights, the master's rows and cuts, and the greedy plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.candidates import Generator
from planner.formulation import (
    Column,
    Cut,
    UnitColumns,
    build_master,
    column_parts,
    conflict_cut,
    greedy,
    offers_by_id,
    priority_steps,
    unit_columns,
    waiting_price,
)
from planner.placement import Conflict, pool_slots
from planner.solve import Sense
from tests.support.planning import command_spec, cpu_pool, devices, inventory, offer, problem, request, train_spec, with_priority
from trimtab.ids import PoolId, UnitId
from trimtab.inventory import DeviceState, Pool
from trimtab.jobspec import Optimize
from trimtab.plan import PlanningProblem, PlanRequest


def columns_of(asked: PlanningProblem) -> list[UnitColumns]:
    slots = pool_slots(asked)
    generator = Generator(asked.inventory, (), slots)
    steps = priority_steps(asked.requests)
    made = [unit_columns(generator.candidates(r), offers_by_id(asked.inventory.offers), steps) for r in asked.requests]
    return [unit for unit in made if unit is not None]


def parts(column: Column) -> dict[str, float]:
    return {part.name: part.usd_per_hour for part in column.parts}


def unit(spec: object, **fields: object) -> UnitColumns:
    return columns_of(problem(request(spec, **fields)))[0]  # type: ignore[arg-type]


def test_cost_and_time_of_a_training_column() -> None:
    made = unit(train_spec(optimize=Optimize.BALANCED))
    fastest = min(column.scored.candidate.total_s.value for column in made.columns) / 3600
    cheapest = min(made.columns, key=lambda column: column.scored.candidate.cost_usd.value).scored.candidate
    for column in made.columns:
        candidate = column.scored.candidate
        assert parts(column)["cost"] == pytest.approx(candidate.cost_usd.value / fastest)
        hours = candidate.total_s.value / 3600
        assert parts(column)["time"] == pytest.approx(max(0.05, cheapest.price_usd_per_hour) * hours / fastest)


@pytest.mark.parametrize(
    ("optimize", "money", "time"), [(Optimize.TIME, 0.01, 1.0), (Optimize.COST, 1.0, 0.01), (Optimize.DEADLINE, 1.0, 0.01)]
)
def test_what_is_asked_for_sets_the_weights(optimize: Optimize, money: float, time: float) -> None:
    asked, balanced = unit(train_spec(optimize=optimize)), unit(train_spec(optimize=Optimize.BALANCED))
    assert asked.scale.money_weight == money * balanced.scale.money_weight
    assert asked.scale.time_weight == time * balanced.scale.time_weight


def test_interruptions_and_memory_risk_are_shares_of_the_run() -> None:
    made = unit(train_spec())
    column = made.columns[0]
    pool = cpu_pool()
    risky = replace(column.scored, overflow_frac=0.25)
    found = column_parts(risky, made.scale, spec=train_spec(), offer=offer(pool, interruptions_per_hour=0.5))
    named = {part.name: part.usd_per_hour for part in found}
    base = named["cost"] + named["time"]
    assert named["memory risk"] == pytest.approx(0.25 * base)
    reading_s = risky.candidate.restart_read_s
    assert 0.0 < reading_s < 1.0
    assert named["interruptions"] == pytest.approx(0.5 * (30.0 + 60.0 + reading_s) / 3600 * base)


def test_leaving_out_costs_more_than_any_column_and_rises_with_priority_and_waiting() -> None:
    low = request(command_spec(), 0)
    high = request(with_priority(command_spec(), 3), 1)
    steps = priority_steps([low, high])
    assert waiting_price(low, 10.0, steps) == 20.0
    assert waiting_price(high, 10.0, steps) == 80.0
    waited = waiting_price(replace(low, waiting_s=1e9), 10.0, steps)
    held = waiting_price(replace(low, held=devices(cpu_pool(), (0, 0))), 10.0, steps)
    assert 20.0 < waited < held < 80.0


def test_many_priorities_share_a_bounded_range() -> None:
    requests = [request(with_priority(command_spec(), number * 100), number) for number in range(50)]
    steps = priority_steps(requests)
    ordered = [steps[number * 100] for number in range(50)]
    assert ordered == sorted(set(ordered))
    assert ordered[0] == 0
    assert ordered[-1] == pytest.approx(6.0)


def running(pool: Pool) -> PlanRequest:
    return request(command_spec(least=2), 0, held=devices(pool, (0, 1), (0, 3)))


def test_a_running_unit_has_a_column_that_stays_and_moving_costs_a_restart() -> None:
    pool = cpu_pool(states={(0, 1): DeviceState.ASSIGNED, (0, 3): DeviceState.ASSIGNED})
    made = columns_of(problem(running(pool), where=inventory(pool)))[0]
    stays = [column for column in made.columns if column.stays]
    moves = [column for column in made.columns if not column.stays]
    assert len(stays) == 1
    assert "restart" not in parts(stays[0])
    assert all(parts(column)["restart"] > 0 for column in moves)


def test_rows_of_the_master() -> None:
    asked = problem(
        request(command_spec(least=1, most=3), 0), request(command_spec(least=3), 1), where=inventory(cpu_pool(num_nodes=2))
    )
    units, slots = columns_of(asked), pool_slots(asked)
    master = build_master(units, slots, {"local-cpu/on-demand": 8})  # type: ignore[dict-item]
    rows = {row.name: row for row in master.model.rows}
    assert rows["one_of_u0"].sense is Sense.EQUAL
    assert rows["pool0"].limit == 8
    assert rows["offer0"].limit == 8
    assert rows["pool0_size2"].limit == 4
    assert rows["pool0_size3"].limit == 2
    picked = {0: 1, 1: 0}
    assert master.chosen_columns(master.encode(picked)) == picked
    assert master.model.broken_rows(master.encode(picked)) == ()
    assert master.model.broken_rows(frozenset()) == ("one_of_u0", "one_of_u1")


def test_a_cut_forbids_the_conflict_and_anything_that_needs_more() -> None:
    asked = problem(*(request(command_spec(least=1, most=3), number) for number in range(2)))
    units = columns_of(asked)
    sizes = [[sum(column.node_counts) for column in made.columns] for made in units]
    picked = {u: sizes[u].index(2) for u in range(2)}
    names = (UnitId("job_0.u0"), UnitId("job_1.u0"))
    cut = conflict_cut(Conflict(pool_id=PoolId("local-cpu"), unit_ids=names, proven=True), units, picked)
    assert cut.limit == 1
    for number, name in enumerate(names):
        assert {sizes[number][c] for c in cut.columns[name]} == {2, 3}
    unproven = conflict_cut(Conflict(pool_id=PoolId("local-cpu"), unit_ids=names, proven=False), units, picked)
    assert unproven == Cut(columns={name: (picked[number],) for number, name in enumerate(names)}, limit=1)
    master = build_master(units, pool_slots(asked), {"local-cpu/on-demand": 4}, cuts=[cut])  # type: ignore[dict-item]
    assert master.model.broken_rows(master.encode(picked)) == ("cut0",)


def test_greedy_places_as_many_as_it_can_and_then_gives_more() -> None:
    asked = problem(*(request(command_spec(least=1, most=2), number) for number in range(3)))
    units = columns_of(asked)
    picked = greedy(units, pool_slots(asked), {"local-cpu/on-demand": 4})  # type: ignore[dict-item]
    assert sorted(sum(units[u].columns[c].node_counts) for u, c in picked.items()) == [1, 1, 2]
    short = greedy(units, pool_slots(asked), {"local-cpu/on-demand": 2})  # type: ignore[dict-item]
    assert len(short) == 2
