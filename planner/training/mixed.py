"""A job on devices of several types: uneven pipeline stages and unlike replicas, one step with the slowest of each.

Every stage waits for its slowest replica, every micro-batch for the slowest stage; gradients are summed over the slowest link.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.training.groups import send_s
from planner.training.memory import Spot, spot_memory, step_memory
from planner.training.places import Array
from planner.training.step import Question, cut_of, reduce_exposed_s, slot_time, update_s, wires_of


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedStage:
    """One stage: a question per replica (N = 1) with its ``stage_layers``; ``pp`` of the table is the number of stages."""

    replicas: tuple[Question, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedStep:
    """Seconds of a step and bytes of the fullest rank."""

    step_s: float
    memory_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageCosts:
    """Seconds of stages with ``stage_layers`` layers, shape [N].

    ``layers_s`` of one micro-batch; ``before_s`` and ``after_s`` are added on the first and last stage. ``send_s`` of handing
    one micro-batch on, forward and back; ``rest_s`` once per step (gradients and optimizer).
    """

    layers_s: Array
    before_s: Array
    after_s: Array
    send_s: Array
    rest_s: Array


def stage_costs(question: Question) -> StageCosts:
    """Costs of one stage per strategy; ``pp`` of the table is the number of stages of the pipeline that it belongs to."""
    slot, size = slot_time(question), np.ones(len(question.table))
    return StageCosts(
        layers_s=question.stage_layers * slot.layer_s * size,
        before_s=slot.before_s * size,
        after_s=slot.after_s * size,
        send_s=2.0 * _handed(question) * size,
        rest_s=(reduce_exposed_s(question, slot) + update_s(question, slot.held)) * size,
    )


def stage_bytes(question: Question, *, is_first: Array, is_last: Array, flying: Array) -> Array:
    """Bytes of a rank of stages with ``stage_layers`` layers, the mean of all, that hold ``flying`` micro-batches; [N]."""
    count = question.model.layers.num_layers
    layers = count * question.stage_layers / np.maximum(1.0, count.sum(axis=0))
    return spot_memory(question, Spot(layers=layers, is_first=is_first, is_last=is_last, flying=flying)).total


def mixed_step(stages: Sequence[MixedStage]) -> MixedStep:
    """Time and memory of one step of a pipeline of unlike stages (1F1B)."""
    return unlike_replicas_step([stages])


def unlike_replicas_step(pipelines: Sequence[Sequence[MixedStage]], *, across_s: float = 0.0) -> MixedStep:
    """Time and memory of one step of several pipelines that each take their own number of micro-batches.

    The slowest sets the pace; then each stage sums its gradients, and in ``across_s`` seconds those of all pipelines are summed.
    """
    times, rest, memory = [], [], []
    for stages in pipelines:
        slots, sends = [], []
        for position, stage in enumerate(stages):
            costs = [stage_costs(question) for question in stage.replicas]
            first, last = position == 0, position == len(stages) - 1
            slots.append(max(_one(c.layers_s) + first * _one(c.before_s) + last * _one(c.after_s) for c in costs))
            sends.append(max(_one(c.send_s) for c in costs) if len(stages) > 1 else 0.0)
            rest.append(max(_one(c.rest_s) for c in costs))
            memory += [_one(step_memory(question).total) for question in stage.replicas]
        micro = float(stages[0].replicas[0].table.num_micro_batches[0])
        times.append(float(pipeline_of(np.array(slots), micro) + (micro + len(stages) - 1.0) * max(sends)))
    knobs = pipelines[0][0].replicas[0].knobs
    return MixedStep(step_s=max(times) + max(rest) + across_s + knobs.step_s, memory_bytes=max(memory))


def pipeline_of(slots: Array, micro: float) -> Array:
    """Seconds of ``micro`` micro-batches through stages with these slots, [..., S]: the slowest for each, the others once."""
    slowest = slots.max(axis=-1)
    return np.asarray(micro * slowest + (slots.sum(axis=-1) - slowest))


def across_s(num_parameters: float, gradient_bytes: float, sides: Sequence[tuple[float, float]]) -> float:
    """Seconds of summing the gradients of a model over sides of (devices, bytes per second of each), one exchange for all.

    Each side has summed and scattered its own before: every device exchanges the part that it holds in a ring over the sides.
    """
    if len(sides) < 2:
        return 0.0
    slowest = min(devices * bandwidth for devices, bandwidth in sides)
    return 2.0 * (len(sides) - 1.0) / len(sides) * num_parameters * gradient_bytes / slowest


def _handed(question: Question) -> Array:
    cut = cut_of(question)
    volume = cut.tokens[-1] * question.model.hidden * cut.width / cut.stream
    return send_s(volume, np.array([True]), wires_of(question))


def _one(values: Array) -> float:
    return float(np.asarray(values).reshape(-1)[0])
