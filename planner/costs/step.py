"""Predicted time and memory of one training step of one strategy.

``step = micro-batches x (compute + tensor communication + shard communication) + bubble + gradient reduction + optimizer``.
Times of single kernels come from a provider: measured by the probe, or the roofline of the device type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.costs.collectives import group_spans
from planner.costs.constants import EVALUATION_BATCHES
from planner.costs.memory import rank_memory
from planner.costs.micro_batch import StageTime, StageTimer, TimeSum
from planner.costs.pipeline import pipeline_seconds
from planner.costs.probed import ProbedTimes
from planner.costs.roofline import RooflineTimes
from planner.costs.stages import build_stages
from planner.costs.storage import StorageTimes, storage_times
from planner.costs.types import ConstantLog, Exchange, Prediction, Work
from planner.costs.update import reduction_seconds, update_seconds
from trimtab.estimate import Estimate, Origin
from trimtab.inventory import ProbeKernel
from trimtab.plan import TimePart

if TYPE_CHECKING:
    from planner.costs.stages import Stage
    from planner.costs.types import DeviceContext, KernelTimes, RankSpan
    from trimtab.model import ModelSpec
    from trimtab.strategy import Strategy
    from trimtab.workload import TrainWorkload

FRAMEWORKS = ("trimtab",)
"""Trainers whose habits the model mirrors."""
_FIXED_SOURCE = "rank start, evaluations and checkpoints, written as"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    """What the parts of a step are made from."""

    train: TrainWorkload
    strategy: Strategy
    times: KernelTimes
    spans: dict[str, RankSpan]


def predict(*, model: ModelSpec, train: TrainWorkload, strategy: Strategy, context: DeviceContext) -> Prediction:
    """Step time with its parts, memory per stage, and the fixed cost of a run.

    Raises ValueError for a framework that is not known, a stage split that does not add up, or a device type without figures.
    """
    if context.framework not in FRAMEWORKS:
        raise ValueError(f"framework {context.framework!r} is not known; allowed: {', '.join(FRAMEWORKS)}")
    log = ConstantLog()
    times = kernel_times(context, strategy)
    spans = group_spans(strategy, max(1, context.shape.devices_per_node))
    stages = build_stages(model, train, strategy, kind=context.device_type.kind)
    timer = StageTimer(strategy, times, spans=spans, log=log, memo=context.memo)
    stage_times = [timer.time(stage) for stage in stages]
    memory = tuple(rank_memory(stage, train, strategy, kind=context.device_type.kind, log=log) for stage in stages)
    problem = _Problem(train=train, strategy=strategy, times=times, spans=spans)
    parts, error_s = _parts(stages, stage_times, problem)
    storage = storage_times(train, strategy, context, memory=memory, log=log)
    wait_s = storage.input_s - sum(part.seconds for part in parts)
    if wait_s > 0.0:
        parts = (*parts, TimePart(name="wait for input", seconds=wait_s))
    total = sum(part.seconds for part in parts)
    for constant in times.constants():
        log.note(constant)
    origin = Origin.MEASURED if context.probe else Origin.ASSUMED
    source = f"probe {context.probe.fingerprint}" if context.probe else "roofline of the device type"
    share = error_s / total if total else 0.0
    fixed = _fixed(train, strategy, times, total=total, storage=storage, log=log)
    return Prediction(
        step_s=Estimate.within(total, min(share, 0.9), origin=origin, source=source),
        memory=memory,
        parts=parts,
        constants=log.all(),
        fixed_s=Estimate.within(
            sum(part.seconds for part in fixed), 0.5, origin=Origin.ASSUMED, source=f"{_FIXED_SOURCE} {storage.source}"
        ),
        fixed_parts=fixed,
        checkpoint_s=storage.checkpoint_s,
        restart_read_s=storage.restart_read_s,
        input_s=storage.input_s,
    )


def kernel_times(context: DeviceContext, strategy: Strategy) -> KernelTimes:
    """The provider for a context."""
    ranks_per_node = min(strategy.world_size, max(1, context.shape.devices_per_node))
    if context.probe is not None:
        return ProbedTimes(context, context.probe, num_ranks=ranks_per_node)
    return RooflineTimes(context, num_ranks=ranks_per_node)


def _parts(stages: tuple[Stage, ...], stage_times: list[StageTime], problem: _Problem) -> tuple[tuple[TimePart, ...], float]:
    """The parts of a step; together they are the step. The second value is the error in seconds."""
    strategy = problem.strategy
    num_micro = strategy.num_micro_batches
    sends, sends_s = TimeSum(), []
    for stage in stages[:-1]:
        exchange = Exchange(kernel=ProbeKernel.SEND_RECEIVE, group="pp", num_bytes=stage.boundary_bytes)
        seconds = problem.times.exchange(exchange, problem.spans)
        sends.add(seconds, 2 * num_micro)
        sends_s.append(seconds.value)
    forward, backward = [time.way_there_s for time in stage_times], [time.way_back_s for time in stage_times]
    length = pipeline_seconds(forward, backward, sends_s=sends_s, strategy=strategy)
    slowest = max(stage_times, key=lambda time: time.total_s)
    busy = num_micro * slowest.total_s
    reduction = reduction_seconds(stages, strategy, times=problem.times, spans=problem.spans)
    optimizer = update_seconds(stages, problem.train, strategy, times=problem.times, spans=problem.spans)
    parts = [
        TimePart(name="forward", seconds=num_micro * slowest.forward_s),
        TimePart(name="backward", seconds=num_micro * slowest.backward_s),
        TimePart(name="recompute", seconds=num_micro * slowest.recompute_s),
        TimePart(name="tensor communication", seconds=num_micro * slowest.tensor_s),
        TimePart(name="shard communication", seconds=num_micro * slowest.shard_s),
        TimePart(name="pipeline bubble and sends", seconds=length - busy if len(stages) > 1 else 0.0),
        TimePart(name="gradient reduction", seconds=reduction.value),
        TimePart(name="optimizer", seconds=optimizer.value),
    ]
    stretch = length / busy if busy else 1.0
    error_s = num_micro * slowest.error_s * stretch + sends.error + reduction.error + optimizer.error
    return tuple(part for part in parts if part.seconds != 0.0), error_s


def _fixed(
    train: TrainWorkload,
    strategy: Strategy,
    times: KernelTimes,
    *,
    total: float,
    storage: StorageTimes,
    log: ConstantLog,
) -> tuple[TimePart, ...]:
    """Start of the ranks, evaluations (a forward pass is a third of a step), input of the first step, one closing checkpoint."""
    start = times.kernel(Work(kernel=ProbeKernel.RANK_START, shape=()), strategy.precision)
    evaluations = train.num_steps // train.evaluate_every_steps if train.evaluate_every_steps else 0
    batches = log.note(EVALUATION_BATCHES.constant())
    parts = (
        TimePart(name="start of the ranks", seconds=start.value),
        TimePart(name="evaluation", seconds=(evaluations + 1) * batches * total / 3.0),
        TimePart(name="first input", seconds=storage.input_s),
        TimePart(name="last checkpoint", seconds=storage.checkpoint_s),
    )
    return tuple(part for part in parts if part.seconds != 0.0)
