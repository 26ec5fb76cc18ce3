"""Legality: one table of named rules. A strategy is legal where every rule holds; each refusal names the rule that does not.

The rules say what the trainer (``frameworks.py``) and the arithmetic allow, never what is sensible: slow strategies are legal and
lose on time, big ones are legal and lose on memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from planner.strategies.frameworks import Framework
from trimtab.inventory import DeviceType, Shape
from trimtab.model import ModelFamily, ModelSpec, PositionKind
from trimtab.strategy import PipelineSchedule, Precision, Strategy
from trimtab.workload import TrainWorkload


class RuleScope(StrEnum):
    """How much of a strategy a rule needs to see: the job alone, the degrees of parallelism, or micro-batches too."""

    JOB = "job"
    DEGREES = "degrees"
    BATCH = "batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One strategy on one shape of one device type, to be judged."""

    model: ModelSpec
    train: TrainWorkload
    strategy: Strategy
    device_type: DeviceType
    shape: Shape
    framework: Framework


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A named rule: where it ``holds`` the case may go on, else ``sentence`` says why not, with the numbers."""

    name: str
    scope: RuleScope
    holds: Callable[[Case], bool]
    sentence: Callable[[Case], str]


def first_broken(case: Case, scope: RuleScope) -> Rule | None:
    """The first rule of the scope, in the order of the table, that does not hold."""
    for rule in _BY_SCOPE[scope]:
        if not rule.holds(case):
            return rule
    return None


def all_broken(case: Case) -> tuple[Rule, ...]:
    """Every rule of the table that does not hold."""
    return tuple(rule for rule in RULES if not rule.holds(case))


def _precision_on_device(case: Case) -> bool:
    precision = case.train.precision
    return precision in (Precision.FP32, Precision.FP64) or str(precision) in case.device_type.peak_flops


def _has_source(case: Case) -> bool:
    return (case.model.family is ModelFamily.ENCODER_DECODER) == (case.train.source_length > 0)


def _longest(case: Case) -> int:
    return max(case.train.sequence_length, case.train.source_length)


def _degrees(case: Case) -> str:
    s = case.strategy
    return f"dp {s.dp} x fsdp {s.fsdp} x tp {s.tp} x cp {s.cp} x pp {s.pp} = {s.world_size}"


def _unsupported(case: Case) -> tuple[str, ...]:
    """What the framework does not run of this strategy, in words."""
    s, f = case.strategy, case.framework
    checks = (
        (s.zero_stage in f.zero_stages, f"ZeRO stage {s.zero_stage} (it runs {_list(f.zero_stages)})"),
        (s.cp <= f.max_context, f"context parallel {s.cp} (up to {f.max_context})"),
        (s.ep * s.etp <= f.max_expert, f"expert parallel {s.ep} x {s.etp} (up to {f.max_expert})"),
        (s.virtual_stages <= f.max_virtual_stages, f"{s.virtual_stages} virtual stages (up to {f.max_virtual_stages})"),
        (s.pp == 1 or s.schedule in f.schedules, f"the schedule {s.schedule} (it runs {_list(f.schedules)})"),
        (s.recompute in f.recomputes, f"{s.recompute} recompute (it runs {_list(f.recomputes)})"),
        (s.sequence_parallel in f.sequence_parallel, "sequence parallelism"),
        (s.offload in f.offloads, f"{s.offload} offload (it runs {_list(f.offloads)})"),
        (s.precision in f.precisions, f"{s.precision} (it runs {_list(f.precisions)})"),
        (
            s.pp == 1 or case.model.family in f.pipeline_families,
            f"a pipeline of a model of family {case.model.family}",
        ),
    )
    return tuple(text for good, text in checks if not good)


def _heads(case: Case) -> tuple[int, ...]:
    return tuple(n for stack in case.model.stacks for n in (stack.attention.num_heads, stack.attention.num_kv_heads))


def _columns(case: Case) -> tuple[int, ...]:
    return tuple(stack.feed_forward.hidden_size for stack in case.model.stacks)


def _odd_heads(case: Case) -> tuple[int, ...]:
    return tuple(stack.attention.head_size for stack in case.model.stacks if stack.attention.head_size % 2)


def _samples_per_rank(case: Case) -> str:
    s = case.strategy
    return f"{s.micro_batch} x {s.num_micro_batches} micro-batches x {s.data_ranks} data ranks = {s.global_batch}"


def _stage_sum(case: Case) -> bool:
    split = case.strategy.stage_layers
    return not split or (sum(split) == case.model.num_layers and min(split) >= 1)


def _list(values: tuple[object, ...]) -> str:
    return ", ".join(str(value) for value in values)


RULES: tuple[Rule, ...] = (
    Rule(
        name="precision-on-device",
        scope=RuleScope.JOB,
        holds=_precision_on_device,
        sentence=lambda c: (
            f"{c.device_type.name} computes {', '.join(sorted(c.device_type.peak_flops))}, not {c.train.precision}"
        ),
    ),
    Rule(
        name="framework-builds-model",
        scope=RuleScope.JOB,
        holds=lambda c: not c.framework.beyond(c.model),
        sentence=lambda c: f"the {c.framework.name} trainer does not build {', nor '.join(c.framework.beyond(c.model))}",
    ),
    Rule(
        name="source-with-encoder",
        scope=RuleScope.JOB,
        holds=_has_source,
        sentence=lambda c: (
            f"a model of family {c.model.family} with a source of {c.train.source_length} tokens: "
            "an encoder-decoder needs a source, a decoder has none"
        ),
    ),
    Rule(
        name="positions-cover-sequence",
        scope=RuleScope.JOB,
        holds=lambda c: c.model.position is not PositionKind.LEARNED or _longest(c) <= c.model.max_positions,
        sentence=lambda c: f"sequences of {_longest(c)} tokens, but the model has {c.model.max_positions} learned positions",
    ),
    Rule(
        name="degrees-fill-devices",
        scope=RuleScope.DEGREES,
        holds=lambda c: c.strategy.world_size == c.shape.num_devices,
        sentence=lambda c: f"{_degrees(c)} ranks, but the shape has {c.shape.num_devices} devices",
    ),
    Rule(
        name="framework-supports",
        scope=RuleScope.DEGREES,
        holds=lambda c: not _unsupported(c),
        sentence=lambda c: f"the {c.framework.name} trainer does not run {'; nor '.join(_unsupported(c))}",
    ),
    Rule(
        name="tensor-divides-heads",
        scope=RuleScope.DEGREES,
        holds=lambda c: all(n % c.strategy.tp == 0 for n in _heads(c)),
        sentence=lambda c: f"tp {c.strategy.tp} must divide the query and key-value heads ({_list(_heads(c))})",
    ),
    Rule(
        name="tensor-divides-feed-forward",
        scope=RuleScope.DEGREES,
        holds=lambda c: all(n % c.strategy.tp == 0 for n in _columns(c)),
        sentence=lambda c: f"tp {c.strategy.tp} must divide the feed-forward size ({_list(_columns(c))})",
    ),
    Rule(
        name="tensor-within-node",
        scope=RuleScope.DEGREES,
        holds=lambda c: c.shape.devices_per_node % c.strategy.tp == 0,
        sentence=lambda c: f"tp {c.strategy.tp} must divide the {c.shape.devices_per_node} devices of a node",
    ),
    Rule(
        name="sequence-divides",
        scope=RuleScope.DEGREES,
        holds=lambda c: (
            not c.strategy.sequence_parallel
            or (c.train.sequence_length % c.strategy.tp == 0 and c.train.source_length % c.strategy.tp == 0)
        ),
        sentence=lambda c: (
            f"sequence parallelism over tp {c.strategy.tp} must divide the sequence of {c.train.sequence_length} tokens"
            + (f" and the source of {c.train.source_length}" if c.train.source_length else "")
        ),
    ),
    Rule(
        name="sequence-parallel-needs-tensor",
        scope=RuleScope.DEGREES,
        holds=lambda c: not c.strategy.sequence_parallel or c.strategy.tp > 1,
        sentence=lambda _: "sequence parallelism shares the tensor ranks, so it needs tp above 1",
    ),
    Rule(
        name="stages-have-layers",
        scope=RuleScope.DEGREES,
        holds=lambda c: c.strategy.pp * c.strategy.virtual_stages <= c.model.num_layers,
        sentence=lambda c: f"{c.strategy.pp} pipeline stages, but the model has {c.model.num_layers} layers",
    ),
    Rule(
        name="stage-layers-cover-model",
        scope=RuleScope.DEGREES,
        holds=_stage_sum,
        sentence=lambda c: (
            f"stage layers {_list(c.strategy.stage_layers)} add up to {sum(c.strategy.stage_layers)}, "
            f"the model has {c.model.num_layers}, and each stage needs one"
        ),
    ),
    Rule(
        name="data-ranks-have-samples",
        scope=RuleScope.DEGREES,
        holds=lambda c: c.train.global_batch % c.strategy.data_ranks == 0,
        sentence=lambda c: f"{c.strategy.data_ranks} data ranks must divide the global batch of {c.train.global_batch}",
    ),
    Rule(
        name="micro-batches-fill-global-batch",
        scope=RuleScope.BATCH,
        holds=lambda c: c.strategy.global_batch == c.train.global_batch,
        sentence=lambda c: f"{_samples_per_rank(c)}, but the global batch is {c.train.global_batch}",
    ),
    Rule(
        name="pipeline-has-micro-batches",
        scope=RuleScope.BATCH,
        holds=lambda c: c.strategy.schedule is not PipelineSchedule.ONE_F_ONE_B or c.strategy.num_micro_batches >= c.strategy.pp,
        sentence=lambda c: f"1f1b of {c.strategy.pp} stages needs as many micro-batches, found {c.strategy.num_micro_batches}",
    ),
    Rule(
        name="rotary-needs-even-heads",
        scope=RuleScope.JOB,
        holds=lambda c: c.model.position is not PositionKind.ROTARY or not _odd_heads(c),
        sentence=lambda c: f"rotary positions turn pairs, and the heads have {_odd_heads(c)[0]} elements",
    ),
)

_BY_SCOPE = {scope: tuple(rule for rule in RULES if rule.scope is scope) for scope in RuleScope}
