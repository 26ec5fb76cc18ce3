"""The rule ``framework-supports``: one check for each thing that a framework may not run, with its words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from planner.strategies.frameworks import ExpertTensor
from planner.strategies.legality import Case, Part, Rule, RuleScope, Setting, everywhere, listed
from planner.strategies.table import OFFLOADS, PRECISIONS, RECOMPUTES, SCHEDULES, BoolArray, IntArray, StrategyTable
from trimtab.strategy import Offload, PipelineSchedule

_T = TypeVar("_T")
_ZERO_BUBBLE = SCHEDULES.index(PipelineSchedule.ZERO_BUBBLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """``text`` says of a case that does not pass what is not run, and what is."""

    reads: str
    holds: Callable[[Setting, StrategyTable], BoolArray]
    text: Callable[[Case], str]

    @property
    def part(self) -> Part:
        return Part(reads=frozenset(self.reads.split()), holds=self.holds, by_framework=True)


def among(column: IntArray, allowed: Sequence[_T], order: Sequence[_T]) -> BoolArray:
    """Where the values of a column are allowed, shape [N]; the column holds positions in ``order``."""
    return np.array([value in allowed for value in order], dtype=np.bool_)[column]


def _stages(column: IntArray, allowed: tuple[int, ...]) -> BoolArray:
    return among(column, allowed, range(4))


def _pipelines(setting: Setting, table: StrategyTable) -> BoolArray:
    answer: BoolArray = (table.pp == 1) | (setting.model.family in setting.framework.pipeline_families)
    return answer


def _expert_tensor(setting: Setting, table: StrategyTable) -> BoolArray:
    if setting.framework.expert_tensor is ExpertTensor.FREE:
        return everywhere(table, True)
    whole = setting.framework.expert_tensor is ExpertTensor.WHOLE
    answer: BoolArray = (table.etp == 1) | ((table.etp == table.tp) & whole)
    return answer


def _sequence_parallel(setting: Setting, table: StrategyTable) -> BoolArray:
    """Without tensor ranks there is nothing to choose."""
    answer: BoolArray = (table.tp == 1) | among(table.sequence_parallel, setting.framework.sequence_parallel, (False, True))
    return answer


def _experts_in_sequence(setting: Setting, table: StrategyTable) -> BoolArray:
    experts = any(stack.feed_forward.experts is not None for stack in setting.model.stacks)
    if not (experts and setting.framework.experts_need_sequence_parallel):
        return everywhere(table, True)
    answer: BoolArray = (table.tp == 1) | (table.sequence_parallel == 1)
    return answer


def _optimizer_offload(setting: Setting, table: StrategyTable) -> BoolArray:
    held = table.offload != OFFLOADS.index(Offload.OPTIMIZER)
    answer: BoolArray = held | _stages(table.zero_stage, setting.framework.optimizer_offload_zero_stages)
    return answer


def _activation_offload(setting: Setting, table: StrategyTable) -> BoolArray:
    held = table.offload != OFFLOADS.index(Offload.ACTIVATIONS)
    answer: BoolArray = held | among(table.recompute, setting.framework.activation_offload_recomputes, RECOMPUTES)
    return answer


def _zero_words(case: Case) -> str:
    return f"ZeRO stage {case.strategy.zero_stage}"


_CHECKS = (
    _Check(
        reads="zero_stage",
        holds=lambda s, t: _stages(t.zero_stage, s.framework.zero_stages),
        text=lambda c: f"{_zero_words(c)} (it runs {listed(c.framework.zero_stages)})",
    ),
    _Check(
        reads="cp",
        holds=lambda s, t: t.cp <= s.framework.max_context,
        text=lambda c: f"context parallel {c.strategy.cp} (up to {c.framework.max_context})",
    ),
    _Check(
        reads="ep etp",
        holds=lambda s, t: t.ep * t.etp <= s.framework.max_expert,
        text=lambda c: f"expert parallel {c.strategy.ep} x {c.strategy.etp} (up to {c.framework.max_expert})",
    ),
    _Check(
        reads="virtual_stages",
        holds=lambda s, t: t.virtual_stages <= s.framework.max_virtual_stages,
        text=lambda c: f"{c.strategy.virtual_stages} virtual stages (up to {c.framework.max_virtual_stages})",
    ),
    _Check(
        reads="pp schedule",
        holds=lambda s, t: (t.pp == 1) | among(t.schedule, s.framework.schedules, SCHEDULES),
        text=lambda c: f"the schedule {c.strategy.schedule} (it runs {listed(c.framework.schedules)})",
    ),
    _Check(
        reads="recompute",
        holds=lambda s, t: among(t.recompute, s.framework.recomputes, RECOMPUTES),
        text=lambda c: f"{c.strategy.recompute} recompute (it runs {listed(c.framework.recomputes)})",
    ),
    _Check(
        reads="tp sequence_parallel",
        holds=_sequence_parallel,
        text=lambda c: f"{'' if c.strategy.sequence_parallel else 'tensor without '}sequence parallelism",
    ),
    _Check(
        reads="offload",
        holds=lambda s, t: among(t.offload, s.framework.offloads, OFFLOADS),
        text=lambda c: f"{c.strategy.offload} offload (it runs {listed(c.framework.offloads)})",
    ),
    _Check(
        reads="precision",
        holds=lambda s, t: among(t.precision, s.framework.precisions, PRECISIONS),
        text=lambda c: f"{c.strategy.precision} (it runs {listed(c.framework.precisions)})",
    ),
    _Check(
        reads="pp",
        holds=_pipelines,
        text=lambda c: f"a pipeline of a model of family {c.model.family}",
    ),
    _Check(
        reads="tp",
        holds=lambda s, t: t.tp <= s.framework.max_tensor,
        text=lambda c: f"tensor parallel {c.strategy.tp} (up to {c.framework.max_tensor})",
    ),
    _Check(
        reads="pp",
        holds=lambda s, t: t.pp <= s.framework.max_pipeline,
        text=lambda c: f"{c.strategy.pp} pipeline stages (up to {c.framework.max_pipeline})",
    ),
    _Check(
        reads="pp zero_stage",
        holds=lambda s, t: (t.pp == 1) | _stages(t.zero_stage, s.framework.pipeline_zero_stages),
        text=lambda c: f"{_zero_words(c)} beside a pipeline (it runs {listed(c.framework.pipeline_zero_stages)})",
    ),
    _Check(
        reads="dp fsdp zero_stage",
        holds=lambda s, t: (t.dp == 1) | (t.fsdp == 1) | _stages(t.zero_stage, s.framework.group_zero_stages),
        text=lambda c: f"{_zero_words(c)} in groups of {c.strategy.fsdp} of {c.strategy.data_ranks} data ranks",
    ),
    _Check(
        reads="schedule virtual_stages",
        holds=lambda s, t: (t.schedule != _ZERO_BUBBLE) | np.isin(t.virtual_stages, s.framework.zero_bubble_stages),
        text=lambda c: f"zero-bubble with {c.strategy.virtual_stages} virtual stages ({listed(c.framework.zero_bubble_stages)})",
    ),
    _Check(
        reads="tp etp",
        holds=_expert_tensor,
        text=lambda c: f"experts cut by {c.strategy.etp} beside tp {c.strategy.tp}",
    ),
    _Check(
        reads="ep etp data_ranks",
        holds=lambda s, t: s.framework.experts_over_tensor | (t.data_ranks % t.ep == 0),
        text=lambda c: f"an expert group of {c.strategy.ep} that is not within the {c.strategy.data_ranks} data ranks",
    ),
    _Check(
        reads="tp sequence_parallel",
        holds=_experts_in_sequence,
        text=lambda _: "experts beside tensor parallelism without sequence parallelism",
    ),
    _Check(
        reads="offload zero_stage",
        holds=_optimizer_offload,
        text=lambda c: f"optimizer offload with {_zero_words(c)} ({listed(c.framework.optimizer_offload_zero_stages)})",
    ),
    _Check(
        reads="offload recompute",
        holds=_activation_offload,
        text=lambda c: (
            f"activation offload with {c.strategy.recompute} recompute ({listed(c.framework.activation_offload_recomputes)})"
        ),
    ),
)


def _unsupported(case: Case) -> tuple[str, ...]:
    """What the framework does not run of this strategy, in words."""
    setting, table = case.setting, case.table
    return tuple(check.text(case) for check in _CHECKS if not check.holds(setting, table)[0])


FRAMEWORK_SUPPORTS = Rule(
    name="framework-supports",
    scope=RuleScope.DEGREES,
    parts=tuple(check.part for check in _CHECKS),
    sentence_of=lambda c: f"the {c.framework.name} trainer does not run {'; nor '.join(_unsupported(c))}",
)
