"""Predicted seconds of one training step for many strategies at once, part by part, from physics and the fitted constants.

``step = micro-batches x slowest stage + bubble + gradient reduction + update + fixed``. Symbols as in ``docs/training-model.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from planner.strategies.table import OFFLOADS, PRECISIONS, RECOMPUTES, SCHEDULES, StrategyTable
from planner.training.activations import layer_kept
from planner.training.compute import Cut, LayerTime, layer_time
from planner.training.groups import RankSet, Wires, exchange_s, gather_s, group, reduce_s, send_s
from planner.training.habits import HabitArrays
from planner.training.knobs import Knobs
from planner.training.layers import ModelArrays
from planner.training.places import Array, PlaceArrays
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute

_WIDTH = np.array([{Precision.FP64: 8.0, Precision.FP32: 4.0, Precision.TF32: 4.0}.get(p, 2.0) for p in PRECISIONS])
_LOW = np.array([float(p in (Precision.FP8, Precision.MXFP8, Precision.NVFP4)) for p in PRECISIONS])
_FULL, _SELECTIVE = RECOMPUTES.index(Recompute.FULL), RECOMPUTES.index(Recompute.SELECTIVE)
_ZERO_BUBBLE = SCHEDULES.index(PipelineSchedule.ZERO_BUBBLE)
_ACTIVATIONS_AWAY, _STATE_AWAY = OFFLOADS.index(Offload.ACTIVATIONS), OFFLOADS.index(Offload.OPTIMIZER)
_HOST_MEMORY = 25e9
"""Bytes per second of host memory for one device's share of an optimizer that runs there: 200 GB/s for eight devices
(assumed).
"""
_BUCKET_BYTES = 160e6
"""Gradients travel in buckets of about this size: 40 million fp32 parameters (Megatron-LM) or 25 to 200 MB (FSDP, DeepSpeed)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """What is asked: model, strategies, places, habits, constants; lengths in tokens and layers of the longest stage, [M]."""

    model: ModelArrays
    table: StrategyTable
    place: PlaceArrays
    habits: HabitArrays
    knobs: Knobs
    sequence: Array
    source: Array
    stage_layers: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepTime:
    """Seconds of a step and of its parts, shape [N]; the parts add up to ``step_s``."""

    step_s: Array
    compute_s: Array
    tensor_s: Array
    context_s: Array
    expert_s: Array
    shard_s: Array
    bubble_s: Array
    send_s: Array
    reduce_s: Array
    update_s: Array
    fixed_s: Array


def wires_of(question: Question) -> Wires:
    """What the strategies exchange over."""
    return Wires(place=question.place, knobs=question.knobs)


def cut_of(question: Question) -> Cut:
    """What each rank sees of a micro-batch."""
    table, layers = question.table, question.model.layers
    source = np.where(question.source > 0, question.source, question.sequence)
    own = np.where(layers.reads_source > 0, source, question.sequence)
    per_sample = np.where(layers.fixed_tokens > 0, layers.fixed_tokens, own)
    tp = table.tp.astype(np.float64)
    return Cut(
        tokens=np.where(layers.num_layers > 0, per_sample * table.micro_batch / table.cp, 1.0),
        sequence=question.sequence,
        source=question.source,
        tp=tp,
        stream=np.where(table.sequence_parallel > 0, tp, 1.0),
        experts=table.ep.astype(np.float64),
        expert_tp=table.etp.astype(np.float64),
        expert_tp_tokens=tp / table.etp,
        width=_WIDTH[table.precision],
        is_low=_LOW[table.precision],
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exchanges:
    """Exposed seconds of communication of one layer in one forward pass, [K, N]."""

    tensor: Array
    context: Array
    expert: Array

    def over(self, count: Array) -> tuple[Array, Array, Array]:
        """Sums over all layers, [N] each."""
        return (count * self.tensor).sum(axis=0), (count * self.context).sum(axis=0), (count * self.expert).sum(axis=0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slot:
    """Seconds of one micro-batch on one pipeline stage, forward and backward, [N]; exchanges are what stays exposed of them.

    ``layer_s`` is one layer with everything that belongs to it; ``before_s`` and ``after_s`` stand on the first and last stage.
    ``backward_s`` is the layers' computation of the backward pass, behind which gradients can travel; ``cut`` and
    ``held`` are what ``cut_of`` and ``stage_parameters`` tell of the question.
    """

    layer_s: Array
    before_s: Array
    after_s: Array
    tensor_s: Array
    context_s: Array
    expert_s: Array
    shard_s: Array
    backward_s: Array
    cut: Cut
    held: tuple[Array, Array]

    @property
    def ends(self) -> tuple[Array, Array]:
        """What stands before the layers and after them."""
        return self.before_s, self.after_s


def slot_time(question: Question) -> Slot:
    """Time of one micro-batch on the longest stage of every strategy."""
    model, table, place, knobs = question.model, question.table, question.place, question.knobs
    count, cut, held = model.layers.num_layers, cut_of(question), stage_parameters(question)
    times = layer_time(model.layers, cut, question.habits, place=place, peak=place.peak_of(table), knobs=knobs)
    full = np.where(table.recompute == _FULL, 1.0, 0.0)
    stage = question.stage_layers / np.maximum(1.0, count.sum(axis=0))
    compute = (count * (times.forward + times.backward + _again(question, times))).sum(axis=0)
    own_experts = np.where(place.is_tpu > 0, 0.0, model.layers.num_experts / table.ep)
    host = (2.5 + full) * (count * (knobs.host_s + own_experts * knobs.expert_host_s)).sum(axis=0)
    tensor, context, expert = ((2.0 + full) * part * stage for part in layer_exchanges(question, cut).over(count))
    fixed = np.where(place.is_tpu > 0, 0.0, knobs.micro_batch_s) + _slot_s(question)
    kept = _kept_away_s(question, cut) * stage
    one = soft_max(compute, host) * stage + tensor + context + expert + _adding_s(question, held) + fixed
    shard = _shard_s(question, held)
    one = np.maximum(one, kept) + knobs.shard_interference * np.minimum(one, kept)
    exposed = np.maximum(one, shard) - one + knobs.shard_interference * np.minimum(one, shard)
    before, after = ends_s(question, cut)
    return Slot(
        layer_s=(one + exposed) / question.stage_layers,
        before_s=before,
        after_s=after,
        tensor_s=tensor,
        context_s=context,
        expert_s=expert,
        shard_s=exposed,
        backward_s=(count * times.backward).sum(axis=0) * stage,
        cut=cut,
        held=held,
    )


def step_time(question: Question) -> StepTime:
    """Time of a step of every strategy."""
    table, place, knobs = question.table, question.place, question.knobs
    slot = slot_time(question)
    pp, micro = table.pp.astype(np.float64), table.num_micro_batches.astype(np.float64)
    chunks = table.virtual_stages.astype(np.float64)
    slowest, bubble = pipeline_s(table, question.model, question.stage_layers, layer_s=slot.layer_s, ends=slot.ends)
    slow = straggling(table, place, knobs)
    whole = micro * slowest
    exchanged = {name: micro * getattr(slot, name) for name in ("tensor_s", "context_s", "expert_s", "shard_s")}
    parts = exchanged | {
        "compute_s": whole - sum(exchanged.values()),
        "bubble_s": bubble,
        "send_s": _sends_s(question, slot.cut) * (micro + (pp - 1.0) / chunks),
        "reduce_s": reduce_exposed_s(question, slot),
        "update_s": update_s(question, slot.held),
        "fixed_s": knobs.step_s * np.ones_like(whole),
    }
    parts = {name: slow * seconds for name, seconds in parts.items()}
    return StepTime(step_s=sum(parts.values(), np.zeros_like(whole)), **parts)


def pipeline_s(
    table: StrategyTable, model: ModelArrays, stage_layers: Array, *, layer_s: Array, ends: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Seconds of one micro-batch on the slowest stage, and of the bubble; ``ends`` stand before and after the layers."""
    pp, (before, after) = table.pp.astype(np.float64), ends
    total = np.maximum(1.0, model.layers.num_layers.sum(axis=0))
    shorter = stage_layers - np.where(pp > 1, odd_stages(table, total), 0.0)
    end = shorter * layer_s + np.where(pp > 1, np.maximum(before, after), before + after)
    slowest = np.maximum(stage_layers * layer_s, end)
    mean = (total * layer_s + before + after) / pp
    shared = np.where(table.schedule == _ZERO_BUBBLE, 1.0 / 3.0, 1.0)
    return slowest, (pp - 1.0) / table.virtual_stages.astype(np.float64) * mean * shared


def straggling(table: StrategyTable, place: PlaceArrays, knobs: Knobs) -> Array:
    """By how much everything is slower since all wait for the slowest of many nodes."""
    return np.asarray(1.0 + knobs.straggler * np.log2(np.maximum(1.0, table.world_size / place.devices_per_node)))


def _kept_away_s(question: Question, cut: Cut) -> Array:
    """Seconds of sending the activations of all layers to the host's memory and back, beside the computation.

    XLA offloads chosen tensors of its own and schedules them behind the computation: nothing is counted on a TPU.
    """
    layers, place, table = question.model.layers, question.place, question.table
    away = (table.offload == _ACTIVATIONS_AWAY) & (table.recompute != _FULL) & (place.is_tpu == 0)
    if not away.any():
        return np.zeros(len(table))
    moved = 2.0 * (layers.num_layers * layer_kept(layers, cut, question.habits)).sum(axis=0) / place.host_link
    return np.where(away, moved, 0.0)


def _adding_s(question: Question, held: tuple[Array, Array]) -> Array:
    """Seconds of adding the weight gradients of one micro-batch to those of the others."""
    dense, experts = held
    bandwidth = question.place.memory_bandwidth * question.knobs.memory_share
    return (dense + experts) * question.habits.accumulate_bytes / bandwidth


def layer_exchanges(question: Question, cut: Cut) -> Exchanges:
    """Exposed tensor, context and expert communication of one layer, forward."""
    layers, table, place, knobs = question.model.layers, question.table, question.place, question.knobs
    tp, cp = table.tp.astype(np.float64), table.cp.astype(np.float64)
    stream = cut.tokens * layers.hidden * cut.width
    columns = group(tp, np.ones_like(tp), place)
    parts = np.where(
        table.sequence_parallel > 0,
        2.0 * gather_s(stream, columns, wires_of(question)),
        reduce_s(stream, columns, wires_of(question)),
    )
    dense_blocks = np.where(layers.is_moe > 0, np.where(table.etp > 1, 1.0 + layers.top_k, 1.0), 2.0) + layers.has_cross
    shown = np.where(columns.outside > 1, 1.0, knobs.tensor_exposed)
    tensor = np.where(tp > 1, parts * shown + knobs.meeting_s, 0.0) * dense_blocks
    heads = (layers.keys + layers.values) * cut.tokens * cp / tp * cut.width
    context = np.where(cp > 1, gather_s(heads, group(cp, tp, place), wires_of(question)), 0.0) * 1.5 * knobs.context_exposed
    ep = table.ep.astype(np.float64)
    copies = cut.tokens * layers.top_k / tp * layers.hidden * cut.width
    members = group(ep, table.etp.astype(np.float64), place)
    once = _distinct_domains(members.outside, layers.top_k)
    scattered = 2.0 * exchange_s(
        copies, members, wires_of(question), outer_share=np.where(question.habits.sends_copies_once > 0, once, 1.0)
    )
    hidden = (question.habits.hides_experts > 0) & (table.virtual_stages > 1)
    left = np.where(hidden, knobs.expert_hidden, knobs.expert_exposed)
    expert = np.where(ep > 1, scattered, 0.0) * layers.is_moe * left
    real = layers.num_layers > 0
    return Exchanges(tensor=np.where(real, tensor, 0.0), context=np.where(real, context, 0.0), expert=np.where(real, expert, 0.0))


def _distinct_domains(domains: Array, top_k: Array) -> Array:
    """Domains that the experts of a token lie in, over the number of experts: N (1 - (1 - 1/N)^K) / K for a uniform choice."""
    chosen = np.maximum(1.0, top_k)
    return domains * (1.0 - (1.0 - 1.0 / np.maximum(1.0, domains)) ** chosen) / chosen


def _again(question: Question, times: LayerTime) -> Array:
    """Seconds of what is computed again: everything, or the scores of the attention (a share of the layer where they are
    fused).
    """
    recompute = question.table.recompute
    some = np.where(question.habits.fused_attention > 0, question.knobs.selective_share * times.forward, times.attention)
    return np.where(recompute == _FULL, times.forward, np.where(recompute == _SELECTIVE, some, 0.0))


def ends_s(question: Question, cut: Cut) -> tuple[Array, Array]:
    """Seconds, forward and backward, of what stands before the layers (embedding, parts) and after (head, loss, parts)."""
    model, table, place, knobs = question.model, question.table, question.place, question.knobs
    rate = place.peak_of(table) * knobs.matmul_share
    half = np.minimum(place.peak_of(table), place.half_peak) * knobs.matmul_share
    bandwidth = place.memory_bandwidth * knobs.memory_share
    batch = table.micro_batch.astype(np.float64)
    tokens = batch * question.sequence / table.cp
    wide = tokens * model.vocab / table.tp
    head = 3.0 * 2.0 * wide * model.hidden / half + 3.0 * knobs.loss_passes * wide * 4.0 / bandwidth
    after = 3.0 * (batch * model.after_flops_per_sample + tokens * model.after_flops_per_token) / rate
    lookup = 4.0 * tokens * model.hidden * cut.width / bandwidth
    before = 3.0 * (batch * model.before_flops_per_sample + tokens * model.before_flops_per_token) / rate
    return before + lookup, model.has_head * head + after


def _shard_s(question: Question, held: tuple[Array, Array]) -> Array:
    """Seconds of gathering fully sharded parameters twice and scattering gradients once, for the layers of a stage and one
    micro-batch.
    """
    table, place, habits = question.table, question.place, question.habits
    dense, experts = held
    tp = table.tp.astype(np.float64)
    members = group(np.asarray(table.fsdp * table.cp, dtype=np.float64), tp, place)
    ep = np.maximum(1.0, table.ep * table.etp.astype(np.float64))
    expert_members = group(np.maximum(1.0, members.size * tp / ep), ep, place)
    total = np.zeros(len(table))
    for part, ranks in ((dense, members), (experts, expert_members)):
        gathers = 2.0 * _by_layer(gather_s, part * habits.gather_bytes, ranks, question)
        total = total + gathers + _by_layer(gather_s, part * habits.gradient_bytes, ranks, question)
    often = np.where((habits.keeps_gathered > 0) & (table.pp > 1), table.num_micro_batches, 1)
    return np.where(table.zero_stage == 3, total / often, 0.0)


def _by_layer(cost: Callable[..., Array], volume: Array, ranks: RankSet, question: Question) -> Array:
    """The exchange is done layer by layer: the volume is cut, each piece starts anew."""
    pieces = np.maximum(1.0, question.stage_layers)
    return pieces * cost(volume / pieces, ranks, wires_of(question)) * (volume > 0)


def stage_parameters(question: Question) -> tuple[Array, Array]:
    """Parameters of the longest stage on one tensor rank (before sharding): those that all tokens pass, and routed experts."""
    model, table = question.model, question.table
    layers, count = model.layers, model.layers.num_layers
    share = question.stage_layers / np.maximum(1.0, count.sum(axis=0))
    tables = model.vocab * model.hidden * (1.0 + (1.0 - model.is_tied) * model.has_head)
    tables = np.where(table.pp > 1, model.vocab * model.hidden, tables)
    dense = (count * layers.dense_parameters).sum(axis=0) * share / table.tp
    small = (count * layers.small_parameters).sum(axis=0) * share + model.before_parameters + model.after_parameters
    experts = (count * layers.expert_parameters).sum(axis=0) * share / (table.ep * table.etp)
    return dense + small + tables / table.tp + model.position_parameters, experts


def reduce_exposed_s(question: Question, slot: Slot) -> Array:
    """Exposed seconds of summing gradients over replicas, once per step, and of gathering updated parameters (ZeRO 1, 2)."""
    table, place, knobs, habits = question.table, question.place, question.knobs, question.habits
    dense, experts = slot.held
    tp, cp = table.tp.astype(np.float64), table.cp.astype(np.float64)
    replicas, sharded = table.dp.astype(np.float64), table.fsdp * cp
    ep = np.maximum(1.0, table.ep * table.etp.astype(np.float64))
    total = np.zeros(len(table))
    for held, inner, width in ((dense, tp, sharded), (experts, ep, np.maximum(1.0, sharded * replicas * tp / ep))):
        is_expert = held is experts
        copies = np.where(is_expert, 1.0, replicas)
        shards = group(width, inner, place)
        rest = group(copies, inner * width, place)
        gradients = held * habits.gradient_bytes
        pieces = np.maximum(1.0, gradients / _BUCKET_BYTES)
        whole = group(copies * np.where(table.zero_stage == 0, width, 1.0), inner, place)
        plain = pieces * reduce_s(gradients / pieces, whole, wires_of(question))
        scattered = pieces * (
            gather_s(gradients / pieces, shards, wires_of(question))
            + gather_s(held * habits.gather_bytes / pieces, shards, wires_of(question))
            + reduce_s(gradients / width / pieces, rest, wires_of(question))
        )
        kept = pieces * reduce_s(gradients / width / pieces, rest, wires_of(question))
        cost = np.where(table.zero_stage == 0, plain, np.where(table.zero_stage == 3, kept, scattered))
        total = total + np.where(held > 0, cost, 0.0)
    hidden = np.minimum((1.0 - knobs.data_exposed) * total, slot.backward_s)
    return total - hidden


def update_s(question: Question, held: tuple[Array, Array]) -> Array:
    """Seconds of the optimizer: parameters, gradients and two moments pass through memory, on the device or in the host."""
    table, place, knobs = question.table, question.place, question.knobs
    dense, experts = held
    shards = np.where(table.zero_stage > 0, table.fsdp * table.cp.astype(np.float64), 1.0)
    spread = np.where(table.zero_stage > 0, np.maximum(1.0, shards * table.tp / (table.ep * table.etp)), 1.0)
    own = dense / shards + experts / spread
    moved = own * knobs.update_passes * 4.0
    sent = own * (question.habits.gradient_bytes + question.habits.gather_bytes) / place.host_link
    here = moved / (place.memory_bandwidth * knobs.memory_share)
    return np.asarray(np.where(table.offload == _STATE_AWAY, sent + moved / _HOST_MEMORY, here))


def _sends_s(question: Question, cut: Cut) -> Array:
    """Exposed seconds of handing activations to the next stage and gradients back, for one micro-batch."""
    table, place = question.table, question.place
    inner = (table.tp * table.cp * table.dp * table.fsdp).astype(np.float64)
    volume = (
        cut.tokens[-1] * question.model.hidden * cut.width / np.where(question.habits.sends_by_parts > 0, table.tp, cut.stream)
    )
    once = send_s(volume, inner >= place.domain, wires_of(question))
    return np.where(table.pp > 1, 2.0 * table.virtual_stages * once, 0.0)


def _slot_s(question: Question) -> Array:
    """Seconds that each micro-batch of a pipeline over several domains waits for its neighbours, whatever is sent."""
    table, place = question.table, question.place
    inner = (table.tp * table.cp * table.dp * table.fsdp).astype(np.float64)
    return np.where((table.pp > 1) & (inner >= place.domain), question.knobs.slot_s, 0.0)


def odd_stages(table: StrategyTable, total: Array) -> Array:
    """Layers that the first and last stage have less than the longest, where the layers do not divide evenly."""
    chunks = table.pp * table.virtual_stages
    return np.where(total % chunks == 0, 0.0, 1.0)


def longest_stage(total: Array, table: StrategyTable) -> Array:
    """Layers of the longest stage: an even split, or one in which embedding and head count as a layer each."""
    chunks = (table.pp * table.virtual_stages).astype(np.float64)
    even = total / table.pp
    uneven = np.minimum(np.ceil(total / table.pp), np.ceil((total + 2.0) / chunks) * table.virtual_stages)
    return np.where(total % chunks == 0, even, uneven)


def soft_max(first: Array, second: Array) -> Array:
    """The larger of two, with a rounded corner: work that is launched in time hides the launching only on average."""
    return (first**4 + second**4) ** 0.25
