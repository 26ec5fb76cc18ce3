"""Placement, optimisation and whole plans of small random worlds against brute force."""

from __future__ import annotations

import os
import random
from itertools import combinations, product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.api import plan
from planner.candidates.generate import Generator
from planner.formulation import UnitColumns, items, offers_by_id, priority_steps, unit_columns
from planner.optimise import Choice, objective_of, optimise
from planner.placement import Item, Packed, pack, pool_slots
from planner.solve import CbcBackend, HighsBackend
from planner.verify import check_plan
from tests.support.long import in_long_form
from tests.support.planning import (
    command_spec,
    cpu_pool,
    devices,
    inventory,
    offer,
    problem,
    request,
    train_spec,
    with_priority,
    workload,
)
from trimtab.ids import UnitId
from trimtab.inventory import DeviceState, Inventory, Market, Shape
from trimtab.job import DeviceRef
from trimtab.jobspec import DeviceRequest, Limits, Optimize
from trimtab.plan import PlanningProblem, SolveStatus

NUM_WORLDS = int(os.environ.get("TRIMTAB_PLANNER_WORLDS", "150"))
STATES = (DeviceState.FREE,) * 4 + (DeviceState.BUSY_ELSEWHERE, DeviceState.ASSIGNED)


def can_pack(free: list[int], wanted: list[tuple[int, int]]) -> bool:
    """Whether gangs of (nodes, devices on each) fit nodes with so many free devices, by trying every choice of nodes."""
    if not wanted:
        return True
    (num_nodes, size), rest = wanted[0], wanted[1:]
    for chosen in combinations(range(len(free)), num_nodes):
        if all(free[node] >= size for node in chosen):
            left = [count - (size if node in chosen else 0) for node, count in enumerate(free)]
            if can_pack(left, rest):
                return True
    return False


@given(
    free=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    wanted=st.lists(st.tuples(st.integers(1, 2), st.integers(1, 4)), min_size=1, max_size=5),
)
@settings(max_examples=in_long_form(300, 6_000), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_packing_finds_a_placement_exactly_where_there_is_one(free: list[int], wanted: list[tuple[int, int]]) -> None:
    busy = {(n, i): DeviceState.BUSY_ELSEWHERE for n, count in enumerate(free) for i in range(count, 5)}
    pool = cpu_pool(num_nodes=len(free), per_node=5, states=busy)
    slots = pool_slots(problem(where=inventory(pool)))
    gangs = [
        Item(unit_id=UnitId(f"u{index}"), pool_id=pool.id, shape=Shape(num_nodes=n, devices_per_node=k))
        for index, (n, k) in enumerate(wanted)
    ]
    packed = pack(slots, gangs)
    assert isinstance(packed, Packed) == can_pack(free, wanted)
    if isinstance(packed, Packed):
        taken = [device for group in packed.devices.values() for device in group]
        assert len(taken) == len(set(taken)) == sum(n * k for n, k in wanted)
        assert all(device.index < free[int(device.node_id.rsplit("-", 1)[1])] for device in taken)


def random_problem(rng: random.Random, *, train: bool) -> PlanningProblem:
    """One or two pools, up to four units, some running, some fixed, mixed priorities and wishes."""
    where, held = random_inventory(rng)
    requests = []
    for number in range(rng.randint(1, 4)):
        optimize = rng.choice(list(Optimize))
        priority = rng.choice([0, 0, 1, 7])
        if train and number == 0:
            wish = DeviceRequest(min_devices=rng.choice([1, 1, 2]), max_devices=rng.choice([None, 2, 4]))
            limits = Limits(max_usd_per_hour=rng.choice([None, 0.25]), max_cost_usd=rng.choice([None, 1e-4]))
            spec = train_spec(devices=wish, limits=limits, optimize=optimize, train=workload(global_batch=rng.choice([4, 6, 8])))
        else:
            least = rng.randint(1, 3)
            spec = command_spec(least=least, most=least + rng.choice([0, 0, 1, 2]), optimize=optimize)
        mine = held.pop() if held and spec.command is not None and rng.random() < 0.8 else ()
        requests.append(
            request(
                with_priority(spec, priority),
                number,
                held=mine,
                fixed=bool(mine) and rng.random() < 0.4,
                waiting_s=rng.choice([0.0, 600.0, 1e5]),
            )
        )
    return problem(*requests, where=where)


def random_inventory(rng: random.Random) -> tuple[Inventory, list[tuple[DeviceRef, ...]]]:
    pools, offers, held = [], [], []
    for name in ("left", "right")[: rng.randint(1, 2)]:
        num_nodes = rng.randint(1, 2)
        states = {(n, i): rng.choice(STATES) for n, i in product(range(num_nodes), range(3))}
        pool = cpu_pool(name, num_nodes=num_nodes, per_node=3, states=states)
        assigned = [place for place, state in states.items() if state is DeviceState.ASSIGNED and place[0] == 0]
        if assigned:
            held.append(devices(pool, *assigned))
        pools.append(pool)
        offers.append(offer(pool, price=rng.choice([0.0, 0.1, 0.5]), nodes_now=rng.randint(1, num_nodes)))
        if rng.random() < 0.3:
            offers.append(offer(pool, price=0.05, market=Market.SPOT, nodes_now=1, interruptions_per_hour=0.1))
    return inventory(*pools, offers=tuple(offers)), held


def brute_force(units: list[UnitColumns], made: PlanningProblem, limits: dict[str, int]) -> float:
    """The least objective over all choices that can be placed."""
    slots = pool_slots(made)
    best = float("inf")
    for choice in product(*([None, *range(len(unit.columns))] for unit in units)):
        picked = {u: c for u, c in enumerate(choice) if c is not None}
        value = objective_of(units, picked)
        if value >= best:
            continue
        used: dict[str, int] = {}
        for u, c in picked.items():
            candidate = units[u].columns[c].scored.candidate
            used[candidate.offer_id] = used.get(candidate.offer_id, 0) + candidate.shape.num_devices
        if all(count <= limits[name] for name, count in used.items()) and isinstance(pack(slots, items(units, picked)), Packed):
            best = value
    return best


def choose(made: PlanningProblem, backend: object) -> tuple[Choice, float]:
    slots = pool_slots(made)
    offers = offers_by_id(made.inventory.offers)
    generator = Generator(made.inventory, (), slots)
    steps = priority_steps(made.requests)
    found = [unit_columns(generator.candidates(r), offers, steps) for r in made.requests if not (r.fixed and r.held)]
    units = [unit for unit in found if unit is not None]
    limits = {o.id: max(o.nodes_now, o.nodes_possible) * 3 for o in made.inventory.offers}
    choice = optimise(units, slots, limits, time_limit_s=60.0, backends=[backend])  # type: ignore[list-item]
    return choice, brute_force(units, made, limits) if units else 0.0  # type: ignore[arg-type]


@pytest.mark.parametrize("part", range(6))
def test_the_choice_is_the_best_that_can_be_placed(part: int) -> None:
    for seed in range(part * NUM_WORLDS // 6, (part + 1) * NUM_WORLDS // 6):
        made = random_problem(random.Random(seed), train=False)
        backend = CbcBackend() if seed % 9 == 0 and CbcBackend().available() else HighsBackend()
        choice, best = choose(made, backend)
        assert choice.objective == pytest.approx(best, rel=1e-6, abs=1e-9), seed
        assert choice.bound <= best + 1e-6 * max(1.0, abs(best)), seed
        assert choice.status is SolveStatus.OPTIMAL, seed


@given(seed=st.integers(0, 10**9))
@settings(max_examples=in_long_form(40, 800), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_plan_passes_the_independent_check(seed: int) -> None:
    made = random_problem(random.Random(seed), train=True)
    answer = plan(made)
    assert check_plan(made, answer) == ()
    assert plan(made) == answer
    greedy = plan(made, backends=())
    assert check_plan(made, greedy) == ()
    assert greedy.solve.objective_usd_per_hour >= answer.solve.objective_usd_per_hour - 1e-9 * abs(
        answer.solve.objective_usd_per_hour
    )
