"""Bytes that one rank holds at its peak, for many strategies at once: the first and the last pipeline stage, the larger counts.

Sources: [K22] arXiv 2205.05198 (activations, table 2), [Z] arXiv 1910.02054 (state by ZeRO stage), [Mm] the memory report of
Megatron-LM; fused blocks term by term in ``docs/training-model.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.strategies.table import OFFLOADS, RECOMPUTES, SCHEDULES, BoolArray
from planner.training.activations import layer_kept, own_sequence
from planner.training.compute import Cut
from planner.training.places import Array
from planner.training.step import Question, cut_of
from trimtab.strategy import Offload, PipelineSchedule, Recompute

_SELECTIVE, _FULL = RECOMPUTES.index(Recompute.SELECTIVE), RECOMPUTES.index(Recompute.FULL)
_GPIPE = SCHEDULES.index(PipelineSchedule.GPIPE)
_KEPT_ON_HOST = OFFLOADS.index(Offload.ACTIVATIONS)
_STATE_ON_HOST = OFFLOADS.index(Offload.OPTIMIZER)
MOMENT_BYTES = 12.0
"""Master weight and two moments in fp32 [Z]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepMemory:
    """Bytes of the fullest rank, shape [N]; the parts add up to ``total``."""

    parameters: Array
    gradients: Array
    optimizer: Array
    activations: Array
    transient: Array
    resident: Array

    @property
    def total(self) -> Array:
        """Peak of allocated memory."""
        return self.parameters + self.gradients + self.optimizer + self.activations + self.transient + self.resident


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spot:
    """Where in its pipeline a rank stands: layers of each kind, [K, N]; whether embedding and head are there, 0 or 1; and the
    micro-batches whose activations it holds at a time, [N].
    """

    layers: Array
    is_first: Array
    is_last: Array
    flying: Array


def step_memory(question: Question) -> StepMemory:
    """Memory of the fullest rank: the first stage holds the most micro-batches, the last the logits."""
    first, last = (spot_memory(question, _end(question, last=last)) for last in (False, True))
    larger = last.total > first.total
    return StepMemory(
        **{
            name: np.where(larger, getattr(last, name), getattr(first, name))
            for name in ("parameters", "gradients", "optimizer", "activations", "transient", "resident")
        }
    )


def spot_memory(question: Question, spot: Spot) -> StepMemory:
    """Memory of a rank at one place of its pipeline."""
    table, habits = question.table, question.habits
    dense, experts = _held_parameters(question, spot)
    shards = table.fsdp * table.cp.astype(np.float64)
    spread = np.maximum(1.0, shards * table.tp / (table.ep * table.etp))
    stage = table.zero_stage

    def divided(held_bytes: float | Array, from_stage: int) -> Array:
        cut = stage >= from_stage
        return held_bytes * (dense / np.where(cut, shards, 1.0) + experts / np.where(cut, spread, 1.0))

    on_host = np.where(table.offload == _STATE_ON_HOST, 0.0, 1.0)
    return StepMemory(
        parameters=divided(np.where(stage == 3, habits.shard_bytes, habits.gather_bytes), 3),
        gradients=divided(np.where(stage == 3, habits.shard_bytes, habits.held_gradient_bytes), 2),
        optimizer=on_host * divided(np.where(stage == 3, MOMENT_BYTES - habits.shard_bytes, MOMENT_BYTES), 1),
        activations=_activations(question, cut_of(question), spot),
        transient=_transient(question, dense + experts, is_last=spot.is_last > 0),
        resident=question.knobs.resident_bytes * habits.counts_process * np.ones(len(table)),
    )


def _end(question: Question, *, last: bool) -> Spot:
    """The first or the last stage."""
    table = question.table
    one = table.pp == 1
    pp, chunks, micro = (column.astype(np.float64) for column in (table.pp, table.virtual_stages, table.num_micro_batches))
    warm = np.where(chunks > 1, pp * (1.0 + (pp - 1.0) / (pp * chunks)), pp)
    flying = np.minimum(micro, (1.0 if last else warm) + question.habits.spare_buffers)
    flying = np.where(one, 1.0, np.where(table.schedule == _GPIPE, micro, flying))
    return Spot(
        layers=_kinds_of_stage(question, last=last),
        is_first=np.where(one | (not last), 1.0, 0.0),
        is_last=np.where(one | last, 1.0, 0.0),
        flying=flying,
    )


def _held_parameters(question: Question, spot: Spot) -> tuple[Array, Array]:
    """Parameters of a stage on one tensor rank, before sharding: those that all tokens pass, and routed experts."""
    model, table = question.model, question.table
    layers = model.layers
    own_table = model.vocab * model.hidden
    head = own_table * model.has_head * (1.0 - model.is_tied * spot.is_first)
    tables = own_table * spot.is_first + head * spot.is_last
    parts = (model.before_parameters + model.position_parameters) * spot.is_first + model.after_parameters * spot.is_last
    dense = (spot.layers * layers.dense_parameters).sum(axis=0) / table.tp
    small = (spot.layers * layers.small_parameters).sum(axis=0)
    experts = (spot.layers * layers.expert_parameters).sum(axis=0) / (table.ep * table.etp)
    return dense + small + parts + tables / table.tp, experts


def _kinds_of_stage(question: Question, *, last: bool) -> Array:
    """Layers of each kind on the first or last stage, [K, N]: stacks in their order, or mixed evenly where they alternate."""
    layers, count = question.model.layers, question.model.layers.num_layers
    total = np.maximum(1.0, count.sum(axis=0))
    wanted = _layers_of(question)
    behind = (np.cumsum(count[::-1], axis=0)[::-1] - count) if last else np.cumsum(count, axis=0) - count
    in_order = np.clip(wanted - behind, 0.0, count)
    mixed = np.broadcast_to(count * wanted / total, in_order.shape)
    return np.where((layers.alternates.max(axis=0) > 0) | (question.table.virtual_stages > 1), mixed, in_order)


def _layers_of(question: Question) -> Array:
    total = question.model.layers.num_layers.sum(axis=0)
    table = question.table
    odd = np.where(total % (table.pp * table.virtual_stages) == 0, 0.0, 1.0)
    return np.where(table.pp > 1, np.maximum(1.0, question.stage_layers - odd), total)


def _activations(question: Question, cut: Cut, spot: Spot) -> Array:
    table, layers = question.table, question.model.layers
    count = layers.num_layers
    whole = layer_kept(layers, cut, question.habits)
    entry = cut.tokens * cut.width * layers.hidden / cut.stream
    scores = np.where(
        question.habits.fused_attention > 0, 0.0, 5.0 * cut.tokens * layers.num_heads / cut.tp * own_sequence(layers, cut)
    )
    some = np.where(question.habits.fused_attention > 0, whole * (1.0 - question.habits.selective_drop), whole - scores)
    kept = np.where(table.recompute == _FULL, entry, np.where(table.recompute == _SELECTIVE, some, whole))
    kept = np.where(table.offload == _KEPT_ON_HOST, 0.0, kept)
    working = np.where(table.recompute == _FULL, np.max(np.where(count > 0, whole, 0.0), axis=0), 0.0)
    spare = question.habits.spare_buffers
    ends = np.where(table.pp > 1, 2.0 * spare * question.model.hidden * cut.tokens[0] * cut.width / cut.stream, 0.0)
    head = np.where(spot.is_last > 0, _head_bytes(question), 0.0)
    return np.asarray(((spot.layers * kept).sum(axis=0) + ends) * spot.flying + working + head)


def _head_bytes(question: Question) -> Array:
    """Logits in 16 bits and their softmax in 32 with a fused loss; unfused losses hold more copies [Mm]."""
    model, table = question.model, question.table
    tokens = table.micro_batch * question.sequence / table.cp
    return model.has_head * tokens * model.vocab / table.tp * question.habits.logit_bytes


def _transient(question: Question, held: Array, *, is_last: BoolArray) -> Array:
    """What exists for a moment: 16-bit gradients of the largest matrices, or the layers that are gathered.

    ``held`` are the parameters of the stage before sharding.
    """
    model, table, habits = question.model, question.table, question.habits
    layers, count = model.layers, model.layers.num_layers
    matrix = 2.0 * layers.hidden * np.where(layers.is_moe > 0, layers.shared_columns, layers.columns) / table.tp
    largest = np.max(np.where(count > 0, matrix, 0.0), axis=0) * habits.gather_bytes
    table_gradient = np.where(is_last, model.has_head, 0.0) * model.vocab * model.hidden / table.tp * habits.gather_bytes
    whole = held * (habits.gather_bytes * 2.0 + habits.held_gradient_bytes)
    kept = np.where((habits.keeps_gathered > 0) & (table.pp > 1), whole, 0.0)
    own = layers.dense_parameters / table.tp + layers.expert_parameters / (table.ep * table.etp)
    gathered = habits.gathered_layers * np.max(np.where(count > 0, own, 0.0), axis=0) * habits.gather_bytes
    ends = np.where(is_last, model.vocab * model.hidden / table.tp, 0.0) * habits.gather_bytes
    return np.asarray(np.where(table.zero_stage == 3, np.maximum(gathered + ends, kept), largest + table_gradient))
