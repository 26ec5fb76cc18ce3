"""A model of parts alone, as a tracer writes it: counted, and refused by its rule where nothing can train it yet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.api import estimate, plan
from planner.models.counts import layers_in_order, model_parameters, sample_flops
from planner.strategies.frameworks import TRIMTAB
from planner.strategies.rules import Case, all_broken
from planner.strategies.stages import stage_splits
from tests.support.planning import CPU_TYPE, cpu_pool, h100_pool, inventory, problem, request, train_spec, workload
from trimtab.builtin import beyond_builtin
from trimtab.inventory import Shape
from trimtab.jobspec import DeviceRequest, Limits, StrategyRequest
from trimtab.model import ModelFamily, ModelSpec, PartSpec, PositionKind
from trimtab.plan import RejectionReason
from trimtab.strategy import Strategy

PARTS = tuple(
    PartSpec(name=f"block{i}", num_parameters=1000 + i, flops_per_token=2.0, flops_per_sample=7.0, activations_per_token=1.0)
    for i in range(12)
)
MODEL = ModelSpec(
    name="parts",
    family=ModelFamily.CONVOLUTIONAL,
    hidden_size=64,
    vocab_size=0,
    stacks=(),
    position=PositionKind.NONE,
    max_positions=1,
    tied_embeddings=False,
    has_head=False,
    parts=PARTS,
)


def test_its_parts_are_counted() -> None:
    assert model_parameters(MODEL).total == sum(1000 + i for i in range(12))
    assert sample_flops(MODEL, sequence_length=10).forward == 12 * (2.0 * 10 + 7.0)
    assert layers_in_order(MODEL) == ()
    assert MODEL.num_layers == 0


@pytest.mark.parametrize("num_stages", [1, 2, 12])
def test_it_has_no_layers_to_cut(num_stages: int) -> None:
    assert stage_splits(MODEL, num_stages, sequence_length=10, source_length=0) == ()


@pytest.mark.parametrize(
    "strategy",
    [Strategy(), Strategy(dp=2, tp=2), Strategy(pp=4), Strategy(fsdp=4, zero_stage=3), Strategy(pp=2, stage_layers=(1, 1))],
)
def test_every_rule_can_be_asked(strategy: Strategy) -> None:
    case = Case(
        model=MODEL,
        train=workload(),
        strategy=strategy,
        device_type=CPU_TYPE,
        shape=Shape(num_nodes=1, devices_per_node=4),
        framework=TRIMTAB,
    )
    broken = all_broken(case)
    assert "framework-builds-model" in {rule.name for rule in broken}
    assert all(rule.sentence(case) for rule in broken)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"strategy": StrategyRequest(tp=2, pp=2)},
        {"strategy": StrategyRequest(dp=1, fsdp=2, micro_batch=1)},
        {"devices": DeviceRequest(min_devices=3, max_devices=64)},
        {"limits": Limits(max_cost_usd=0.01, max_hours=0.01)},
    ],
)
def test_nothing_trains_it_yet_and_the_rule_says_so(fields: dict[str, object]) -> None:
    spec = train_spec(model=MODEL, **fields)
    where = inventory(cpu_pool(), h100_pool())
    assert estimate(spec, where) == ()
    made = plan(problem(request(spec), where=where))
    assert made.assignments == ()
    assert made.unplaced[0].reason is RejectionReason.ILLEGAL
    assert made.unplaced[0].detail.startswith("framework-builds-model: the trimtab trainer does not build a model of family")
    assert {rejection.rule for rejection in made.rejections} >= {"framework-builds-model"}


def test_a_refusal_names_some_parts_and_counts_the_rest() -> None:
    said = beyond_builtin(MODEL)
    assert said[1] == "the parts block0, block1, block2, block3 and 8 more"
    assert beyond_builtin(replace(MODEL, parts=PARTS[:4]))[1] == "the parts block0, block1, block2, block3"
