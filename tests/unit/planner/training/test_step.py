"""The training cost model obeys physics: parts add up, more work takes longer, and a strategy's cost is its own."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from planner.devices.catalogue import catalogue
from planner.strategies.table import StrategyTable
from planner.training.constants import fitted_constants
from planner.training.evaluate import Evaluated, Job, evaluate
from planner.training.places import PlaceArrays, place_arrays
from planner.training.profiles import PROFILES, profile_of
from tests.support.planning import LLAMA_8B, tiny_translator
from trimtab.model import ExpertsSpec, FeedForwardSpec, LatentSpec, ModelSpec
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute, Strategy

H100 = "H100-SXM5-80GB"
BASE = Strategy(fsdp=8, zero_stage=3, tp=2, sequence_parallel=True, num_micro_batches=4, precision=Precision.BF16)


def place(name: str = H100, *, devices_per_node: int = 8) -> PlaceArrays:
    return place_arrays(catalogue()[name], devices_per_node=devices_per_node)


def costs(
    *strategies: Strategy,
    model: ModelSpec = LLAMA_8B,
    framework: str = "megatron",
    device: str = H100,
    sequence: int = 4096,
    source: int = 0,
    on: PlaceArrays | None = None,
) -> Evaluated:
    return evaluate(
        Job(model=model, sequence_length=sequence, source_length=source),
        StrategyTable.of(strategies),
        on or place(device),
        device_type=device,
        profile=profile_of(framework),
        constants=fitted_constants(),
    )


def experts(model: ModelSpec = LLAMA_8B) -> ModelSpec:
    block = FeedForwardSpec(hidden_size=1024, experts=ExpertsSpec(num_experts=64, top_k=4, shared_size=1024))
    return replace(model, stacks=(replace(model.stacks[0], feed_forward=block),))


STRATEGIES = (
    BASE,
    replace(BASE, recompute=Recompute.FULL),
    replace(BASE, pp=4, fsdp=2),
    replace(BASE, pp=4, fsdp=2, virtual_stages=2, schedule=PipelineSchedule.INTERLEAVED),
    replace(BASE, cp=2, fsdp=4),
    replace(BASE, dp=4, fsdp=2, zero_stage=1),
    replace(BASE, dp=8, fsdp=1, zero_stage=0),
    replace(BASE, precision=Precision.FP8),
)


@pytest.mark.parametrize("framework", PROFILES)
@pytest.mark.parametrize("model", [LLAMA_8B, experts()], ids=["dense", "experts"])
def test_parts_add_up_and_nothing_is_free(framework: str, model: ModelSpec) -> None:
    strategies = [replace(entry, ep=2) for entry in STRATEGIES] if model is not LLAMA_8B else list(STRATEGIES)
    found = costs(*strategies, model=model, framework=framework)
    parts = [getattr(found.time, field.name) for field in fields(found.time) if field.name != "step_s"]
    assert np.allclose(sum(parts), found.time.step_s)
    assert min(float(part.min()) for part in parts) >= 0.0
    memory = [getattr(found.memory, field.name) for field in fields(found.memory)]
    assert np.allclose(sum(memory), found.memory.total)
    assert min(float(part.min()) for part in memory) >= 0.0


def test_a_strategy_costs_the_same_alone_and_among_others() -> None:
    together = costs(*STRATEGIES)
    for position, strategy in enumerate(STRATEGIES):
        alone = costs(strategy)
        assert alone.time.step_s[0] == pytest.approx(together.time.step_s[position], rel=1e-12)
        assert alone.memory.total[0] == pytest.approx(together.memory.total[position], rel=1e-12)


def step_s(strategy: Strategy, **where: object) -> float:
    return float(costs(strategy, **where).time.step_s[0])  # type: ignore[arg-type]


def peak(strategy: Strategy, **where: object) -> float:
    return float(costs(strategy, **where).memory.total[0])  # type: ignore[arg-type]


def test_no_step_beats_the_peak_of_the_device() -> None:
    flops = 6.0 * 7.5e9 * 4096 * BASE.global_batch / BASE.world_size
    assert step_s(BASE) > flops / catalogue()[H100].peak_flops["bf16"]


def test_more_work_takes_longer() -> None:
    assert step_s(replace(BASE, num_micro_batches=8)) > 1.8 * step_s(BASE)
    assert step_s(replace(BASE, recompute=Recompute.FULL)) > 1.2 * step_s(BASE)
    assert step_s(BASE, sequence=8192) > 1.9 * step_s(BASE)


def test_recompute_and_sharding_save_memory() -> None:
    assert peak(replace(BASE, recompute=Recompute.FULL)) < peak(replace(BASE, recompute=Recompute.SELECTIVE)) < peak(BASE)
    stages = [peak(replace(BASE, dp=8, fsdp=1, zero_stage=0)), *(peak(replace(BASE, zero_stage=stage)) for stage in (1, 2, 3))]
    assert stages == sorted(stages, reverse=True)


def test_a_wider_sharding_over_the_network_waits_longer_but_holds_less() -> None:
    inside = replace(BASE, tp=1, sequence_parallel=False, dp=8, fsdp=8, micro_batch=1, num_micro_batches=1)
    across = replace(inside, dp=1, fsdp=64)
    assert float(costs(across).time.shard_s[0]) > float(costs(inside).time.shard_s[0])
    assert peak(across) < peak(inside)


def test_the_bubble_shrinks_with_micro_batches_chunks_and_zero_bubble_schedules() -> None:
    piped = replace(BASE, fsdp=2, pp=4, num_micro_batches=8)

    def bubble_frac(strategy: Strategy) -> float:
        found = costs(strategy).time
        return float(found.bubble_s[0] / found.step_s[0])

    assert bubble_frac(piped) == pytest.approx(3 / 11, abs=0.03)
    assert bubble_frac(replace(piped, num_micro_batches=32)) < bubble_frac(piped)
    interleaved = replace(piped, virtual_stages=2, schedule=PipelineSchedule.INTERLEAVED)
    assert bubble_frac(interleaved) == pytest.approx(3 / 19, abs=0.03)
    assert bubble_frac(replace(piped, schedule=PipelineSchedule.ZERO_BUBBLE)) < bubble_frac(interleaved)


def test_a_slower_network_costs_only_what_crosses_it() -> None:
    slow = replace(place(), network=place().network / 10.0)
    inside = replace(BASE, fsdp=4)
    assert step_s(inside, on=slow) == pytest.approx(step_s(inside))
    assert step_s(BASE, on=slow) > step_s(BASE)


def test_experts_over_more_ranks_hold_less_and_exchange_more() -> None:
    spread = replace(BASE, ep=8)
    found, alone = costs(spread, model=experts()), costs(BASE, model=experts())
    assert float(found.time.expert_s[0]) > 0.0 == float(alone.time.expert_s[0])
    replicated = replace(BASE, dp=8, fsdp=1, zero_stage=0)
    assert peak(replace(replicated, ep=8), model=experts()) < peak(replicated, model=experts())


def test_latent_attention_and_encoders_have_costs_of_their_own() -> None:
    latent = LatentSpec(kv_rank=512, rope_size=64, value_size=128, query_rank=1536)
    stack = replace(LLAMA_8B.stacks[0], attention=replace(LLAMA_8B.stacks[0].attention, latent=latent))
    assert step_s(BASE, model=replace(LLAMA_8B, stacks=(stack,))) != step_s(BASE)
    translator = tiny_translator()
    short = step_s(Strategy(precision=Precision.BF16), model=translator, sequence=64, source=64)
    assert step_s(Strategy(precision=Precision.BF16), model=translator, sequence=64, source=4096) > short


def test_stages_follow_the_order_of_the_stacks() -> None:
    """A first stage of dense layers holds no experts, the last one does."""
    dense = replace(LLAMA_8B.stacks[0], num_layers=16, final_norm=False)
    routed = replace(experts().stacks[0], num_layers=16)
    model = replace(LLAMA_8B, stacks=(dense, routed))
    piped = replace(BASE, fsdp=1, zero_stage=0, dp=8, pp=2)
    swapped = replace(model, stacks=(replace(routed, final_norm=False), replace(dense, final_norm=True)))
    assert peak(piped, model=model) != pytest.approx(peak(piped, model=swapped))
    mixed = replace(model, stacks=(dense, replace(routed, alternates=True)))
    assert peak(piped, model=mixed) < peak(piped, model=model)


def test_offload_saves_memory_and_costs_time() -> None:
    tight = replace(BASE, fsdp=4, zero_stage=3, num_micro_batches=1)
    for offload in (Offload.OPTIMIZER, Offload.ACTIVATIONS):
        away = replace(tight, offload=offload)
        assert peak(away) < peak(tight)
        assert step_s(away) >= step_s(tight)
    assert step_s(replace(tight, offload=Offload.OPTIMIZER)) > step_s(tight)
