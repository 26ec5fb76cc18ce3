"""Small worlds for the enumeration of all strategies: models, devices, frameworks."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from planner.devices.catalogue import device_type
from planner.strategies import Question, framework
from planner.strategies.table import StrategyTable
from planner.strategies.values import MIN_CONTEXT_TOKENS
from tests.support.planning import CPU_TYPE, tiny_model, tiny_translator, workload
from trimtab.inventory import DeviceType, Shape
from trimtab.model import AttentionSpec, ExpertsSpec, LatentSpec, ModelFamily, ModelSpec, PartSpec
from trimtab.strategy import Precision

NAMES = tuple(field.name for field in fields(StrategyTable))
H100, B200, GB200, T4 = (device_type(name) for name in ("H100", "B200", "GB200", "T4"))
V4, V5E = device_type("TPU-v4"), device_type("TPU-v5e")
DENSE = tiny_model(num_layers=6, num_heads=8, num_kv_heads=4)
WIDE = tiny_model(num_layers=2, num_heads=16, num_kv_heads=16)
CONVOLUTIONS = ModelSpec(
    name="convolutions",
    family=ModelFamily.CONVOLUTIONAL,
    hidden_size=64,
    vocab_size=0,
    stacks=(),
    parts=(PartSpec(name="body", num_parameters=1000),),
)


def moe(num_experts: int = 4) -> ModelSpec:
    """A dense layer, then layers of experts beside a shared one."""
    dense = replace(DENSE.stacks[0], num_layers=1, final_norm=False)
    block = replace(dense.feed_forward, hidden_size=24, experts=ExpertsSpec(num_experts=num_experts, top_k=2, shared_size=48))
    return replace(DENSE, stacks=(dense, replace(dense, num_layers=4, feed_forward=block, final_norm=True)))


def latent() -> ModelSpec:
    """Latent attention: one key-value head is no reason not to cut the query heads."""
    attention = AttentionSpec(
        num_heads=8, num_kv_heads=1, head_size=16, latent=LatentSpec(kv_rank=32, rope_size=8, value_size=16)
    )
    return replace(moe(), stacks=tuple(replace(stack, attention=attention) for stack in moe().stacks))


def question(model: ModelSpec, on: DeviceType, by: str, *, n: int = 1, k: int = 4, **train: object) -> Question:
    """A question about a short run on n nodes of k devices; further fields are those of the workload."""
    precisions = train.pop("precisions", (Precision.BF16,))
    assert isinstance(precisions, tuple)
    return Question(
        model=model,
        train=workload(**({"global_batch": 8, "precision": precisions[0]} | train)),
        device_type=on,
        shape=Shape(num_nodes=n, devices_per_node=k),
        framework=framework(by),
        precisions=precisions,
    )


LONG = {"sequence_length": 4 * MIN_CONTEXT_TOKENS}
WORLDS = {
    "one device": question(DENSE, H100, "any", k=1),
    "dense, four devices, megatron": question(DENSE, H100, "megatron"),
    "dense, three devices": question(DENSE, H100, "torchtitan", k=3, global_batch=9),
    "dense, six devices on two nodes": question(DENSE, H100, "megatron", n=2, k=3, global_batch=12),
    "long, megatron": question(DENSE, H100, "megatron", k=8, global_batch=4, **LONG),
    "long, torchtitan": question(DENSE, B200, "torchtitan", k=8, global_batch=4, **LONG),
    "long, any": question(DENSE, H100, "any", k=4, global_batch=4, **LONG),
    "deepspeed": question(DENSE, H100, "deepspeed", k=8),
    "composer": question(DENSE, H100, "composer-fsdp", n=2, k=8, global_batch=32),
    "trimtab": question(tiny_model(), CPU_TYPE, "trimtab", k=8, precisions=(Precision.FP32, Precision.FP64)),
    "any on a processor": question(DENSE, CPU_TYPE, "any", k=2),
    "precisions": question(DENSE, B200, "megatron", k=2, precisions=(Precision.BF16, Precision.NVFP4, Precision.FP64)),
    "precision of no device": question(DENSE, T4, "any", k=2),
    "experts, megatron": question(moe(), H100, "megatron", global_batch=4),
    "experts, torchtitan": question(moe(6), H100, "torchtitan", k=6, global_batch=6),
    "experts, any": question(latent(), H100, "any", k=2, global_batch=4),
    "latent, long": question(latent(), H100, "megatron", k=4, global_batch=2, **LONG),
    "nodes in one domain": question(WIDE, GB200, "torchtitan", n=4, k=4, global_batch=2),
    "translator": question(tiny_translator(), H100, "megatron", source_length=16, global_batch=4),
    "slice of a torus": question(DENSE, V5E, "maxtext", k=8),
    "several slices": question(DENSE, V4, "maxtext", n=3, k=4, global_batch=12),
    "no slice": question(DENSE, V4, "maxtext", k=6),
    "convolutions": question(CONVOLUTIONS, H100, "any", k=4),
}


def as_table(rows: np.ndarray) -> StrategyTable:
    """The table of rows of columns, in the order of ``NAMES``."""
    return StrategyTable(**{name: rows[:, place] for place, name in enumerate(NAMES)})


def as_rows(table: StrategyTable) -> np.ndarray:
    """A row of columns for each strategy."""
    return np.stack([getattr(table, name) for name in NAMES], axis=1)
