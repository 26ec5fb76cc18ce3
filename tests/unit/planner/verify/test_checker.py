"""The checker accepts good plans and names every fault of mutants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from planner.api import plan
from planner.verify import check_plan
from tests.support.planning import command_spec, cpu_pool, devices, inventory, problem, request, train_spec, workload
from trimtab.estimate import Estimate, Origin
from trimtab.ids import OfferId, UnitId
from trimtab.inventory import DeviceState, Shape
from trimtab.jobspec import DeviceRequest, Limits, StrategyRequest
from trimtab.plan import Assignment, FitVerdict, Plan, PlanningProblem, SolveStatus, Unplaced
from trimtab.strategy import Precision

STATES = {(1, 1): DeviceState.ASSIGNED, (1, 2): DeviceState.ASSIGNED} | {(1, i): DeviceState.BUSY_ELSEWHERE for i in (3, 4, 5)}
POOL = cpu_pool(num_nodes=2, per_node=6, states=STATES)
FIXED = request(command_spec("keeps"), 2, held=devices(POOL, (1, 2)), fixed=True)
TRAIN = request(
    train_spec(
        devices=DeviceRequest(min_devices=4, max_devices=4),
        limits=Limits(max_usd_per_hour=1.0, max_hours=50.0, max_cost_usd=10.0),
    ),
    1,
)
COMMAND = request(command_spec(least=2), 3)
PROBLEM = problem(TRAIN, FIXED, COMMAND, where=inventory(POOL))


@pytest.fixture(scope="module")
def good() -> Plan:
    made = plan(PROBLEM)
    assert len(made.assignments) == 3
    return made


def assignment(made: Plan, number: int) -> Assignment:
    found = made.assignment(UnitId(f"job_{number}.u0"))
    assert found is not None
    return found


def changed(made: Plan, number: int, change: Callable[[Assignment], Assignment]) -> Plan:
    name = f"job_{number}.u0"
    return replace(made, assignments=tuple(change(a) if a.unit_id == name else a for a in made.assignments))


def candidate(**fields: object) -> Callable[[Assignment], Assignment]:
    return lambda a: replace(a, candidate=replace(a.candidate, **fields))  # type: ignore[arg-type]


def strategy(**fields: object) -> Callable[[Assignment], Assignment]:
    def change(a: Assignment) -> Assignment:
        assert a.candidate.strategy is not None
        return replace(a, candidate=replace(a.candidate, strategy=replace(a.candidate.strategy, **fields)))  # type: ignore[arg-type]

    return change


def placed(*places: tuple[int, int]) -> Callable[[Assignment], Assignment]:
    return lambda a: replace(a, placement=replace(a.placement, devices=devices(POOL, *places)))


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value, origin=Origin.ASSUMED)


MUTANTS: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "two units on one device": (lambda p: changed(p, 3, lambda a: replace(a, placement=assignment(p, 1).placement)), "given to"),
    "a device that is not there": (lambda p: changed(p, 3, placed((0, 0), (0, 9))), "has no device"),
    "a busy device": (lambda p: changed(p, 3, placed((1, 0), (1, 3))), "busy-elsewhere"),
    "an assigned device of a stranger": (lambda p: changed(p, 3, placed((1, 0), (1, 1))), "assigned"),
    "devices of a fixed unit": (lambda p: changed(p, 3, placed((1, 0), (1, 2))), "keeps its devices"),
    "a fixed unit moved": (lambda p: changed(p, 2, placed((1, 0))), "keeps its devices"),
    "too few devices": (lambda p: changed(p, 1, placed((0, 0))), "1 devices for a shape of 4"),
    "scattered devices": (lambda p: changed(p, 1, placed((0, 0), (0, 1), (0, 2), (1, 0))), "devices per node"),
    "other world size": (
        lambda p: changed(p, 1, strategy(sequence_parallel=False, dp=8, fsdp=1, zero_stage=0, tp=1, pp=1, stage_layers=())),
        "8 ranks on 4 devices",
    ),
    "other global batch": (lambda p: changed(p, 1, strategy(micro_batch=7)), "samples per step"),
    "other precision": (lambda p: changed(p, 1, strategy(precision=Precision.BF16)), "precision"),
    "no strategy": (lambda p: changed(p, 1, candidate(strategy=None)), "without a strategy"),
    "wrong price": (lambda p: changed(p, 1, candidate(price_usd_per_hour=0.01)), "the offer's price comes to"),
    "wrong cost": (lambda p: changed(p, 1, candidate(cost_usd=estimate(99.0))), "price times time"),
    "does not fit": (lambda p: changed(p, 1, candidate(fit=FitVerdict.DOES_NOT_FIT)), "does not fit"),
    "over hours": (
        lambda p: changed(p, 1, candidate(total_s=estimate(1e6), cost_usd=estimate(0.2e6 / 3600))),
        "h is over the limit",
    ),
    "unknown offer": (lambda p: changed(p, 1, candidate(offer_id=OfferId("no/offer"))), "is not one of pool"),
    "someone else's candidate": (lambda p: changed(p, 1, candidate(unit_id=UnitId("x"))), "its candidate is that of x"),
    "another shape": (lambda p: changed(p, 1, candidate(shape=Shape(num_nodes=2, devices_per_node=1))), "the shape is 2 x 1"),
    "forgotten unit": (lambda p: replace(p, assignments=p.assignments[1:]), "neither placed nor left out"),
    "unit of nobody": (
        lambda p: replace(p, unplaced=(Unplaced(unit_id=UnitId("x"), reason=p.rejections[0].reason, detail="d"),)),
        "nobody asked",
    ),
    "answered twice": (lambda p: replace(p, assignments=(*p.assignments, p.assignments[0])), "answered 2 times"),
    "other version": (lambda p: replace(p, basis_version=9), "made from version 9"),
    "expired at birth": (lambda p: replace(p, expires_at=p.made_at), "expires"),
    "parts do not add up": (lambda p: replace(p, objective=p.objective[1:]), "its parts come to"),
    "bound above objective": (lambda p: replace(p, solve=replace(p.solve, bound_usd_per_hour=1e9)), "above the objective"),
    "optimal with a gap": (
        lambda p: replace(p, solve=replace(p.solve, status=SolveStatus.OPTIMAL, gap_frac=0.1)),
        "called optimal",
    ),
}


def test_a_good_plan_has_no_fault(good: Plan) -> None:
    assert check_plan(PROBLEM, good) == ()


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_is_refused(good: Plan, name: str) -> None:
    mutate, words = MUTANTS[name]
    faults = check_plan(PROBLEM, mutate(good))
    assert any(words in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (train_spec(strategy=StrategyRequest(dp=16)), "asked for 16"),
        (train_spec(devices=DeviceRequest(min_devices=5)), "asked for 5"),
        (train_spec(devices=DeviceRequest(max_devices=1)), "asked for 1 to 1"),
        (train_spec(limits=Limits(max_usd_per_hour=0.01)), "per hour is over the limit"),
        (train_spec(limits=Limits(max_cost_usd=1e-9)), "is over the limit of $1e-09"),
        (train_spec(deadline_hours=1e-9), "the deadline is"),
        (train_spec(train=workload(global_batch=32)), "the global batch is 32"),
    ],
)
def test_a_plan_for_another_wish_is_refused(good: Plan, spec: object, words: str) -> None:
    other: PlanningProblem = replace(PROBLEM, requests=(replace(TRAIN, spec=spec), FIXED, COMMAND))
    assert any(words in fault for fault in check_plan(other, good))
