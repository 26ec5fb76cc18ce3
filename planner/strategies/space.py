"""The strategies of one job on one shape: the values of each dimension, and what the rules refuse.

Dimensions: dp, fsdp (ZeRO stage and size of the sharding group), tp (with and without sequence parallelism), pp (schedule and
layers per stage), micro-batch and accumulation, recompute. Parts that the job fixes have one value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

from planner.strategies.frameworks import Framework
from planner.strategies.legality import Rule, RuleScope
from planner.strategies.question import Question, Refusal, divisors
from planner.strategies.rules import RULES, first_broken, first_refusals
from planner.strategies.stages import stage_splits
from planner.strategies.table import StrategyTable
from trimtab.ids import DeviceTypeName
from trimtab.inventory import DeviceKind, DeviceType, Shape
from trimtab.jobspec import StrategyRequest
from trimtab.model import ModelSpec
from trimtab.strategy import PipelineSchedule, Recompute, Strategy
from trimtab.workload import TrainWorkload

_ANY_DEVICE = DeviceType(
    name=DeviceTypeName("any"),
    kind=DeviceKind.CPU,
    memory_bytes=0,
    peak_flops=MappingProxyType({}),
    memory_bandwidth_bytes_per_s=0.0,
    source="stands for every device type",
    retrieved_on="",
)
MAX_MICRO_BATCH_CHOICES = 10
"""Micro-batches tried per choice of degrees: the divisors of the samples per data rank, thinned out evenly beyond this many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The legal strategies in a fixed order, and the refusals by rule in order of first use."""

    legal: tuple[Strategy, ...]
    refusals: tuple[Refusal, ...]


def strategy_space(question: Question) -> Space:
    """All legal strategies of a question; every refused one is counted under the rule that it breaks first.

    It lists objects, with stage splits, for a trainer whose groups keep to nodes; ``grid.py`` enumerates all dimensions.
    """
    assert not question.framework.tensor_over_domain, "the answer is kept for all device types, so no rule may look at them"
    case = question.case(Strategy(precision=question.train.precision))
    broken = first_broken(case, RuleScope.JOB)
    if broken is not None:
        return Space(legal=(), refusals=(Refusal(rule=broken.name, sentence=broken.sentence(case), strategy=None, count=1),))
    return _space(question.model, question.train, question.shape, question.request, question.framework)


@lru_cache(maxsize=512)
def _space(model: ModelSpec, train: TrainWorkload, shape: Shape, request: StrategyRequest, framework: Framework) -> Space:
    """The strategies of a question whose job rules hold: the other rules do not look at the device type."""
    question = Question(model=model, train=train, device_type=_ANY_DEVICE, shape=shape, request=request, framework=framework)
    tally = _Tally(question)
    degrees = tuple(_degrees(question))
    broken = _judged(question, degrees, RuleScope.DEGREES)
    batches = [() if rule >= 0 else tuple(_batches(question, split)) for split, rule in zip(degrees, broken, strict=True)]
    in_order = iter(_judged(question, [strategy for some in batches for strategy in some], RuleScope.BATCH))
    legal: list[Strategy] = []
    for split, refused, some in zip(degrees, broken, batches, strict=True):
        if refused >= 0:
            tally.add(RULES[refused], split)
        for strategy in some:
            position = next(in_order)
            if position < 0:
                legal.append(strategy)
            else:
                tally.add(RULES[position], strategy)
    return Space(legal=tuple(legal), refusals=tally.refusals())


def _judged(question: Question, strategies: Sequence[Strategy], scope: RuleScope) -> list[int]:
    """For each strategy the position of the first rule of the scope that it breaks, -1 where it breaks none."""
    splits = tuple(strategy.stage_layers for strategy in strategies)
    setting = replace(question.setting, stage_layers=splits)
    return [int(position) for position in first_refusals(setting, StrategyTable.of(strategies), scope)]


def _degrees(question: Question) -> Iterator[Strategy]:
    """Strategies with one sample per micro-batch: every split of the devices, with the values that the framework has."""
    num_devices, request = question.shape.num_devices, question.request
    for tp in _choices(request.tp, divisors(num_devices)):
        for pp in _choices(request.pp, divisors(max(1, num_devices // tp))):
            rest = max(1, num_devices // (tp * pp))
            for dp, fsdp in _data_degrees(rest, request):
                yield from _variants(question, Strategy(dp=dp, fsdp=fsdp, zero_stage=3 if fsdp > 1 else 0, tp=tp, pp=pp))


def _choices(fixed: int | None, free: tuple[int, ...]) -> tuple[int, ...]:
    return free if fixed is None else (fixed,)


def _data_degrees(rest: int, request: StrategyRequest) -> Iterator[tuple[int, int]]:
    """Pairs (dp, fsdp) whose product is ``rest``, or what the person fixed."""
    if request.dp is not None and request.fsdp is not None:
        yield request.dp, request.fsdp
    elif request.dp is not None:
        yield request.dp, max(1, rest // request.dp)
    else:
        for fsdp in _choices(request.fsdp, divisors(rest)):
            yield max(1, rest // fsdp), fsdp


def _variants(question: Question, base: Strategy) -> Iterator[Strategy]:
    """The base with each sharding depth, sequence parallelism, schedule and stage split that the framework runs."""
    train, framework = question.train, question.framework
    zero_stages = tuple(z for z in framework.zero_stages if z > 0) if base.fsdp > 1 else (0,)
    parallel = framework.sequence_parallel if base.tp > 1 else (False,)
    schedules = framework.schedules if base.pp > 1 else (PipelineSchedule.ONE_F_ONE_B,)
    splits: tuple[tuple[int, ...], ...] = ((),)
    if base.pp > 1:
        lengths = {"sequence_length": train.sequence_length, "source_length": train.source_length}
        splits = stage_splits(question.model, base.pp, **lengths) or ((),)
    for zero_stage in zero_stages:
        for sequence_parallel in parallel:
            for schedule in schedules:
                for split in splits:
                    yield replace(
                        base,
                        zero_stage=zero_stage,
                        sequence_parallel=sequence_parallel,
                        schedule=schedule,
                        stage_layers=split,
                        precision=train.precision,
                    )


def _batches(question: Question, degrees: Strategy) -> Iterator[Strategy]:
    """The degrees with each micro-batch and recompute."""
    per_rank = question.train.global_batch // degrees.data_ranks
    recomputes = question.framework.recomputes
    if question.request.recompute is not None:
        recomputes = (question.request.recompute,)
    for micro_batch in _choices(question.request.micro_batch, _micro_batches(per_rank, degrees.pp)):
        for recompute in recomputes:
            yield replace(
                degrees,
                micro_batch=micro_batch,
                num_micro_batches=max(1, per_rank // micro_batch),
                recompute=Recompute(recompute),
            )


def _micro_batches(per_rank: int, num_stages: int) -> tuple[int, ...]:
    """Divisors of the samples per data rank that leave enough micro-batches for the stages, at most MAX_MICRO_BATCH_CHOICES."""
    found = tuple(d for d in divisors(per_rank) if per_rank // d >= num_stages) or (1,)
    if len(found) <= MAX_MICRO_BATCH_CHOICES:
        return found
    step = (len(found) - 1) / (MAX_MICRO_BATCH_CHOICES - 1)
    return tuple(found[round(index * step)] for index in range(MAX_MICRO_BATCH_CHOICES))


class _Tally:
    """Counts refusals by rule and keeps the first example of each."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._found: dict[str, Refusal] = {}

    def add(self, rule: Rule, strategy: Strategy) -> None:
        known = self._found.get(rule.name)
        if known is None:
            sentence = rule.sentence(self._question.case(strategy))
            self._found[rule.name] = Refusal(rule=rule.name, sentence=sentence, strategy=strategy, count=1)
        else:
            self._found[rule.name] = replace(known, count=known.count + 1)

    def refusals(self) -> tuple[Refusal, ...]:
        return tuple(self._found.values())
