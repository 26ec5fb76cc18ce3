"""Models, workloads and strategies that equality is shown on."""

from __future__ import annotations

from dataclasses import replace

from trimtab.model import (
    ActivationKind,
    AttentionSpec,
    FeedForwardSpec,
    ModelFamily,
    ModelSpec,
    NormKind,
    PositionKind,
    StackRole,
    StackSpec,
)
from trimtab.strategy import PipelineSchedule, Precision, Recompute, Strategy
from trimtab.workload import DataKind, DataSpec, OptimizerKind, OptimizerSpec, ScheduleKind, TrainWorkload

GLOBAL_BATCH = 8
VOCABULARY = 53
"""Not a multiple of any degree, so that vocabulary parts are unequal."""


def decoder(**changes: object) -> ModelSpec:
    """Grouped-query attention, RMS norm, rotary positions, gated feed-forward, tied embeddings."""
    stack = StackSpec(
        role=StackRole.DECODER,
        num_layers=4,
        attention=AttentionSpec(num_heads=4, num_kv_heads=2, head_size=8),
        feed_forward=FeedForwardSpec(hidden_size=48),
    )
    spec = ModelSpec(
        name="decoder", family=ModelFamily.DECODER, hidden_size=32, vocab_size=VOCABULARY, stacks=(stack,), max_positions=32
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


def biased_decoder() -> ModelSpec:
    """Layer norm, learned positions, biases everywhere, GELU, untied."""
    stack = StackSpec(
        role=StackRole.DECODER,
        num_layers=4,
        attention=AttentionSpec(num_heads=4, num_kv_heads=4, head_size=8, qkv_bias=True, output_bias=True, window=6),
        feed_forward=FeedForwardSpec(hidden_size=48, gated=False, activation=ActivationKind.GELU, bias=True),
        norm=NormKind.LAYER,
        norm_bias=True,
    )
    return decoder(name="biased decoder", position=PositionKind.LEARNED, tied_embeddings=False, stacks=(stack,))


def encoder_decoder(**changes: object) -> ModelSpec:
    """Two encoder and two decoder layers with cross-attention, sinusoidal positions, tied embeddings."""
    attention = AttentionSpec(num_heads=4, num_kv_heads=2, head_size=8)
    feed_forward = FeedForwardSpec(hidden_size=48)
    stacks = (
        StackSpec(role=StackRole.ENCODER, num_layers=2, attention=attention, feed_forward=feed_forward, causal=False),
        StackSpec(role=StackRole.DECODER, num_layers=2, attention=attention, feed_forward=feed_forward, cross_attention=True),
    )
    spec = decoder(name="encoder-decoder", family=ModelFamily.ENCODER_DECODER, stacks=stacks, position=PositionKind.SINUSOIDAL)
    return replace(spec, **changes)  # type: ignore[arg-type]


MODELS = {model.name: model for model in (decoder(), biased_decoder(), encoder_decoder())}

ADAMW = OptimizerSpec(learning_rate=3e-3, weight_decay=0.1, clip_norm=0.5, warmup_steps=3, schedule=ScheduleKind.COSINE)
SGD = OptimizerSpec(kind=OptimizerKind.SGD, learning_rate=0.05, momentum=0.9, weight_decay=0.01, schedule=ScheduleKind.LINEAR)

OPTIMIZERS = {"decoder": ADAMW, "biased decoder": SGD, "encoder-decoder": ADAMW}
"""AdamW and clipping hide a wrong scale of all gradients; only norms show it. So one model is trained with SGD."""


def workload(model: ModelSpec, precision: Precision) -> TrainWorkload:
    """Twenty steps of sixteen tokens."""
    return TrainWorkload(
        num_steps=20,
        sequence_length=16,
        source_length=12 if model.family is ModelFamily.ENCODER_DECODER else 0,
        global_batch=GLOBAL_BATCH,
        data=DataSpec(kind=DataKind.TEXT),
        precision=precision,
        optimizer=OPTIMIZERS[model.name],
        seed=7,
    )


def strategy(precision: Precision = Precision.FP64, **degrees: object) -> Strategy:
    """A strategy whose micro-batches make up the global batch; micro-batches of 2 samples unless said otherwise."""
    size = int(degrees.pop("micro_batch", 2))  # type: ignore[call-overload]
    data_ranks = int(degrees.get("dp", 1)) * int(degrees.get("fsdp", 1))  # type: ignore[call-overload]
    if "fsdp" in degrees:
        degrees.setdefault("zero_stage", 3)
    count = GLOBAL_BATCH // (data_ranks * size)
    return Strategy(precision=precision, micro_batch=size, num_micro_batches=count, **degrees)  # type: ignore[arg-type]


SELECTIVE, FULL = Recompute.SELECTIVE, Recompute.FULL
GPIPE = PipelineSchedule.GPIPE

QUICK: dict[str, dict[str, object]] = {
    "dp2": {"dp": 2},
    "fsdp2": {"fsdp": 2},
    "tp2": {"tp": 2},
    "pp2": {"pp": 2},
}
"""The short form."""

MATRIX: dict[str, dict[str, object]] = {
    **QUICK,
    "one rank, other micro-batches": {"micro_batch": 8},
    "full recompute": {"recompute": FULL},
    "selective recompute": {"recompute": SELECTIVE},
    "dp4": {"dp": 4},
    "zero1 x2": {"fsdp": 2, "zero_stage": 1},
    "zero2 x2": {"fsdp": 2, "zero_stage": 2},
    "fsdp4": {"fsdp": 4, "micro_batch": 1},
    "fsdp2 full recompute": {"fsdp": 2, "recompute": FULL},
    "tp2 sequence": {"tp": 2, "sequence_parallel": True},
    "tp2 selective recompute": {"tp": 2, "recompute": SELECTIVE},
    "pp2 gpipe": {"pp": 2, "schedule": GPIPE},
    "pp2 uneven": {"pp": 2, "stage_layers": (1, 3)},
    "pp2 uneven, decoder begins inside a stage": {"pp": 2, "stage_layers": (3, 1)},
    "pp2 full recompute": {"pp": 2, "recompute": FULL},
    "pp4": {"pp": 4},
    "pp4, fewer micro-batches than stages": {"pp": 4, "micro_batch": 4},
    "dp2 tp2": {"dp": 2, "tp": 2},
    "dp2 tp2 sequence": {"dp": 2, "tp": 2, "sequence_parallel": True},
    "fsdp2 tp2": {"fsdp": 2, "tp": 2},
    "fsdp2 tp2 sequence": {"fsdp": 2, "tp": 2, "sequence_parallel": True},
    "dp2 pp2": {"dp": 2, "pp": 2},
    "tp2 pp2": {"tp": 2, "pp": 2},
    "tp2 pp2 sequence": {"tp": 2, "pp": 2, "sequence_parallel": True},
    "dp2 fsdp2": {"dp": 2, "fsdp": 2, "micro_batch": 1},
    "dp2 zero1 x2": {"dp": 2, "fsdp": 2, "zero_stage": 1, "micro_batch": 1},
    "fsdp2 pp2": {"fsdp": 2, "pp": 2},
}
"""All mixes on up to four ranks: the long form."""

MIXES = ["dp4", "fsdp2 tp2 sequence", "dp2 pp2", "tp2 pp2 sequence", "dp2 fsdp2"]
"""Mixes of each two axes: the form between."""

EIGHT: dict[str, dict[str, object]] = {
    "dp2 tp2 pp2": {"dp": 2, "tp": 2, "pp": 2},
    "dp2 fsdp2 tp2": {"dp": 2, "fsdp": 2, "tp": 2, "micro_batch": 1},
    "fsdp2 tp2 pp2 sequence": {"fsdp": 2, "tp": 2, "pp": 2, "sequence_parallel": True},
}
"""Three axes at once, on eight ranks."""

TOLERANCE_FRAC = {Precision.FP64: 1e-9, Precision.FP32: 1e-4}
