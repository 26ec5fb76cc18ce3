"""Cases for tests of exports: models, workloads, and strategies of every kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from planner.export import ExportCase
from tests.support.planning import LLAMA_8B, TEXT, tiny_model
from trimtab.inventory import Shape
from trimtab.model import ExpertsSpec, LatentSpec, ModelSpec
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute, Strategy
from trimtab.workload import TrainWorkload

LLAMA_3 = replace(LLAMA_8B, rope_theta=500_000.0)
SMALL = replace(tiny_model(num_layers=8, num_heads=4, num_kv_heads=4), tied_embeddings=False)


def with_experts(model: ModelSpec = SMALL, *, num_experts: int = 8, top_k: int = 2, shared_size: int = 0) -> ModelSpec:
    """The model with experts in every layer."""
    (stack,) = model.stacks
    experts = ExpertsSpec(num_experts=num_experts, top_k=top_k, shared_size=shared_size)
    return replace(model, name="experts", stacks=(replace(stack, feed_forward=replace(stack.feed_forward, experts=experts)),))


def with_latent(model: ModelSpec = SMALL) -> ModelSpec:
    """The model with latent attention, a dense first layer and experts in the others."""
    (stack,) = with_experts(model, shared_size=192).stacks
    latent = LatentSpec(kv_rank=32, rope_size=8, value_size=16, query_rank=48)
    stack = replace(stack, attention=replace(stack.attention, latent=latent))
    dense = replace(stack, num_layers=1, feed_forward=replace(stack.feed_forward, experts=None), final_norm=False)
    return replace(model, name="latent", stacks=(dense, replace(stack, num_layers=stack.num_layers - 1)))


def workload(strategy: Strategy, *, sequence_length: int = 512) -> TrainWorkload:
    """A training run whose global batch is the strategy's."""
    return TrainWorkload(
        num_steps=100,
        sequence_length=sequence_length,
        global_batch=strategy.global_batch,
        data=TEXT,
        precision=strategy.precision,
    )


def case(strategy: Strategy, *, model: ModelSpec = SMALL, num_nodes: int = 1, **more: Any) -> ExportCase:
    """An export case on as many nodes of equal size."""
    shape = Shape(num_nodes=num_nodes, devices_per_node=strategy.world_size // num_nodes)
    return ExportCase(name="a-job", model=model, train=workload(strategy), strategy=strategy, shape=shape, **more)


DEGREES = st.sampled_from([1, 1, 2, 4])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "dp": DEGREES,
    "fsdp": DEGREES,
    "zero_stage": st.sampled_from([1, 2, 3]),
    "tp": DEGREES,
    "sequence_parallel": st.booleans(),
    "cp": st.sampled_from([1, 1, 2]),
    "pp": st.sampled_from([1, 1, 2, 4]),
    "virtual_stages": st.sampled_from([1, 1, 2]),
    "schedule": st.sampled_from(list(PipelineSchedule)),
    "ep": st.sampled_from([1, 1, 2]),
    "etp": st.sampled_from([1, 1, 2]),
    "micro_batch": st.sampled_from([1, 2, 3]),
    "num_micro_batches": st.sampled_from([4, 8, 6]),
    "recompute": st.sampled_from(list(Recompute)),
    "precision": st.sampled_from(list(Precision)),
    "offload": st.sampled_from([Offload.NONE, Offload.NONE, *Offload]),
    "stage_layers": st.booleans(),
}
"""What each dimension may be; ``stage_layers`` says whether the stages are named."""


PLAIN: dict[str, Any] = {
    **{name: 1 for name in ("dp", "tp", "cp", "pp", "virtual_stages", "ep", "etp", "micro_batch")},
    "fsdp": 2,
    "zero_stage": 3,
    "sequence_parallel": False,
    "schedule": PipelineSchedule.ONE_F_ONE_B,
    "num_micro_batches": 4,
    "recompute": Recompute.NONE,
    "precision": Precision.FP32,
    "offload": Offload.NONE,
    "stage_layers": False,
}
"""Values that every target takes, to vary some of."""


def some_values(data: st.DataObject, *, experts: bool) -> dict[str, Any]:
    """Values of all dimensions, at most six of them not the plain ones, so that many targets take many of them."""
    varied = data.draw(st.sets(st.sampled_from(sorted(VALUES)), max_size=6), label="varied")
    if not experts:
        varied -= {"ep", "etp"}
    return {**PLAIN, **{name: data.draw(VALUES[name], label=name) for name in sorted(varied)}}


def build(values: dict[str, Any], *, num_layers: int) -> Strategy | None:
    """The strategy of the values made consistent, or None where they contradict each other."""
    v = dict(values)
    v["zero_stage"] = v["zero_stage"] if v["fsdp"] > 1 else 0
    v["sequence_parallel"] = v["sequence_parallel"] and v["tp"] > 1
    if v["pp"] == 1:
        v["virtual_stages"], v["schedule"], v["stage_layers"] = 1, PipelineSchedule.ONE_F_ONE_B, False
    if v["schedule"] is PipelineSchedule.INTERLEAVED and v["virtual_stages"] == 1:
        return None
    num_stages = v["pp"] * v["virtual_stages"]
    if num_stages > num_layers or (v["dp"] * v["fsdp"] * v["cp"] * v["tp"]) % (v["ep"] * v["etp"]):
        return None
    # A split that is not the even one: one layer moves from the last stage to the first.
    each = num_layers // num_stages
    uneven = (each + 1, *[each] * (num_stages - 2), num_layers - each * (num_stages - 1) - 1)
    v["stage_layers"] = uneven if v["stage_layers"] and each > 1 else ()
    return Strategy(**v)
