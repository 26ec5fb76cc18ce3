"""Time of what happens once per step, after the backward pass: sums of gradients, clipping, the optimizer's update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.costs.memory import state_bytes
from planner.costs.micro_batch import TimeSum, state_precision
from planner.costs.types import Exchange, Work
from trimtab.inventory import ProbeKernel

if TYPE_CHECKING:
    from planner.costs.stages import Stage
    from planner.costs.types import KernelTimes, RankSpan
    from trimtab.strategy import Strategy
    from trimtab.workload import TrainWorkload

BUCKET_BYTES = 25 * 2**20
"""Gradients travel between replicas in buckets of this size (``workers/training/parallel_replicas``)."""


def reduction_seconds(
    stages: tuple[Stage, ...], strategy: Strategy, *, times: KernelTimes, spans: dict[str, RankSpan]
) -> TimeSum:
    """Sum of gradients over dp (flattened into buckets first), and of a tied embedding over the stages that hold it."""
    total = TimeSum()
    width, precision = state_bytes(strategy.precision), state_precision(strategy)
    if strategy.dp > 1:
        own = max(stage.parameters for stage in stages) // strategy.fsdp
        buckets = max(1, round(own * width / BUCKET_BYTES))
        bucket = Exchange(kernel=ProbeKernel.ALL_REDUCE, group="dp", num_bytes=own * width / buckets)
        total.add(times.exchange(bucket, spans), buckets)
        if strategy.fsdp == 1:
            total.add(times.kernel(Work(kernel=ProbeKernel.ELEMENTWISE, shape=(own, 2)), precision))
    shared = stages[0].embedding_weights if len(stages) > 1 and stages[-1].embedding_weights else 0
    if shared:
        own = shared // strategy.fsdp
        exchange = Exchange(kernel=ProbeKernel.ALL_REDUCE, group="pp ends", num_bytes=float(own * width))
        total.add(times.exchange(exchange, spans))
        total.add(times.kernel(Work(kernel=ProbeKernel.ELEMENTWISE, shape=(own, 2)), precision), 2)
    return total


def update_seconds(
    stages: tuple[Stage, ...],
    train: TrainWorkload,
    strategy: Strategy,
    *,
    times: KernelTimes,
    spans: dict[str, RankSpan],
) -> TimeSum:
    """Update of the largest stage's share, tensor by tensor; clipping reads all gradients and scales them. One small sum over all
    ranks joins loss, targets and norm.
    """
    total = TimeSum()
    stage = max(stages, key=lambda item: item.parameters)
    own = max(1, stage.parameters // (strategy.fsdp if strategy.zero_stage >= 1 else 1) // max(1, stage.num_tensors))
    precision = state_precision(strategy)
    count = stage.num_tensors
    total.add(times.kernel(Work(kernel=ProbeKernel.OPTIMIZER, shape=(own,)), precision), count)
    if train.optimizer.clip_norm > 0:
        total.add(times.kernel(Work(kernel=ProbeKernel.REDUCTION, shape=(own,)), precision), count)
        total.add(times.kernel(Work(kernel=ProbeKernel.ELEMENTWISE, shape=(own, 2)), precision), count)
    if strategy.world_size > 1:
        total.add(times.exchange(Exchange(kernel=ProbeKernel.ALL_REDUCE, group="all", num_bytes=24.0), spans))
    return total
