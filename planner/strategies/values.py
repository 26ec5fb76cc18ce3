"""The values of each dimension that are tried, in the order in which they are tried."""

from __future__ import annotations

import math
from collections.abc import Mapping

from planner.strategies.expert_rules import expert_widths, num_experts
from planner.strategies.question import Question, divisors
from planner.strategies.table import OFFLOADS, RECOMPUTES, SCHEDULES, BoolArray, IntArray
from trimtab.strategy import PipelineSchedule

MIN_CONTEXT_TOKENS = 1024
"""Tokens of a sequence that a context rank holds at least: below, its two chunks keep attention kernels short of work."""

MIN_POWERS = 4
"""Powers of two that a global batch must be divided by for no other micro-batches to be tried."""

Values = tuple[tuple[int, ...], ...]
"""One tuple for each choice, holding the value of each column that the choice sets."""


def _chosen(fixed: int | None, free: tuple[int, ...]) -> tuple[int, ...]:
    return free if fixed is None else (fixed,)


def tensor_values(question: Question) -> Values:
    """Columns tp, sequence_parallel: every divisor of the devices, without and with sequence parallelism."""
    degrees = _chosen(question.request.tp, divisors(question.shape.num_devices))
    return tuple((tp, parallel) for tp in degrees for parallel in (0, 1))


def context_values(question: Question) -> Values:
    """Column cp: the divisors of the devices that leave a rank ``MIN_CONTEXT_TOKENS``."""
    train = question.train
    shortest = min(length for length in (train.sequence_length, train.source_length or train.sequence_length))
    return tuple((cp,) for cp in divisors(question.shape.num_devices) if cp == 1 or shortest // cp >= MIN_CONTEXT_TOKENS)


def pipeline_values(question: Question) -> Values:
    """Column pp: the divisors of the devices."""
    return tuple((pp,) for pp in _chosen(question.request.pp, divisors(question.shape.num_devices)))


def expert_values(question: Question) -> Values:
    """Columns ep, etp: divisors of the number of experts, and of the devices as far as they divide the width of an expert.

    Of the latter only 1 and tp are tried (``is_tried``): experts are whole, or cut as the other layers are.
    """
    counts, widths = num_experts(question.model), expert_widths(question.model)
    if not counts:
        return ((1, 1),)
    cuts = [cut for cut in divisors(question.shape.num_devices) if all(width % cut == 0 for width in widths)]
    return tuple((ep, etp) for ep in divisors(math.gcd(*counts)) for etp in cuts)


def is_tried(columns: Mapping[str, IntArray], names: tuple[str, ...]) -> BoolArray | bool:
    """Where choices of the named columns are tried beside the columns that are set, shape [N]."""
    return (columns["etp"] == 1) | (columns["etp"] == columns["tp"]) if "etp" in names else True


def schedule_values(question: Question) -> Values:
    """Columns schedule, virtual_stages: interleaved from two virtual stages up, zero-bubble with one and two, the others one."""
    most = min(question.framework.max_virtual_stages, question.model.num_layers)
    several = {PipelineSchedule.INTERLEAVED: range(2, most + 1), PipelineSchedule.ZERO_BUBBLE: (1, 2)}
    return tuple(
        (code, v)
        for code, schedule in enumerate(SCHEDULES)
        if schedule in question.framework.schedules or schedule is PipelineSchedule.ONE_F_ONE_B
        for v in several.get(schedule, (1,))
    )


def sharding_values(question: Question) -> Values:
    """Columns fsdp, zero_stage: no sharding, then every divisor of the devices as the size of the group, with each ZeRO stage."""
    sizes = _chosen(question.request.fsdp, divisors(question.shape.num_devices))
    stages = [stage for stage in question.framework.zero_stages if stage > 0]
    return tuple((size, stage) for size in sizes for stage in ((0,) if size == 1 else stages))


def saving_values(question: Question, precisions: tuple[int, ...]) -> Values:
    """Columns recompute, offload, precision: those that the framework has, with the precisions that the device has."""
    request, framework = question.request.recompute, question.framework
    offloads = question.offloads or framework.offloads
    recomputes = framework.recomputes if request is None else (request,)
    return tuple(
        (recompute, offload, precision)
        for recompute in sorted(RECOMPUTES.index(value) for value in recomputes)
        for offload in sorted(OFFLOADS.index(value) for value in offloads)
        for precision in precisions
    )


def batch_values(question: Question) -> Values:
    """Column micro_batch: the powers of two that divide the global batch, or where those are few all that divide it."""
    sizes = divisors(question.train.global_batch)
    powers = tuple(size for size in sizes if size & (size - 1) == 0)
    return tuple((size,) for size in _chosen(question.request.micro_batch, powers if len(powers) >= MIN_POWERS else sizes))
