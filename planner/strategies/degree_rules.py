"""Rules of the degrees of parallelism."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from planner.strategies.job_rules import has_slices, slice_size
from planner.strategies.legality import Case, Part, Rule, RuleScope, Setting, everywhere, listed, rule
from planner.strategies.support import FRAMEWORK_SUPPORTS
from planner.strategies.table import SCHEDULES, BoolArray, IntArray, StrategyTable
from trimtab.model import ModelSpec
from trimtab.strategy import PipelineSchedule

ONE_F_ONE_B, GPIPE, INTERLEAVED, ZERO_BUBBLE = (
    SCHEDULES.index(schedule)
    for schedule in (
        PipelineSchedule.ONE_F_ONE_B,
        PipelineSchedule.GPIPE,
        PipelineSchedule.INTERLEAVED,
        PipelineSchedule.ZERO_BUBBLE,
    )
)


def _divides(column: IntArray, numbers: Iterable[int]) -> BoolArray:
    """Where the degree divides all the numbers, shape [N]."""
    found = np.ones(len(column), dtype=np.bool_)
    for number in set(numbers):
        found &= number % column == 0
    return found


def _degrees(case: Case) -> str:
    s = case.strategy
    return f"dp {s.dp} x fsdp {s.fsdp} x tp {s.tp} x cp {s.cp} x pp {s.pp} = {s.world_size}"


def _fills(setting: Setting, table: StrategyTable) -> BoolArray:
    answer: BoolArray = table.world_size == setting.shape.num_devices
    return answer


def _query_heads(model: ModelSpec) -> tuple[int, ...]:
    return tuple(stack.attention.num_heads for stack in model.stacks)


def _kv_heads(model: ModelSpec) -> tuple[int, ...]:
    """Key-value heads that are cut: those of latent attention are made of the latent on each rank, one per query head."""
    return tuple(stack.attention.num_kv_heads for stack in model.stacks if stack.attention.latent is None)


def _heads(model: ModelSpec) -> tuple[int, ...]:
    return tuple(n for stack in model.stacks for n in (stack.attention.num_heads, stack.attention.num_kv_heads))


def _cuts_heads(setting: Setting, table: StrategyTable) -> BoolArray:
    """A model without stacks has nothing to cut."""
    if not setting.model.stacks:
        answer: BoolArray = table.tp == 1
        return answer
    found = _divides(table.tp, _query_heads(setting.model))
    for number in set(_kv_heads(setting.model)):
        whole = number % table.tp == 0
        found &= whole | (table.tp % number == 0) if setting.framework.repeats_kv_heads else whole
    return found


def _columns(model: ModelSpec) -> tuple[int, ...]:
    """Widths that tensor ranks cut: those of dense blocks and of shared experts; routed experts are cut by etp."""
    blocks = [stack.feed_forward for stack in model.stacks]
    return tuple(block.hidden_size if block.experts is None else block.experts.shared_size for block in blocks)


def _within_node(setting: Setting, table: StrategyTable) -> BoolArray:
    shape, device, framework = setting.shape, setting.device_type, setting.framework
    if has_slices(device, framework):
        answer: BoolArray = slice_size(device, shape.num_devices) % table.tp == 0
        return answer
    node = shape.devices_per_node
    nodes = table.tp // node
    whole = (table.tp % node == 0) & (shape.num_nodes % np.maximum(nodes, 1) == 0)
    reach = nodes <= framework.max_tensor_nodes
    if framework.tensor_over_domain and device.domain_size > (device.devices_per_node or device.domain_size):
        reach |= table.tp <= device.domain_size
    answer = (node % table.tp == 0) | (whole & reach)
    return answer


def _node_words(case: Case) -> str:
    if has_slices(case.device_type, case.framework):
        slices = slice_size(case.device_type, case.shape.num_devices)
        return f"tp {case.strategy.tp} must divide the {slices} devices of a slice"
    return f"tp {case.strategy.tp} must divide the {case.shape.devices_per_node} devices of a node"


def _blocks(setting: Setting, table: StrategyTable) -> BoolArray:
    """A divisor of a slice splits into divisors of its axes, prime by prime, so that dividing the slice is all that is needed."""
    if not has_slices(setting.device_type, setting.framework):
        return everywhere(table, True)
    answer: BoolArray = slice_size(setting.device_type, setting.shape.num_devices) % (table.tp * table.cp) == 0
    return answer


def _cuts_vocabulary(setting: Setting, table: StrategyTable) -> BoolArray:
    answer: BoolArray = setting.framework.pads_vocabulary | (setting.model.vocab_size % table.tp == 0)
    return answer


def _cuts_sequence(setting: Setting, table: StrategyTable) -> BoolArray:
    parts = table.tp * table.cp
    lengths = (setting.train.sequence_length, setting.train.source_length)
    answer: BoolArray = (table.sequence_parallel == 0) | _divides(parts, lengths)
    return answer


def _sequence_words(case: Case) -> str:
    s, train = case.strategy, case.train
    over = f"tp {s.tp}" + (f" and cp {s.cp}" if s.cp > 1 else "")
    source = f" and the source of {train.source_length}" if train.source_length else ""
    return f"sequence parallelism over {over} must divide the sequence of {train.sequence_length} tokens{source}"


def _chunks(model: ModelSpec) -> int:
    """Chunks of a sequence on each context rank: two where a causal mask makes the first and the last of them unlike."""
    return 2 if any(stack.causal for stack in model.stacks) else 1


def _cuts_context(setting: Setting, table: StrategyTable) -> BoolArray:
    if not setting.model.stacks:
        answer: BoolArray = table.cp == 1
        return answer
    lengths = (setting.train.sequence_length, setting.train.source_length)
    answer = (table.cp == 1) | _divides(table.cp * _chunks(setting.model), lengths)
    return answer


def _stage_sum(setting: Setting, table: StrategyTable) -> BoolArray:
    found = everywhere(table, True)
    for row, split in enumerate(setting.stage_layers):
        found[row] = not split or (sum(split) == setting.model.num_layers and min(split) >= 1)
    return found


def _virtual(_: Setting, table: StrategyTable) -> BoolArray:
    several = table.virtual_stages > 1
    return np.where(
        table.schedule == INTERLEAVED, several, ~several | ((table.schedule == ZERO_BUBBLE) & (table.virtual_stages == 2))
    )


def _largest(num_layers: int, stages: IntArray) -> IntArray:
    """Layers of the largest of so many near-even stages, shape [N]."""
    return -(-num_layers // np.maximum(stages, 1))


def _shortens(setting: Setting, table: StrategyTable) -> BoolArray:
    v, num_layers = table.virtual_stages, setting.model.num_layers
    answer: BoolArray = (v == 1) | (_largest(num_layers, table.pp * v) < _largest(num_layers, table.pp * (v - 1)))
    return answer


def _even(setting: Setting, table: StrategyTable) -> BoolArray:
    if not setting.framework.even_stages:
        return everywhere(table, True)
    answer: BoolArray = (table.pp == 1) | (setting.model.num_layers % (table.pp * table.virtual_stages) == 0)
    return answer


DEGREE_RULES: tuple[Rule, ...] = (
    Rule(
        name="degrees-fill-devices",
        scope=RuleScope.DEGREES,
        parts=(
            Part(reads=frozenset({"data_ranks", "tp", "cp", "pp"}), holds=_fills),
            Part(reads=frozenset({"dp", "fsdp", "tp", "cp", "pp"}), holds=_fills),
        ),
        sentence_of=lambda c: f"{_degrees(c)} ranks, but the shape has {c.shape.num_devices} devices",
    ),
    FRAMEWORK_SUPPORTS,
    rule(
        "tensor-divides-heads",
        RuleScope.DEGREES,
        "tp",
        holds=_cuts_heads,
        sentence=lambda c: f"tp {c.strategy.tp} must divide the query and key-value heads ({listed(_heads(c.model))})",
        by_framework=True,
    ),
    rule(
        "tensor-divides-feed-forward",
        RuleScope.DEGREES,
        "tp",
        holds=lambda s, t: _divides(t.tp, _columns(s.model)),
        sentence=lambda c: f"tp {c.strategy.tp} must divide the feed-forward size ({listed(_columns(c.model))})",
    ),
    rule(
        "tensor-divides-vocabulary",
        RuleScope.DEGREES,
        "tp",
        holds=_cuts_vocabulary,
        sentence=lambda c: f"tp {c.strategy.tp} must divide the vocabulary of {c.model.vocab_size}, which is not padded",
        by_framework=True,
    ),
    rule("tensor-within-node", RuleScope.DEGREES, "tp", holds=_within_node, sentence=_node_words, by_framework=True),
    rule(
        "groups-fill-slices",
        RuleScope.DEGREES,
        "tp cp",
        holds=_blocks,
        sentence=lambda c: (
            f"tp {c.strategy.tp} x cp {c.strategy.cp} must divide the "
            f"{slice_size(c.device_type, c.shape.num_devices)} devices of a slice of {c.device_type.name}"
        ),
        by_framework=True,
    ),
    rule("sequence-divides", RuleScope.DEGREES, "tp cp sequence_parallel", holds=_cuts_sequence, sentence=_sequence_words),
    rule(
        "sequence-parallel-needs-tensor",
        RuleScope.DEGREES,
        "tp sequence_parallel",
        holds=lambda _, t: (t.sequence_parallel == 0) | (t.tp > 1),
        sentence=lambda _: "sequence parallelism shares the tensor ranks, so it needs tp above 1",
    ),
    rule(
        "context-divides-sequence",
        RuleScope.DEGREES,
        "cp",
        holds=_cuts_context,
        sentence=lambda c: (
            f"cp {c.strategy.cp} cuts each sequence into {c.strategy.cp * _chunks(c.model)} equal chunks, which "
            f"{c.train.sequence_length} tokens" + (f" and {c.train.source_length}" if c.train.source_length else "") + " are not"
        ),
    ),
    rule(
        "stages-have-layers",
        RuleScope.DEGREES,
        "pp virtual_stages",
        holds=lambda s, t: t.pp * t.virtual_stages <= max(1, s.model.num_layers),
        sentence=lambda c: (
            f"{c.strategy.pp} pipeline stages"
            + (f" x {c.strategy.virtual_stages}" if c.strategy.virtual_stages > 1 else "")
            + f", but the model has {c.model.num_layers} layers"
        ),
    ),
    rule(
        "stage-layers-cover-model",
        RuleScope.DEGREES,
        "",
        holds=_stage_sum,
        sentence=lambda c: (
            f"stage layers {listed(c.strategy.stage_layers)} add up to {sum(c.strategy.stage_layers)}, "
            f"the model has {c.model.num_layers}, and each stage needs one"
        ),
    ),
    rule(
        "schedule-needs-pipeline",
        RuleScope.DEGREES,
        "pp schedule",
        holds=lambda _, t: (t.pp > 1) | (t.schedule == ONE_F_ONE_B),
        sentence=lambda c: f"without a pipeline there is no schedule {c.strategy.schedule}: one stage is 1f1b",
    ),
    rule(
        "virtual-stages-fit-schedule",
        RuleScope.DEGREES,
        "schedule virtual_stages",
        holds=_virtual,
        sentence=lambda c: (
            f"{c.strategy.schedule} with {c.strategy.virtual_stages} virtual stages: interleaved has two or more, "
            "zero-bubble one or two, the others one"
        ),
    ),
    rule(
        "virtual-stages-shorten",
        RuleScope.DEGREES,
        "pp virtual_stages",
        holds=_shortens,
        sentence=lambda c: (
            f"{c.strategy.virtual_stages} virtual stages on each of {c.strategy.pp} leave the largest with as many of the "
            f"{c.model.num_layers} layers as {c.strategy.virtual_stages - 1} do"
        ),
    ),
    rule(
        "layers-divide-stages",
        RuleScope.DEGREES,
        "pp virtual_stages",
        holds=_even,
        sentence=lambda c: (
            f"{c.strategy.pp} x {c.strategy.virtual_stages} stages must divide the {c.model.num_layers} layers: "
            f"{c.framework.name} makes equal stages"
        ),
        by_framework=True,
    ),
    rule(
        "data-ranks-have-samples",
        RuleScope.DEGREES,
        "data_ranks",
        holds=lambda s, t: s.train.global_batch % t.data_ranks == 0,
        sentence=lambda c: f"{c.strategy.data_ranks} data ranks must divide the global batch of {c.train.global_batch}",
    ),
)
