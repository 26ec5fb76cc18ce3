"""Plans on unlike devices: the best of all splits of a small world, within memory, and never worse than one type alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from planner.candidates.mixed_plan import MixedJob, MixedKind, MixedPlan, NodeSet
from planner.candidates.mixed_search import search_mixed
from planner.candidates.search import Place, job_of, search_grid
from planner.devices.catalogue import catalogue
from planner.strategies import Question, StrategyTable, framework
from planner.training.mixed import MixedStage, mixed_step, stage_bytes, unlike_replicas_step
from planner.training.places import place_arrays
from planner.training.profiles import profile_of
from planner.training.step import Question as CostQuestion
from planner.training.verdict import USABLE_FRAC
from tests.support.planning import LLAMA_8B, workload
from tests.unit.planner.candidates.test_mixed_split import compositions
from trimtab.inventory import Shape
from trimtab.model import ModelSpec
from trimtab.plan import FitVerdict
from trimtab.strategy import Precision, Recompute, Strategy

TRAIN = replace(workload(), sequence_length=2048, global_batch=4, precision=Precision.BF16)
ALL = 1_000_000


def shortened(num_layers: int) -> ModelSpec:
    return replace(LLAMA_8B, stacks=(replace(LLAMA_8B.stacks[0], num_layers=num_layers),))


def job(model: ModelSpec, *groups: tuple[str, int, int]) -> MixedJob:
    return MixedJob(
        model=model,
        train=TRAIN,
        framework=framework("megatron"),
        profile=profile_of("megatron-bridge"),
        groups=tuple(
            NodeSet(device_type=catalogue()[name], num_nodes=nodes, devices_per_node=devices) for name, nodes, devices in groups
        ),
    )


SMALL = job(shortened(4), ("H100-SXM5-80GB", 1, 2), ("A100-SXM4-40GB", 1, 2))
TIGHT = job(shortened(6), ("A100-SXM4-80GB", 1, 1), ("L4-24GB", 1, 2))
SHARED = replace(SMALL, train=replace(TRAIN, global_batch=16))
WORLDS = {"roomy": SMALL, "tight": TIGHT}


def place(asked: MixedJob, group: NodeSet) -> Place:
    arrays = place_arrays(group.device_type, devices_per_node=group.devices_per_node)
    return Place(arrays=arrays, device_type=str(group.device_type.name), profile=asked.profile)


def question(asked: MixedJob, group: NodeSet) -> Question:
    return Question(
        model=asked.model,
        train=asked.train,
        device_type=group.device_type,
        shape=Shape(num_nodes=group.num_nodes, devices_per_node=group.devices_per_node),
        framework=asked.framework,
    )


def stage(asked: MixedJob, group: NodeSet, strategy: Strategy, layers: int) -> CostQuestion:
    cost = place(asked, group).asked(job_of(question(asked, group)), StrategyTable.of([strategy]))
    return replace(cost, stage_layers=np.array([float(layers)]))


def slow(asked: MixedJob, group: NodeSet) -> float:
    nodes = sum(entry.num_nodes for entry in asked.groups)
    return 1.0 + place(asked, group).constants.shared["straggler"] * float(np.log2(nodes))


def choices(asked: MixedJob) -> Iterator[tuple[tuple[NodeSet, ...], list[tuple[Strategy, int]]]]:
    """Every pipeline of two groups: their order, and strategy and stages of each."""
    batch = asked.train.global_batch
    for order in permutations(asked.groups):
        for data in (1, 2, 4):
            sizes = [[tp for tp in (1, 2, 4) if group.num_devices % (tp * data) == 0] for group in order]
            for tps, micro, recompute, zero in product(product(*sizes), (1, 2, 4), Recompute, (0, 1)):
                if batch % (data * micro) or (zero and data == 1):
                    continue
                counts = [group.num_devices // (tp * data) for group, tp in zip(order, tps, strict=True)]
                strategies = [
                    Strategy(
                        dp=1 if zero else data,
                        fsdp=data if zero else 1,
                        zero_stage=zero,
                        tp=tp,
                        sequence_parallel=tp > 1,
                        pp=sum(counts),
                        micro_batch=micro,
                        num_micro_batches=batch // (data * micro),
                        recompute=recompute,
                        precision=asked.train.precision,
                    )
                    for tp in tps
                ]
                if strategies[0].num_micro_batches >= sum(counts) or asked.framework.few_micro_batches:
                    yield order, list(zip(strategies, counts, strict=True))


def brute_pipeline(asked: MixedJob) -> tuple[float, int]:
    """The fastest of all splits of all pipelines that fit, by ``mixed_step``; how many pipelines there are."""
    num_layers, best, count = asked.model.stacks[0].num_layers, np.inf, 0
    for order, halves in choices(asked):
        count += 1
        own = [(group, strategy) for group, (strategy, stages) in zip(order, halves, strict=True) for _ in range(stages)]
        if len(own) > num_layers:
            count -= 1
            continue
        costs = {
            (id(group), n): stage(asked, group, strategy, n)
            for group, (strategy, _) in zip(order, halves, strict=True)
            for n in range(1, num_layers + 1)
        }
        held = {
            (position, n): fits(asked, costs[id(own[position][0]), n], own, position)
            for position in range(len(own))
            for n in range(1, num_layers + 1)
        }
        for layers in compositions(num_layers, len(own)):
            if all(held[position, n] for position, n in enumerate(layers)):
                stages = [MixedStage(replicas=(costs[id(group), n],)) for (group, _), n in zip(own, layers, strict=True)]
                best = min(best, mixed_step(stages).step_s * slow(asked, order[0]))
    return best, count


def fits(asked: MixedJob, cost: CostQuestion, own: list[tuple[NodeSet, Strategy]], position: int) -> bool:
    group, strategy = own[position]
    flying = float(min(strategy.num_micro_batches, len(own) - position))
    first, last = position == 0, position == len(own) - 1
    held = stage_bytes(cost, is_first=np.array([float(first)]), is_last=np.array([float(last)]), flying=np.array([flying]))
    return bool(held[0] * (1.0 - asked.profile.memory_error_frac) <= group.device_type.memory_bytes * USABLE_FRAC)


@pytest.mark.parametrize("name", WORLDS)
def test_best_pipeline_is_the_best_of_all_splits(name: str) -> None:
    asked = WORLDS[name]
    expected, count = brute_pipeline(asked)
    found = search_mixed(asked, num_best=ALL, num_refined=ALL)
    best = next(plan for plan in found.best if plan.kind is MixedKind.PIPELINE)
    assert found.num_pipelines == count
    assert best.step_s.value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", WORLDS)
def test_bounds_lose_nothing(name: str) -> None:
    asked = WORLDS[name]
    full = search_mixed(asked, num_best=ALL, num_refined=ALL)
    found = search_mixed(asked, num_best=3, num_refined=ALL)
    assert found.is_exact
    assert found.num_refined < full.num_refined
    assert [plan.step_s.value for plan in found.best] == pytest.approx([plan.step_s.value for plan in full.best[:3]], rel=1e-12)


@pytest.mark.parametrize("name", WORLDS)
def test_plans_are_whole_and_fit(name: str) -> None:
    asked = WORLDS[name]
    num_layers = asked.model.stacks[0].num_layers
    by_name = {str(group.device_type.name): group for group in asked.groups}
    plans = [plan for plan in search_mixed(asked, num_best=ALL, num_refined=200).best if plan.stages]
    assert {plan.kind for plan in plans} == {MixedKind.PIPELINE, MixedKind.REPLICAS}
    for plan in plans:
        for number in {entry.pipeline for entry in plan.stages}:
            assert sum(entry.num_layers for entry in plan.stages if entry.pipeline == number) == num_layers
        assert sum(plan.samples) == asked.train.global_batch
        for device, group in by_name.items():
            used = sum(entry.num_replicas * entry.tp for entry in plan.stages if entry.device_type == device)
            assert used == group.num_devices
        for entry in plan.stages:
            assert entry.fit is not FitVerdict.DOES_NOT_FIT
            limit = by_name[entry.device_type].device_type.memory_bytes * USABLE_FRAC
            assert entry.memory_bytes * (1.0 - asked.profile.memory_error_frac) <= limit
        assert plan.step_s.low < plan.step_s.value < plan.step_s.high
        assert 0.0 <= plan.bubble_frac < 1.0


def test_less_memory_means_fewer_layers() -> None:
    found = search_mixed(TIGHT, num_best=ALL, num_refined=ALL)
    plans = [plan for plan in found.best if plan.kind is MixedKind.PIPELINE and len({e.tp for e in plan.stages}) == 1]
    most = {
        name: max(e.num_layers for plan in plans for e in plan.stages if e.device_type == name)
        for name in ("L4-24GB", "A100-SXM4-80GB")
    }
    assert most["L4-24GB"] < most["A100-SXM4-80GB"]


@pytest.mark.parametrize("asked", [SMALL, TIGHT, job(shortened(12), ("H100-SXM5-80GB", 2, 8), ("V100-SXM2-16GB", 1, 4))])
def test_never_worse_than_one_type_alone(asked: MixedJob) -> None:
    best = search_mixed(asked).best[0]
    for group in asked.groups:
        alone = search_grid(question(asked, group), place(asked, group), num_kept=1)
        assert alone is None or best.step_s.value <= float(alone.evaluated.time.step_s[0])


def shares_step_s(plan: MixedPlan, asked: MixedJob, micro: tuple[int, ...]) -> float:
    """The step of a plan of unlike replicas with these micro-batches, without the exchange across."""
    by_name = {str(group.device_type.name): group for group in asked.groups}
    pipelines = []
    for number, count in enumerate(micro):
        own = [entry for entry in plan.stages if entry.pipeline == number]
        strategies = [
            Strategy(
                dp=1 if entry.zero_stage else entry.num_replicas,
                fsdp=entry.num_replicas if entry.zero_stage else 1,
                zero_stage=entry.zero_stage,
                tp=entry.tp,
                sequence_parallel=entry.tp > 1,
                pp=len(own),
                micro_batch=entry.micro_batch,
                num_micro_batches=count,
                recompute=entry.recompute,
                precision=asked.train.precision,
            )
            for entry in own
        ]
        pipelines.append(
            [
                MixedStage(replicas=(stage(asked, by_name[entry.device_type], strategy, entry.num_layers),))
                for entry, strategy in zip(own, strategies, strict=True)
            ]
        )
    return unlike_replicas_step(pipelines).step_s * slow(asked, asked.groups[0])


def test_no_other_shares_end_earlier() -> None:
    found = search_mixed(SHARED, num_best=ALL, num_refined=60)
    plan = next(plan for plan in found.best if plan.kind is MixedKind.REPLICAS)
    first, second = (next(entry for entry in plan.stages if entry.pipeline == number) for number in (0, 1))
    own_s = shares_step_s(plan, SHARED, (first.num_micro_batches, second.num_micro_batches))
    assert own_s < plan.step_s.value, "gradients of unlike replicas are summed over the network"
    sizes = [entry.num_replicas * entry.micro_batch for entry in (first, second)]
    others = [
        shares_step_s(plan, SHARED, pair)
        for pair in product(range(1, 17), repeat=2)
        if pair[0] * sizes[0] + pair[1] * sizes[1] >= SHARED.train.global_batch
    ]
    assert own_s <= min(others) * (1.0 + 1e-9)
    assert plan.samples[0] > plan.samples[1]


def test_the_same_job_has_the_same_plans() -> None:
    assert search_mixed(SMALL) == search_mixed(SMALL)


def test_nothing_that_fits_is_no_plan() -> None:
    found = search_mixed(job(shortened(400), ("L4-24GB", 1, 1), ("V100-SXM2-16GB", 1, 1)))
    assert found.best == ()
    assert found.num_legal > 0
