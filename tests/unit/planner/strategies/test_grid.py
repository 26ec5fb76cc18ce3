"""The enumeration in arrays against nested loops over every value, and what it says of what it refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from planner.devices.catalogue import catalogue, device_type
from planner.strategies import (
    ANY,
    FRAMEWORKS,
    RULES,
    Question,
    all_broken,
    device_key,
    divisors,
    enumerate_grid,
    framework,
    legal,
)
from planner.strategies.table import OFFLOADS, PRECISIONS, RECOMPUTES, SCHEDULES, StrategyTable
from planner.strategies.values import MIN_CONTEXT_TOKENS
from tests.support.planning import CPU_TYPE, tiny_model, workload
from tests.support.strategy_worlds import (
    B200,
    CONVOLUTIONS,
    DENSE,
    GB200,
    H100,
    LONG,
    NAMES,
    V4,
    V5E,
    WORLDS,
    as_rows,
    as_table,
    latent,
    moe,
    question,
)
from trimtab.jobspec import StrategyRequest
from trimtab.model import ExpertsSpec
from trimtab.strategy import PipelineSchedule, Precision, Recompute, Strategy


def every_value(asked: Question) -> dict[str, tuple[int, ...]]:
    """The values of each dimension, in the order of the loops; the rules are left to say what goes with what."""
    n, model, train = asked.shape.num_devices, asked.model, asked.train
    shortest = min(train.sequence_length, train.source_length or train.sequence_length)
    experts = [s.feed_forward for s in model.stacks if s.feed_forward.experts is not None]
    counts = {block.experts.num_experts for block in experts if block.experts is not None}
    return {
        "tp": divisors(n),
        "sequence_parallel": (0, 1),
        "cp": tuple(cp for cp in divisors(n) if cp == 1 or shortest // cp >= MIN_CONTEXT_TOKENS),
        "pp": divisors(n),
        "ep": divisors(counts.pop()) if counts else (1,),
        "etp": divisors(n) if experts else (1,),
        "schedule": tuple(range(len(SCHEDULES))),
        "virtual_stages": tuple(range(1, max(2, model.num_layers + 1))),
        "fsdp": divisors(n),
        "zero_stage": (0, 1, 2, 3),
        "recompute": tuple(range(len(RECOMPUTES))),
        "offload": tuple(range(len(OFFLOADS))),
        "precision": tuple(sorted(PRECISIONS.index(precision) for precision in asked.precisions)),
        "micro_batch": tuple(size for size in divisors(train.global_batch) if train.global_batch % 8 or size & (size - 1) == 0),
    }


def naive(asked: Question) -> np.ndarray:
    """Every combination of the values that breaks no rule, in the order of the loops; one row of columns for each."""
    values, n = every_value(asked), asked.shape.num_devices
    split = tuple(values)[:8]
    rest = tuple(values)[8:]
    found = []
    for outer in product(*(values[name] for name in split)):
        tp, _, cp, pp, ep, etp, _, v = outer
        if etp not in (1, tp) or n % (tp * cp * pp) or pp * v > max(1, asked.model.num_layers) or n // pp % (ep * etp):
            continue  # a value that is not tried, and three of the rules, or the loops would be too many
        ranks = n // (tp * cp * pp)
        rows = []
        for inner in product(*(values[name] for name in rest)):
            fsdp, zero_stage, micro_batch = inner[0], inner[1], inner[-1]
            samples = asked.train.global_batch // ranks
            if ranks % fsdp == 0 and (fsdp > 1) == (zero_stage > 0) and samples % micro_batch == 0 and samples:
                row = dict(zip((*split, *rest), (*outer, *inner), strict=True))
                rows.append([(row | {"dp": ranks // fsdp, "num_micro_batches": samples // micro_batch})[name] for name in NAMES])
        if rows:
            columns = np.array(rows, dtype=np.int64)
            found.append(columns[legal(asked.setting, as_table(columns))])
    return np.concatenate(found) if found else np.zeros((0, len(NAMES)), dtype=np.int64)


@pytest.mark.parametrize("name", WORLDS)
def test_the_grid_equals_nested_loops_in_the_same_order(name: str) -> None:
    grid = enumerate_grid(WORLDS[name])
    rows = as_rows(grid.table)
    np.testing.assert_array_equal(rows, naive(WORLDS[name]))
    assert len(np.unique(rows, axis=0)) == len(rows) == len(grid)


def test_the_worlds_hold_what_they_are_named_for() -> None:
    sizes = {name: len(enumerate_grid(asked)) for name, asked in WORLDS.items()}
    assert {name for name, size in sizes.items() if size == 0} == {"precision of no device", "no slice"}
    columns = {name: enumerate_grid(asked).table for name, asked in WORLDS.items()}
    assert columns["long, megatron"].cp.max() == 4
    assert columns["long, torchtitan"].virtual_stages.max() == 3
    assert columns["experts, megatron"].ep.max() == 4
    assert columns["experts, megatron"].etp.max() == 4
    assert columns["nodes in one domain"].tp.max() == 16
    assert set(columns["precisions"].precision) == {PRECISIONS.index(Precision.BF16), PRECISIONS.index(Precision.NVFP4)}
    assert set(columns["convolutions"].tp) == set(columns["convolutions"].pp) == {1}
    assert set(columns["one device"].world_size) == {1}


@pytest.mark.parametrize("name", WORLDS)
def test_one_row_is_judged_as_the_table_is(name: str) -> None:
    asked = WORLDS[name]
    rows = np.concatenate([as_rows(enumerate_grid(asked).table), as_rows(enumerate_grid(WORLDS["experts, megatron"]).table)])
    rows = rows[:: max(1, len(rows) // 40)]
    for row, answer in zip(range(len(rows)), legal(asked.setting, as_table(rows)), strict=True):
        assert (all_broken(asked.case(as_table(rows).strategy(row))) == ()) == bool(answer)


@pytest.mark.parametrize("name", WORLDS)
def test_each_refusal_counts_and_its_example_breaks_the_rule(name: str) -> None:
    grid = enumerate_grid(WORLDS[name])
    order = [rule.name for rule in RULES]
    names = [refusal.rule for refusal in grid.refusals]
    assert names == sorted(names, key=order.index)
    assert bool(len(grid)) or names
    for refusal in grid.refusals:
        assert refusal.count > 0
        assert refusal.strategy is not None
        assert len(refusal.sentence) > 20
        broken = {rule.name for rule in all_broken(WORLDS[name].case(refusal.strategy))}
        assert refusal.rule in broken or (WORLDS[name].framework is ANY and "one-framework-runs-all" in broken)


@pytest.mark.parametrize(
    "request_",
    [
        StrategyRequest(tp=2),
        StrategyRequest(pp=2, recompute=Recompute.FULL),
        StrategyRequest(dp=2),
        StrategyRequest(fsdp=4),
        StrategyRequest(micro_batch=2),
        StrategyRequest(tp=3),
    ],
)
def test_what_the_person_fixed_is_kept_and_nothing_else_is_lost(request_: StrategyRequest) -> None:
    asked = WORLDS["dense, four devices, megatron"]
    everything, fixed = enumerate_grid(asked).table, enumerate_grid(replace(asked, request=request_))
    wanted = np.ones(len(everything), dtype=np.bool_)
    for name in ("tp", "pp", "dp", "fsdp", "micro_batch"):
        if getattr(request_, name) is not None:
            wanted &= getattr(everything, name) == getattr(request_, name)
    if request_.recompute is not None:
        wanted &= everything.recompute == RECOMPUTES.index(request_.recompute)
    np.testing.assert_array_equal(as_rows(fixed.table), as_rows(everything.take(wanted)))
    assert bool(len(fixed)) == (request_.tp != 3)


def test_any_is_the_union_of_the_frameworks() -> None:
    asked = WORLDS["experts, any"]
    rows = {tuple(row) for row in as_rows(enumerate_grid(asked).table)}
    each = [{tuple(row) for row in as_rows(enumerate_grid(replace(asked, framework=member)).table)} for member in ANY.members]
    assert rows == set().union(*each)
    assert sum(bool(one) for one in each) >= 3


def published(on: str, by: str, shape: tuple[int, int], length: int, batch: int, **model: int) -> Question:
    """A question of a model with the heads, layers and feed-forward size of a published one."""
    base = tiny_model(num_layers=model["layers"], num_heads=model["heads"], num_kv_heads=model.get("kv_heads", model["heads"]))
    stack = replace(base.stacks[0], feed_forward=replace(base.stacks[0].feed_forward, hidden_size=model["columns"]))
    if "experts" in model:
        experts = ExpertsSpec(num_experts=model["experts"], top_k=8, shared_size=model["columns"])
        stack = replace(stack, feed_forward=replace(stack.feed_forward, experts=experts))
    return replace(
        question(replace(base, stacks=(stack,)), device_type(on), by, n=shape[0], k=shape[1], sequence_length=length),
        train=workload(sequence_length=length, global_batch=batch, precision=Precision.BF16),
    )


PUBLISHED = {
    "Llama 3 405B on 16,384 H100 (arXiv 2407.21783, table 4)": (
        published("H100", "torchtitan", (2048, 8), 8192, 2048, layers=126, heads=128, kv_heads=8, columns=53248),
        Strategy(
            tp=8, sequence_parallel=True, pp=16, fsdp=128, zero_stage=2, schedule=PipelineSchedule.INTERLEAVED, virtual_stages=4,
            micro_batch=1, num_micro_batches=16, precision=Precision.BF16,
        ),
    ),
    "530 billion on 2,520 A100 (arXiv 2104.04473, table 1)": (
        published("A100", "megatron", (315, 8), 2048, 2520, layers=105, heads=128, columns=81920),
        Strategy(
            tp=8, pp=35, dp=9, schedule=PipelineSchedule.INTERLEAVED, virtual_stages=3, micro_batch=1, num_micro_batches=280,
            recompute=Recompute.FULL, precision=Precision.BF16,
        ),
    ),
    "DeepSeek-V3 on 2,048 H800 (arXiv 2412.19437, 3.2)": (
        published("H100", "megatron", (256, 8), 4096, 15360, layers=61, heads=128, columns=2048, experts=256),
        Strategy(
            pp=16, fsdp=128, zero_stage=1, ep=64, micro_batch=1, num_micro_batches=120, recompute=Recompute.SELECTIVE,
            precision=Precision.BF16,
        ),
    ),
    "a full pod of v5e, fully sharded": (
        published("TPU-v5e", "maxtext", (32, 8), 2048, 2048, layers=32, heads=32, columns=11008),
        Strategy(fsdp=256, zero_stage=3, micro_batch=8, recompute=Recompute.FULL, precision=Precision.BF16),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_was_run_and_published_is_in_the_space(name: str) -> None:
    asked, strategy = PUBLISHED[name]
    assert all_broken(asked.case(strategy)) == ()
    (row,) = as_rows(StrategyTable.of([strategy]))
    assert any((as_rows(block) == row).all(axis=1).any() for block in enumerate_grid(asked).blocks())


def test_device_types_of_equal_keys_have_equal_strategies() -> None:
    found: dict[object, np.ndarray] = {}
    shared = 0
    for device in catalogue().values():
        for n, k in ((1, 1), (1, 4), (4, 4), (2, 8)):
            asked = question(DENSE, device, "any", n=n, k=k, precisions=(Precision.BF16, Precision.FP8), global_batch=2)
            key, rows = (n, k, device_key(asked)), as_rows(enumerate_grid(asked).table)
            shared += key in found
            np.testing.assert_array_equal(found.setdefault(key, rows), rows)
    assert shared > len(found)


QUESTIONS = some.builds(
    lambda model, on, by, nodes, per_node, batch, long: question(
        model, on, by, n=nodes, k=per_node, global_batch=batch, **(LONG if long else {})
    ),
    some.sampled_from([DENSE, moe(), latent(), CONVOLUTIONS, tiny_model(num_layers=7)]),
    some.sampled_from([H100, B200, GB200, V4, V5E, CPU_TYPE]),
    some.sampled_from(sorted(FRAMEWORKS)),
    some.sampled_from([1, 2, 3, 16, 100]),
    some.sampled_from([1, 2, 4, 6, 8]),
    some.sampled_from([1, 6, 64, 1536]),
    some.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(QUESTIONS)
def test_every_strategy_obeys_every_rule_and_the_same_question_has_the_same_answer(asked: Question) -> None:
    grid, again = enumerate_grid(asked), enumerate_grid(asked)
    for block in grid.blocks(num_rows=20_000):
        assert legal(asked.setting, block).all()
        assert (block.world_size == asked.shape.num_devices).all()
        break
    rows = as_rows(grid.table)
    assert rows.tobytes() == as_rows(again.table).tobytes()
    assert grid.refusals == again.refusals
    assert len(rows) == len(grid)


def test_schedules_have_the_virtual_stages_that_they_need() -> None:
    table = enumerate_grid(replace(WORLDS["long, any"], framework=framework("torchtitan"))).table
    codes = {schedule: SCHEDULES.index(schedule) for schedule in PipelineSchedule}
    assert (table.virtual_stages[table.schedule == codes[PipelineSchedule.ZERO_BUBBLE]] == 2).all()
    assert (table.virtual_stages[table.schedule == codes[PipelineSchedule.INTERLEAVED]] >= 2).all()
    assert set(table.schedule) == set(codes.values())
