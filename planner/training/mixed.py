"""A job on devices of several types: uneven pipeline stages and unlike replicas, one step with the slowest of each.

Every stage waits for its slowest replica, every micro-batch for the slowest stage; gradients are summed over the slowest link.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.training.groups import send_s
from planner.training.memory import step_memory
from planner.training.places import Array
from planner.training.step import Question, cut_of, reduce_exposed_s, slot_time, update_s, wires_of


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedStage:
    """One stage: the number of its layers, and one question per replica (N = 1; ``pp`` of its table is the number of stages)."""

    num_layers: float
    replicas: tuple[Question, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedStep:
    """Seconds of a step and bytes of the fullest rank."""

    step_s: float
    memory_bytes: float


def mixed_step(stages: Sequence[MixedStage]) -> MixedStep:
    """Time and memory of one step of a pipeline of unlike stages (1F1B)."""
    slots, sends, rest, memory = [], [], [], []
    for position, stage in enumerate(stages):
        own = [_replica(question, stage, first=position == 0, last=position == len(stages) - 1) for question in stage.replicas]
        slots.append(max(entry.slot_s for entry in own))
        sends.append(max(entry.send_s for entry in own) if len(stages) > 1 else 0.0)
        rest.append(max(entry.rest_s for entry in own))
        memory.append(max(entry.memory_bytes for entry in own))
    table, knobs = stages[0].replicas[0].table, stages[0].replicas[0].knobs
    micro = float(table.num_micro_batches[0])
    slowest = max(slots)
    bubble = sum(slots) - slowest
    send = (micro + len(stages) - 1.0) * max(sends)
    return MixedStep(step_s=micro * slowest + bubble + send + max(rest) + knobs.step_s, memory_bytes=max(memory))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Replica:
    slot_s: float
    send_s: float
    rest_s: float
    memory_bytes: float


def _replica(question: Question, stage: MixedStage, *, first: bool, last: bool) -> _Replica:
    slot = slot_time(question)
    own = stage.num_layers * slot.layer_s + first * slot.before_s + last * slot.after_s
    reduce = reduce_exposed_s(question, slot.backward_s)
    return _Replica(
        slot_s=_one(own),
        send_s=_one(2.0 * _handed(question)),
        rest_s=_one(reduce + update_s(question)),
        memory_bytes=_one(step_memory(question).total),
    )


def _handed(question: Question) -> Array:
    cut = cut_of(question)
    volume = cut.tokens[-1] * question.model.hidden * cut.width / cut.stream
    return send_s(volume, np.array([True]), wires_of(question))


def _one(values: Array) -> float:
    return float(np.asarray(values).reshape(-1)[0])
