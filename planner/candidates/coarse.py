"""A coarse step time, only to choose which strategies are predicted in full. It never reaches a plan as a number.

Compute at half of the printed peak, the pipeline bubble (p - 1) / m of arXiv 2104.04473, ring collectives at the bandwidth of the
slowest link that the ranks cross (sharded gathers beside the computation, but on CPUs), and a start-up time per layer,
micro-batch and collective.
"""

from __future__ import annotations

from planner.costs import DeviceContext
from planner.models.counts import model_parameters, sample_flops
from planner.strategies.question import Question
from trimtab.inventory import DeviceKind, Link
from trimtab.strategy import Precision, Recompute, Strategy

_ACHIEVED_FRAC = 0.5
_INTERFERENCE_FRAC = 0.15
_LAUNCHES_PER_LAYER = 40
_LAUNCH_S = {DeviceKind.CPU: 10e-6, DeviceKind.GPU: 7e-6, DeviceKind.TPU: 1e-6}
_ELEMENT_BYTES = {
    Precision.FP64: 8,
    Precision.FP32: 4,
    Precision.TF32: 4,
    Precision.BF16: 2,
    Precision.FP16: 2,
    Precision.FP8: 1,
    Precision.MXFP8: 1,
    Precision.NVFP4: 1,
}
_FALLBACK_LINK = Link(name="unnamed", bandwidth_bytes_per_s=2e9, latency_s=50e-6)


def coarse_step_s(question: Question, context: DeviceContext, strategy: Strategy) -> float:
    """Seconds of one step, good enough to rank strategies of one shape."""
    flops = sample_flops(
        question.model, sequence_length=question.train.sequence_length, source_length=question.train.source_length
    )
    passes = 4.0 if strategy.recompute is Recompute.FULL else 3.0
    num_layers = question.model.num_layers
    peaks = context.device_type.peak_flops
    peak = peaks.get(str(strategy.precision)) or max(peaks.values(), default=1e10)
    samples = strategy.micro_batch * strategy.num_micro_batches
    compute = passes * flops.forward * samples / (strategy.tp * strategy.pp) / (peak * _ACHIEVED_FRAC)
    layers_per_stage = -(-num_layers // strategy.pp)
    launch = _LAUNCH_S[context.device_type.kind]
    overhead = strategy.num_micro_batches * layers_per_stage * passes * _LAUNCHES_PER_LAYER * launch
    bubble = 1.0 + (strategy.pp - 1) / strategy.num_micro_batches
    tensor = _tensor_s(question, context, strategy, layers_per_stage)
    busy = compute + overhead
    shard = _shard_s(question, context, strategy)
    if context.device_type.kind is not DeviceKind.CPU:
        shard = max(busy, shard) - busy + _INTERFERENCE_FRAC * min(busy, shard)
    return (busy + tensor + shard) * bubble + _data_s(question, context, strategy)


def _link(context: DeviceContext, num_ranks_inside: int) -> Link:
    """The slowest link of a group whose ranks, with all ranks inside it, span ``num_ranks_inside`` neighbours."""
    if num_ranks_inside > context.shape.devices_per_node:
        return context.network or _FALLBACK_LINK
    return context.pool.node_link or context.device_type.link or _FALLBACK_LINK


def _tensor_s(question: Question, context: DeviceContext, strategy: Strategy, layers_per_stage: int) -> float:
    if strategy.tp == 1:
        return 0.0
    link = _link(context, strategy.tp)
    tokens = strategy.micro_batch * question.train.tokens_per_sample
    num_bytes = 2.0 * tokens * question.model.hidden_size * _ELEMENT_BYTES[strategy.precision]
    share = (strategy.tp - 1) / strategy.tp
    once = num_bytes * share / link.bandwidth_bytes_per_s + link.latency_s * strategy.tp
    return 4.0 * layers_per_stage * strategy.num_micro_batches * once


def _shard_s(question: Question, context: DeviceContext, strategy: Strategy) -> float:
    if strategy.fsdp == 1:
        return 0.0
    link = _link(context, strategy.tp * strategy.fsdp)
    own = model_parameters(question.model).total / (strategy.tp * strategy.pp) * _ELEMENT_BYTES[strategy.precision]
    share = (strategy.fsdp - 1) / strategy.fsdp
    messages = question.model.num_layers / strategy.pp * link.latency_s * strategy.fsdp
    return 3.0 * strategy.num_micro_batches * (own * share / link.bandwidth_bytes_per_s + messages)


def _data_s(question: Question, context: DeviceContext, strategy: Strategy) -> float:
    if strategy.dp == 1:
        return 0.0
    link = _link(context, strategy.tp * strategy.fsdp * strategy.dp)
    own = 4.0 * model_parameters(question.model).total / (strategy.tp * strategy.pp * strategy.fsdp)
    return 2.0 * own * (strategy.dp - 1) / strategy.dp / link.bandwidth_bytes_per_s + link.latency_s * strategy.dp
