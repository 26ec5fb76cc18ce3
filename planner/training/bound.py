"""Lower bounds of step times that cost little: for every strategy of a table, and for every strategy of a place at once.

A bound leaves parts of the step out (gathers of shards, sends, gradient reduction, update, what recompute and offload add), so
that what remains depends on few columns and is computed once for each of their combinations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from planner.strategies.table import StrategyTable
from planner.training.compute import Cut, layer_time
from planner.training.places import Array
from planner.training.step import (
    Question,
    cut_of,
    ends_s,
    layer_exchanges,
    longest_stage,
    pipeline_s,
    soft_max,
    straggling,
)
from trimtab.model import ModelSpec
from trimtab.strategy import Precision, Strategy

_COLUMNS = ("tp", "sequence_parallel", "cp", "ep", "etp", "micro_batch", "precision", "virtual_stages")
"""What the time of one layer depends on, of virtual stages only whether there are several."""
_ROUNDING = 1.0 - 1e-12
"""Sums in another order differ in the last bits; a bound is below all of them."""

Ask = Callable[[StrategyTable], Question]
"""The question of the cost formulas about a table of strategies: model, place, habits and constants with M = 1."""


def step_bounds_s(ask: Ask, table: StrategyTable) -> Array:
    """Seconds that a step takes at least, with any recompute and offload; shape [N]."""
    coarse = replace(table, virtual_stages=np.minimum(table.virtual_stages, 2))
    few, row = coarse.distinct(*_COLUMNS)
    question = ask(few)
    place, model = question.place, question.model
    total = np.maximum(1.0, model.layers.num_layers.sum(axis=0))
    stage_layers = longest_stage(total, table)
    start = np.broadcast_to(np.where(place.is_tpu > 0, 0.0, question.knobs.micro_batch_s), len(few))
    ends = tuple(np.broadcast_to(end, len(few))[row] for end in ends_s(question, cut_of(question)))
    layer_s = _layer_s(question)[row] + start[row] / stage_layers
    slowest, bubble = pipeline_s(table, model, stage_layers, layer_s=layer_s, ends=(ends[0], ends[1]))
    whole = table.num_micro_batches * slowest + bubble + question.knobs.step_s
    return np.asarray(_ROUNDING * straggling(table, place, question.knobs) * whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Device-seconds that a step takes at least on one type of device, however many there are."""

    alone_s: float
    step_s: float
    straggler: float

    def bound_s(self, *, num_devices: int, devices_per_node: int) -> float:
        """Seconds of a step at least, whatever the strategy: the work is spread over all devices without loss."""
        slow = 1.0 + self.straggler * math.log2(max(1.0, num_devices / devices_per_node))
        return _ROUNDING * slow * (self.alone_s / num_devices + self.step_s)


def work_of(ask: Ask, model: ModelSpec, *, global_batch: int, precisions: Iterable[Precision]) -> Work:
    """The least work of a step. Nothing is cut and the whole batch is one micro-batch: then products and attention reach the
    largest share of the peak, and weights are read once.
    """
    experts = [stack.feed_forward.experts.num_experts for stack in model.stacks if stack.feed_forward.experts is not None]
    question = ask(
        StrategyTable.of(
            Strategy(micro_batch=global_batch, ep=max(experts, default=1), precision=precision) for precision in precisions
        )
    )
    cut = cut_of(question)
    alone = _compute_s(question, cut) + sum(ends_s(question, cut))
    knobs = question.knobs
    return Work(alone_s=float(np.min(alone)), step_s=knobs.step_s, straggler=knobs.straggler)


def _compute_s(question: Question, cut: Cut) -> Array:
    """Kernels of all layers, forward and backward, for one micro-batch."""
    place, layers = question.place, question.model.layers
    peak = place.peak_of(question.table)
    times = layer_time(layers, cut, question.habits, place=place, peak=peak, knobs=question.knobs)
    return np.asarray((layers.num_layers * (times.forward + times.backward)).sum(axis=0))


def _layer_s(question: Question) -> Array:
    """One layer, the mean of all, forward and backward with its exchanges and the adding of its gradients."""
    table, place, knobs, layers = question.table, question.place, question.knobs, question.model.layers
    count, cut = layers.num_layers, cut_of(question)
    held = np.where(place.is_tpu > 0, 0.0, layers.num_experts / table.ep)
    host = 2.5 * (count * (knobs.host_s + held * knobs.expert_host_s)).sum(axis=0)
    exchanged = 2.0 * sum(layer_exchanges(question, cut).over(count))
    parameters = (count * (layers.dense_parameters / table.tp + layers.small_parameters)).sum(axis=0)
    parameters = parameters + (count * layers.expert_parameters).sum(axis=0) / (table.ep * table.etp)
    adding = parameters * question.habits.accumulate_bytes / (place.memory_bandwidth * knobs.memory_share)
    whole = soft_max(_compute_s(question, cut), host) + exchanged + adding
    return np.asarray(whole / np.maximum(1.0, count.sum(axis=0)))
