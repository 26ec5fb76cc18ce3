"""Length of a pipelined step from the times of its stages.

A schedule is a fixed order of forward and backward passes on each stage (arXiv 2104.04473); its length is the longest path
through that order and the sends between neighbours. Short schedules are walked exactly, long ones use the closed form
``sum over stages + (m - 1) x slowest stage``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trimtab.strategy import PipelineSchedule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trimtab.strategy import Strategy

_EXACT_CELLS = 2048
"""Stages x micro-batches up to which the schedule is walked; beyond, the closed form is within a micro-batch of it."""


def pipeline_seconds(
    forward_s: Sequence[float], backward_s: Sequence[float], *, sends_s: Sequence[float], strategy: Strategy
) -> float:
    """Seconds from the first forward to the last backward of one step.

    ``forward_s`` and ``backward_s``: one micro-batch on each stage; ``sends_s[i]``: one message from stage i to i + 1 (or back).
    """
    num_stages, num_micro = len(forward_s), strategy.num_micro_batches
    if num_stages == 1:
        return num_micro * (forward_s[0] + backward_s[0])
    if strategy.schedule in (PipelineSchedule.INTERLEAVED, PipelineSchedule.ZERO_BUBBLE) or strategy.virtual_stages > 1:
        return _closed_form_virtual(forward_s, backward_s, sends_s, strategy)
    if num_stages * num_micro > _EXACT_CELLS:
        return _closed_form(forward_s, backward_s, sends_s, num_micro)
    return _walk(forward_s, backward_s, sends_s, strategy)


def stage_order(strategy: Strategy, stage: int, num_stages: int) -> list[tuple[bool, int]]:
    """(is forward, micro-batch) in the order in which a stage runs them; GPipe where 1F1B has too few micro-batches."""
    num_micro = strategy.num_micro_batches
    if strategy.schedule is PipelineSchedule.GPIPE or num_micro < num_stages:
        return [(True, i) for i in range(num_micro)] + [(False, i) for i in range(num_micro)]
    warm_up = min(num_micro, num_stages - stage)
    order = [(True, i) for i in range(warm_up)]
    for index in range(num_micro - warm_up):
        order += [(False, index), (True, warm_up + index)]
    return order + [(False, i) for i in range(num_micro - warm_up, num_micro)]


def _walk(forward_s: Sequence[float], backward_s: Sequence[float], sends_s: Sequence[float], strategy: Strategy) -> float:
    num_stages = len(forward_s)
    orders = [stage_order(strategy, stage, num_stages) for stage in range(num_stages)]
    position = [0] * num_stages
    clock = [0.0] * num_stages
    done: dict[tuple[bool, int, int], float] = {}
    remaining = sum(len(order) for order in orders)
    while remaining:
        before = remaining
        for stage in range(num_stages):
            while position[stage] < len(orders[stage]):
                is_forward, micro = orders[stage][position[stage]]
                ready = _ready_at(done, sends_s, (is_forward, micro, stage), num_stages)
                if ready is None:
                    break
                clock[stage] = max(clock[stage], ready) + (forward_s[stage] if is_forward else backward_s[stage])
                done[is_forward, micro, stage] = clock[stage]
                position[stage] += 1
                remaining -= 1
        assert remaining < before, "a pipeline schedule waits for itself"
    return max(clock)


def _ready_at(
    done: dict[tuple[bool, int, int], float], sends_s: Sequence[float], cell: tuple[bool, int, int], num_stages: int
) -> float | None:
    """When the input of a cell has arrived; None while it is not known."""
    is_forward, micro, stage = cell
    if is_forward:
        if stage == 0:
            return 0.0
        sent = done.get((True, micro, stage - 1))
        return None if sent is None else sent + sends_s[stage - 1]
    if stage == num_stages - 1:
        return done.get((True, micro, stage))
    sent = done.get((False, micro, stage + 1))
    return None if sent is None else sent + sends_s[stage]


def _closed_form(forward_s: Sequence[float], backward_s: Sequence[float], sends_s: Sequence[float], num_micro: int) -> float:
    stages = [f + b for f, b in zip(forward_s, backward_s, strict=True)]
    return sum(stages) + 2 * sum(sends_s) + (num_micro - 1) * max(stages)


def _closed_form_virtual(
    forward_s: Sequence[float], backward_s: Sequence[float], sends_s: Sequence[float], strategy: Strategy
) -> float:
    """Interleaved: m x slowest rank + (p - 1)/v x mean. Zero bubble: a third of the 1F1B bubble."""
    num_ranks, virtual = strategy.pp, strategy.virtual_stages
    per_rank = [sum(forward_s[i] + backward_s[i] for i in range(rank, len(forward_s), num_ranks)) for rank in range(num_ranks)]
    mean = sum(per_rank) / num_ranks
    bubble = (num_ranks - 1) / virtual * mean
    if strategy.schedule is PipelineSchedule.ZERO_BUBBLE:
        bubble /= 3.0
    return strategy.num_micro_batches * max(per_rank) + bubble + 2 * sum(sends_s)
