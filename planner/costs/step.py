"""Predicted time and memory of one training step of one strategy.

``step = micro-batches x (compute + tensor communication + shard communication) + bubble + gradient reduction + optimizer``.
Times of single kernels come from a provider: measured by the probe, or the roofline of the device type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.costs.collectives import group_spans
from planner.costs.constants import (
    CHECKPOINT_BYTES_PER_S,
    EVALUATION_BATCHES,
    INTERFERENCE_FRAC,
    MICRO_BATCH_OVERHEAD_S,
)
from planner.costs.memory import rank_memory, state_bytes
from planner.costs.operations import ELEMENT_BYTES
from planner.costs.pipeline import pipeline_seconds
from planner.costs.probed import ProbedTimes
from planner.costs.roofline import RooflineTimes
from planner.costs.stages import build_stages
from planner.costs.types import ConstantLog, Exchange, Operation, Prediction, Seconds, Work
from trimtab.estimate import Estimate, Origin
from trimtab.inventory import ProbeKernel
from trimtab.plan import TimePart
from trimtab.strategy import Precision, Recompute

if TYPE_CHECKING:
    from planner.costs.stages import Stage
    from planner.costs.types import DeviceContext, GroupSpan, KernelTimes
    from trimtab.model import ModelSpec
    from trimtab.plan import RankMemory
    from trimtab.strategy import Strategy
    from trimtab.workload import TrainWorkload

FRAMEWORKS = ("trimtab",)
"""Trainers whose habits the model mirrors."""


@dataclass(slots=True)
class _Sum:
    """Seconds with the error of their parts; the parts err together, so errors add."""

    value: float = 0.0
    error: float = 0.0

    def add(self, seconds: Seconds, count: float = 1.0) -> None:
        self.value += seconds.value * count
        self.error += seconds.value * seconds.error_frac * count


@dataclass(frozen=True, slots=True, kw_only=True)
class _StageTime:
    """One micro-batch on one stage, in seconds."""

    forward_s: float
    backward_s: float
    recompute_s: float
    tensor_s: float
    shard_s: float
    error_s: float


def predict(*, model: ModelSpec, train: TrainWorkload, strategy: Strategy, context: DeviceContext) -> Prediction:
    """Step time with its parts, memory per stage, and the fixed cost of a run.

    Raises ValueError for a framework that is not known, a stage split that does not add up, or a device type without figures.
    """
    if context.framework not in FRAMEWORKS:
        raise ValueError(f"framework {context.framework!r} is not known; allowed: {', '.join(FRAMEWORKS)}")
    log = ConstantLog()
    times = kernel_times(context, strategy)
    spans = group_spans(strategy, max(1, context.shape.devices_per_node))
    stages = build_stages(model, train, strategy)
    stage_times = [_stage_time(stage, strategy, times, spans, log) for stage in stages]
    memory = tuple(rank_memory(stage, train, strategy, kind=context.device_type.kind, log=log) for stage in stages)
    parts, error_s = _parts(stages, stage_times, train, strategy, times, spans)
    total = sum(part.seconds for part in parts)
    for constant in times.constants():
        log.note(constant)
    origin = Origin.MEASURED if context.probe else Origin.ASSUMED
    source = f"probe {context.probe.fingerprint}" if context.probe else "roofline of the device type"
    share = error_s / total if total else 0.0
    return Prediction(
        step_s=Estimate.within(total, min(share, 0.9), origin=origin, source=source),
        memory=memory,
        parts=parts,
        constants=log.all(),
        fixed_s=_fixed(train, strategy, times, total=total, memory=memory, log=log),
    )


def kernel_times(context: DeviceContext, strategy: Strategy) -> KernelTimes:
    """The provider for a context."""
    ranks_per_node = min(strategy.world_size, max(1, context.shape.devices_per_node))
    if context.probe is not None:
        return ProbedTimes(context, context.probe, num_ranks=ranks_per_node)
    return RooflineTimes(context, num_ranks=ranks_per_node)


def _stage_time(
    stage: Stage, strategy: Strategy, times: KernelTimes, spans: dict[str, GroupSpan], log: ConstantLog
) -> _StageTime:
    precision = strategy.precision
    forward, backward, again, tensor, shard = _Sum(), _Sum(), _Sum(), _Sum(), _Sum()
    launch = (
        times.kernel(Work(kernel=ProbeKernel.LAUNCH, shape=(0,)), precision),
        times.kernel(Work(kernel=ProbeKernel.LAUNCH, shape=(1,)), precision),
    )
    for block in stage.blocks:
        once = _Sum()
        for operation in block.operations:
            _add_works(once, operation.forward, times, precision)
            once.add(launch[0], operation.launches[0])
            for work in operation.backward:
                backward.add(times.kernel(work, precision), work.count * block.count)
            backward.add(launch[1], operation.launches[1] * block.count)
            for exchange in (*operation.forward_exchanges, *operation.backward_exchanges):
                tensor.add(times.exchange(exchange, spans), exchange.count * block.count)
        forward.value += once.value * block.count
        forward.error += once.error * block.count
        recomputed = _recomputed(block.operations, strategy.recompute) if block.is_layer else ()
        for operation in recomputed:
            _add_works(again, operation.forward, times, precision, count=block.count)
            for exchange in operation.forward_exchanges:
                tensor.add(times.exchange(exchange, spans), exchange.count * block.count)
    _add_accumulation(backward, stage, strategy, times)
    _add_sharding(shard, stage, strategy, times, spans)
    compute = forward.value + backward.value + again.value
    overhead = log.note(MICRO_BATCH_OVERHEAD_S.constant())
    exposed = shard.value
    if times.overlaps and shard.value:
        interference = log.note(INTERFERENCE_FRAC.constant())
        exposed = max(compute, shard.value) + interference * min(compute, shard.value) - compute
    return _StageTime(
        forward_s=forward.value + overhead,
        backward_s=backward.value,
        recompute_s=again.value,
        tensor_s=tensor.value,
        shard_s=exposed,
        error_s=forward.error + backward.error + again.error + tensor.error + shard.error,
    )


def _add_works(total: _Sum, works: tuple[Work, ...], times: KernelTimes, precision: Precision, *, count: int = 1) -> None:
    for work in works:
        total.add(times.kernel(work, precision), work.count * count)


def _recomputed(operations: tuple[Operation, ...], recompute: Recompute) -> tuple[Operation, ...]:
    if recompute is Recompute.FULL:
        return operations
    if recompute is Recompute.SELECTIVE:
        return tuple(operation for operation in operations if operation.name == "attention")
    return ()


def _add_accumulation(total: _Sum, stage: Stage, strategy: Strategy, times: KernelTimes) -> None:
    """Gradients of all micro-batches but the first are added to those that are there."""
    num_micro = strategy.num_micro_batches
    if num_micro < 2:
        return
    work = Work(kernel=ProbeKernel.ELEMENTWISE, shape=(max(1, stage.parameters // max(1, stage.num_tensors)), 3))
    total.add(times.kernel(work, _state_precision(strategy)), stage.num_tensors * (num_micro - 1) / num_micro)


def _add_sharding(total: _Sum, stage: Stage, strategy: Strategy, times: KernelTimes, spans: dict[str, GroupSpan]) -> None:
    """ZeRO-3: each micro-batch gathers every unit for the forward and the backward pass and scatters its gradients once."""
    if strategy.fsdp == 1 or strategy.zero_stage < 2:
        return
    width = ELEMENT_BYTES[strategy.precision]
    unit = times.kernel(Work(kernel=ProbeKernel.UNIT_LAUNCH, shape=()), strategy.precision)
    for block in stage.blocks:
        num_bytes = float(block.parameters * width)
        if strategy.zero_stage >= 3:
            gather = Exchange(kernel=ProbeKernel.ALL_GATHER, group="fsdp", num_bytes=num_bytes)
            total.add(times.exchange(gather, spans), 2 * block.count)
        scatter = Exchange(kernel=ProbeKernel.REDUCE_SCATTER, group="fsdp", num_bytes=num_bytes)
        total.add(times.exchange(scatter, spans), block.count)
        total.add(unit, block.count)


def _parts(
    stages: tuple[Stage, ...],
    stage_times: list[_StageTime],
    train: TrainWorkload,
    strategy: Strategy,
    times: KernelTimes,
    spans: dict[str, GroupSpan],
) -> tuple[tuple[TimePart, ...], float]:
    """The parts of a step; together they are the step. The second value is the error in seconds."""
    num_micro = strategy.num_micro_batches
    sends = _Sum()
    sends_s = []
    for stage in stages[:-1]:
        exchange = Exchange(kernel=ProbeKernel.SEND_RECEIVE, group="pp", num_bytes=stage.boundary_bytes)
        seconds = times.exchange(exchange, spans)
        sends.add(seconds, 2 * num_micro)
        sends_s.append(seconds.value)
    forward = [time.forward_s + (time.tensor_s + time.shard_s) / 2 for time in stage_times]
    backward = [time.backward_s + time.recompute_s + (time.tensor_s + time.shard_s) / 2 for time in stage_times]
    length = pipeline_seconds(forward, backward, sends_s, strategy)
    slowest = max(
        stage_times, key=lambda time: time.forward_s + time.backward_s + time.recompute_s + time.tensor_s + time.shard_s
    )
    busy = num_micro * (slowest.forward_s + slowest.backward_s + slowest.recompute_s + slowest.tensor_s + slowest.shard_s)
    reduction = _reduction(stages, strategy, times, spans)
    optimizer = _optimizer(stages, train, strategy, times, spans)
    parts = [
        TimePart(name="forward", seconds=num_micro * slowest.forward_s),
        TimePart(name="backward", seconds=num_micro * slowest.backward_s),
        TimePart(name="recompute", seconds=num_micro * slowest.recompute_s),
        TimePart(name="tensor communication", seconds=num_micro * slowest.tensor_s),
        TimePart(name="shard communication", seconds=num_micro * slowest.shard_s),
        TimePart(name="pipeline bubble and sends", seconds=length - busy),
        TimePart(name="gradient reduction", seconds=reduction.value),
        TimePart(name="optimizer", seconds=optimizer.value),
    ]
    bubble_share = length / busy if busy else 1.0
    error_s = num_micro * slowest.error_s * bubble_share + sends.error + reduction.error + optimizer.error
    return tuple(part for part in parts if part.seconds != 0.0), error_s


def _reduction(stages: tuple[Stage, ...], strategy: Strategy, times: KernelTimes, spans: dict[str, GroupSpan]) -> _Sum:
    """Once per step: all-reduce of gradients over dp (of the shard, under sharding), and what ZeRO-1 adds."""
    total = _Sum()
    parameters = max(stage.parameters for stage in stages) * state_bytes(strategy.precision)
    if strategy.zero_stage == 1:
        total.add(times.exchange(Exchange(kernel=ProbeKernel.REDUCE_SCATTER, group="fsdp", num_bytes=parameters), spans))
    if strategy.zero_stage in (1, 2):
        total.add(times.exchange(Exchange(kernel=ProbeKernel.ALL_GATHER, group="fsdp", num_bytes=parameters), spans))
    if strategy.dp > 1:
        own = parameters / strategy.fsdp
        total.add(times.exchange(Exchange(kernel=ProbeKernel.ALL_REDUCE, group="dp", num_bytes=own), spans))
    return total


def _optimizer(
    stages: tuple[Stage, ...],
    train: TrainWorkload,
    strategy: Strategy,
    times: KernelTimes,
    spans: dict[str, GroupSpan],
) -> _Sum:
    """Update of the largest stage's share of the parameters; clipping reads all gradients, joins norms, and scales them."""
    total = _Sum()
    stage = max(stages, key=lambda item: item.parameters)
    own = max(1, stage.parameters // (strategy.fsdp if strategy.zero_stage >= 1 else 1))
    precision = _state_precision(strategy)
    total.add(times.kernel(Work(kernel=ProbeKernel.OPTIMIZER, shape=(own, stage.num_tensors)), precision))
    if train.optimizer.clip_norm > 0:
        total.add(times.kernel(Work(kernel=ProbeKernel.REDUCTION, shape=(own,)), precision))
        total.add(times.kernel(Work(kernel=ProbeKernel.ELEMENTWISE, shape=(own, 2)), precision))
        if strategy.world_size > 1:
            total.add(times.exchange(Exchange(kernel=ProbeKernel.ALL_REDUCE, group="all", num_bytes=8.0), spans))
    return total


def _state_precision(strategy: Strategy) -> Precision:
    return Precision.FP64 if strategy.precision is Precision.FP64 else Precision.FP32


def _fixed(
    train: TrainWorkload,
    strategy: Strategy,
    times: KernelTimes,
    *,
    total: float,
    memory: tuple[RankMemory, ...],
    log: ConstantLog,
) -> Estimate:
    """Start of the ranks, evaluations (a forward pass is a third of a step) and one closing checkpoint."""
    start = times.kernel(Work(kernel=ProbeKernel.RANK_START, shape=()), strategy.precision)
    evaluations = train.num_steps // train.evaluate_every_steps if train.evaluate_every_steps else 0
    batches = log.note(EVALUATION_BATCHES.constant())
    state = sum(entry.parameters_bytes + entry.optimizer_bytes for entry in memory) * strategy.tp
    checkpoint_s = state / log.note(CHECKPOINT_BYTES_PER_S.constant())
    seconds = start.value + (evaluations + 1) * batches * total / 3.0 + checkpoint_s
    return Estimate.within(seconds, 0.5, origin=Origin.ASSUMED, source="rank start, evaluations and the last checkpoint")
