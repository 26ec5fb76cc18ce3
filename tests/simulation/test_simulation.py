"""The control plane under seeded faults. ``python -m tests.simulation.run --seeds 10000`` plays more of them."""

from __future__ import annotations

import logging

import pytest

from scheduler.service.wiring import CRASH_POINTS
from tests.simulation.faults import Fault
from tests.simulation.mutants import MUTANTS, mutated
from tests.simulation.simulation import Simulation, run_seed
from tests.support.long import SEED, in_long_form

NUM_SEEDS = in_long_form(200, 10_000)
FIRST_SEED = in_long_form(0, SEED)
NUM_GROUPS = 8
SEEDS_TO_KILL = 120


@pytest.fixture(autouse=True)
def quiet() -> object:
    """The control plane tells the log of every simulated fault."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("group", range(NUM_GROUPS))
def test_nothing_breaks_under_faults(group: int) -> None:
    for seed in range(FIRST_SEED + group, FIRST_SEED + NUM_SEEDS, NUM_GROUPS):
        run_seed(seed)


def test_the_same_seed_gives_the_same_run() -> None:
    assert Simulation(11).run() == Simulation(11).run()
    assert Simulation(11).run() != Simulation(12).run()


def test_every_crash_point_and_every_fault_is_reached() -> None:
    crash_points: set[str] = set()
    faults: set[Fault] = set()
    for seed in range(60):
        done = run_seed(seed)
        crash_points |= done.crash_names
        faults |= set(done.dice.counts)
    assert crash_points == CRASH_POINTS
    assert faults == set(Fault)


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_guard_taken_out_is_noticed(name: str) -> None:
    with mutated(name):
        for seed in range(SEEDS_TO_KILL):
            try:
                run_seed(seed)
            except Exception:
                return
    pytest.fail(f"mutant {name} lived through {SEEDS_TO_KILL} seeds")
