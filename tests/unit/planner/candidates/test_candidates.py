"""Shapes, memory verdicts, limits, pruning and what a candidate is made of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.candidates import Scored, prune, requests_type, shares, survey_shape, usable_shapes, verdict
from planner.candidates.generate import Generator, run_time
from planner.candidates.memory import predict_memory
from planner.candidates.shapes import node_counts
from planner.costs import DeviceContext
from planner.placement import pool_slots
from planner.strategies import Question, strategy_space
from tests.support.planning import (
    CPU_TYPE,
    LLAMA_8B,
    cpu_pool,
    h100_pool,
    inventory,
    llama_spec,
    offer,
    problem,
    request,
    tiny_model,
    tiny_translator,
    train_spec,
    workload,
)
from trimtab.estimate import Estimate, Origin
from trimtab.ids import OfferId, PoolId, UnitId
from trimtab.inventory import DeviceState, Inventory, Pool, Shape
from trimtab.jobspec import DeviceRequest, JobSpec, Limits
from trimtab.model import ModelSpec
from trimtab.plan import Candidate, FitVerdict, PlanRequest, RankMemory, RejectionReason
from trimtab.strategy import PipelineSchedule, Recompute
from trimtab.workload import TrainWorkload

GIB = 1024**3
TWINS = ("same-bubble-more-memory", "recompute-not-needed")


def number(value: float, spread: float = 0.0) -> Estimate:
    return Estimate.within(value, spread, origin=Origin.ASSUMED)


def shapes(pool: Pool, **wanted: object) -> list[tuple[int, int]]:
    made = pool_slots(problem(where=inventory(pool)))[pool.id]
    found = usable_shapes(made, offer(pool), DeviceRequest(**wanted))  # type: ignore[arg-type]
    return [(shape.num_nodes, shape.devices_per_node) for shape in found]


def test_shapes_of_a_node_and_of_whole_nodes() -> None:
    assert shapes(cpu_pool(num_nodes=3)) == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 4), (3, 4)]
    assert shapes(cpu_pool(num_nodes=3), min_devices=3, max_devices=8) == [(1, 3), (1, 4), (2, 4)]
    assert shapes(cpu_pool(num_nodes=3), min_devices=13) == []


def test_shapes_where_nodes_are_partly_taken() -> None:
    states = {(n, 3): DeviceState.BUSY_ELSEWHERE for n in range(3)}
    assert shapes(cpu_pool(num_nodes=3, states=states), min_devices=4) == [(2, 2), (3, 2), (2, 3), (3, 3)]


def test_node_counts_grow_slowly_in_large_pools() -> None:
    assert node_counts(1) == ()
    assert node_counts(5) == (2, 3, 4, 5)
    assert node_counts(100) == (*range(2, 17), 24, 32, 48, 64, 96, 100)


@pytest.mark.parametrize(
    ("asked", "name", "good"),
    [
        ((), "anything", True),
        (("h100",), "H100-SXM5-80GB", True),
        (("H100-SXM",), "h100-sxm5-80gb", True),
        (("A100",), "A100-SXM4-80GB", False),
        (("L4",), "L40S-48GB", False),
        (("cpu-test",), "CPU-Test", True),
        (("cpu",), "cpu-test", False),
    ],
)
def test_requested_types_match_whole_names(asked: tuple[str, ...], name: str, good: bool) -> None:
    assert requests_type(DeviceRequest(types=asked), name) is good


@pytest.mark.parametrize(
    ("totals", "resident", "answer"),
    [
        (((8.0, 0.1),), 0.0, FitVerdict.FITS),
        (((9.0, 0.1),), 0.5, FitVerdict.TIGHT),
        (((10.5, 0.1),), 0.0, FitVerdict.TIGHT),
        (((10.5, 0.1),), 1.0, FitVerdict.DOES_NOT_FIT),
        (((5.0, 0.1), (12.0, 0.1)), 0.0, FitVerdict.DOES_NOT_FIT),
        (((5.0, 0.1), (10.0, 0.1)), 0.0, FitVerdict.TIGHT),
    ],
)
def test_memory_verdict_of_ten_gib(totals: tuple[tuple[float, float], ...], resident: float, answer: FitVerdict) -> None:
    memory = tuple(
        RankMemory(
            stage=stage,
            parameters_bytes=0,
            gradients_bytes=0,
            optimizer_bytes=0,
            activations_bytes=0,
            logits_bytes=0,
            communication_bytes=0,
            transient_bytes=0,
            total_bytes=number(total * GIB, spread),
            resident_bytes=resident * GIB,
        )
        for stage, (total, spread) in enumerate(totals)
    )
    assert verdict(memory, 10.0 * GIB) is answer


@pytest.mark.parametrize(
    ("model", "train", "pool", "k"),
    [
        (LLAMA_8B, llama_spec().train, h100_pool(), 8),
        (tiny_model(num_layers=6, vocab_size=60_000), workload(sequence_length=2048, global_batch=256), cpu_pool(), 4),
        (tiny_translator(), workload(sequence_length=2048, source_length=2048, global_batch=512), cpu_pool(), 4),
    ],
)
def test_what_is_left_out_by_memory_really_does_not_fit(model: ModelSpec, train: TrainWorkload, pool: Pool, k: int) -> None:
    """The survey skips larger micro-batches after one that does not fit; computing every one gives the same verdicts."""
    made = inventory(pool)
    context = DeviceContext(device_type=made.device_types[0], pool=pool, shape=Shape(num_nodes=1, devices_per_node=k))
    asked = Question(model=model, train=train, device_type=context.device_type, shape=context.shape)
    surveyed = survey_shape(asked, context)
    kept = {item.strategy for item in surveyed.fitting}
    named = {entry.rule: entry.count for entry in surveyed.dropped}
    legal = strategy_space(asked).legal
    capacity = float(context.device_type.memory_bytes)
    fits = {
        s: verdict(predict_memory(model=model, train=train, strategy=s, context=context), capacity) is not FitVerdict.DOES_NOT_FIT
        for s in legal
    }
    assert named.get("device-memory", 0) > 0
    assert all(fits[s] for s in kept)
    for strategy in legal:
        if fits[strategy] and strategy not in kept:
            gpipe = strategy.schedule is PipelineSchedule.GPIPE and strategy.num_micro_batches >= strategy.pp
            assert gpipe or fits[replace(strategy, recompute=Recompute.NONE)], strategy.label()
    assert len(kept) + sum(named.get(rule, 0) for rule in ("device-memory", *TWINS)) == len(legal)


@pytest.mark.parametrize(
    ("sizes", "total", "least", "given"),
    [
        ([5, 50, 500], 100, 1, (5, 47, 48)),
        ([5, 5], 100, 1, (5, 5)),
        ([90, 90, 90], 30, 16, (16, 16, 16)),
        ([], 10, 1, ()),
        ([0, 7], 6, 2, (0, 6)),
    ],
)
def test_shares_of_the_predictions(sizes: list[int], total: int, least: int, given: tuple[int, ...]) -> None:
    assert shares(sizes, total, least) == given


def generate(spec: JobSpec, where: Inventory | None = None, **fields: object) -> tuple[tuple[Scored, ...], tuple[Scored, ...]]:
    made = where or inventory()
    asked: PlanRequest = request(spec, **fields)
    found = Generator(made, (), pool_slots(problem(asked, where=made))).candidates(asked)
    return found.feasible, found.over_limit


def test_cost_is_price_times_time_and_time_is_steps_and_the_rest() -> None:
    feasible, _ = generate(train_spec())
    assert feasible
    for entry in feasible:
        c = entry.candidate
        assert c.price_usd_per_hour == pytest.approx(0.10 * c.shape.num_devices)
        assert c.cost_usd.value == pytest.approx(c.price_usd_per_hour * c.total_s.value / 3600)
        assert c.total_s.value >= 100 * c.step_s.value
        assert c.total_s.low <= c.total_s.value <= c.total_s.high


def test_time_of_a_run() -> None:
    total = run_time(number(2.0, 0.5), 10, fixed=number(5.0, 0.2), startup_s=30.0)
    assert (total.value, total.low, total.high) == (55.0, 44.0, 66.0)


@pytest.mark.parametrize(
    ("limits", "deadline", "waited", "reason"),
    [
        (Limits(max_usd_per_hour=0.15), None, 0.0, RejectionReason.OVER_RATE),
        (Limits(max_cost_usd=1e-9), None, 0.0, RejectionReason.OVER_COST),
        (Limits(max_hours=1e-9), None, 0.0, RejectionReason.OVER_TIME),
        (Limits(), 100.0, 360_001.0, RejectionReason.MISSES_DEADLINE),
    ],
)
def test_limits_are_typed_and_carry_numbers(
    limits: Limits, deadline: float | None, waited: float, reason: RejectionReason
) -> None:
    _, over = generate(train_spec(limits=limits, deadline_hours=deadline), waiting_s=waited)
    assert over
    for entry in over:
        violation = entry.violations[0]
        assert violation.reason is reason
        assert violation.needed > violation.limit
        assert violation.ratio > 1
        assert any(character.isdigit() for character in violation.sentence)


def test_equal_work_is_predicted_once() -> None:
    made = inventory()
    first, second = request(train_spec("a"), 0), request(train_spec("b"), 1)
    generator = Generator(made, (), pool_slots(problem(first, second, where=made)))
    left, right = generator.candidates(first), generator.candidates(second)
    assert [e.candidate.step_s for e in left.feasible] == [e.candidate.step_s for e in right.feasible]
    assert {e.candidate.unit_id for e in right.feasible} == {"job_1.u0"}
    assert all(a.candidate.memory is b.candidate.memory for a, b in zip(left.feasible, right.feasible, strict=True))


def scored(name: str, devices: int, hours: float, headroom: float = 0.5, offer_id: str = "o") -> Scored:
    time = number(hours * 3600)
    candidate = Candidate(
        unit_id=UnitId(name),
        offer_id=OfferId(offer_id),
        pool_id=PoolId("p"),
        shape=Shape(num_nodes=1, devices_per_node=devices),
        strategy=None,
        step_s=time,
        total_s=time,
        cost_usd=number(devices * hours),
        price_usd_per_hour=float(devices),
    )
    return Scored(candidate=candidate, headroom_frac=headroom, overflow_frac=0.0, constants=())


def cost(entry: Scored) -> float:
    return entry.candidate.cost_usd.value


def test_pruning_keeps_the_front_and_names_who_wins() -> None:
    best, slower, roomy, elsewhere = (
        scored("a", 2, 1.0),
        scored("b", 2, 2.0),
        scored("c", 2, 2.0, 0.9),
        scored("d", 4, 9.0, offer_id="x"),
    )
    made = prune([slower, best, roomy, elsewhere], objective=cost)
    assert made.kept == (best, roomy, elsewhere)
    assert made.dominated == ((slower, best),)


def test_the_current_configuration_and_the_extremes_are_kept() -> None:
    best, current = scored("a", 2, 1.0), scored("b", 2, 2.0)
    made = prune([best, current], objective=cost, keep=lambda entry: entry is current)
    assert made.kept == (best, current)
    fast, cheap = scored("a", 8, 1.0), scored("b", 1, 3.0)
    assert prune([fast, cheap, scored("c", 8, 4.0)], objective=cost).kept == (fast, cheap)


def test_pruning_never_loses_the_best_of_any_dimension() -> None:
    entries = [scored(f"u{i}", 1 + i % 5, 1.0 + (i * 37 % 11), (i * 7 % 10) / 10) for i in range(60)]
    kept = prune(entries, objective=cost).kept
    for entry in entries:
        assert any(
            other.candidate.shape.num_devices <= entry.candidate.shape.num_devices
            and other.candidate.total_s.value <= entry.candidate.total_s.value
            and other.candidate.cost_usd.value <= entry.candidate.cost_usd.value
            and int(other.headroom_frac * 10) >= int(entry.headroom_frac * 10)
            for other in kept
        )


def test_probes_of_the_device_type_are_used() -> None:
    generator = Generator(inventory(), (), pool_slots(problem()))
    context = generator.context(cpu_pool(), Shape(num_nodes=1, devices_per_node=2))
    assert context.device_type is CPU_TYPE
    assert context.probe is None
    assert replace(context).framework == "trimtab"
