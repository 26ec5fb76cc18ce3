"""Rules of experts, of micro-batches and of what is kept in the host's memory."""

from __future__ import annotations

import numpy as np

from planner.strategies.degree_rules import INTERLEAVED, ONE_F_ONE_B, ZERO_BUBBLE
from planner.strategies.legality import Case, Rule, RuleScope, Setting, listed, rule
from planner.strategies.table import OFFLOADS, BoolArray, StrategyTable
from trimtab.inventory import DeviceKind
from trimtab.model import ModelSpec
from trimtab.strategy import Offload

_KEPT = OFFLOADS.index(Offload.NONE)


def num_experts(model: ModelSpec) -> tuple[int, ...]:
    """Experts of each stack that has any."""
    return tuple(s.feed_forward.experts.num_experts for s in model.stacks if s.feed_forward.experts is not None)


def expert_widths(model: ModelSpec) -> tuple[int, ...]:
    """Width of an expert of each stack that has any."""
    return tuple(s.feed_forward.hidden_size for s in model.stacks if s.feed_forward.experts is not None)


def _spreads_experts(setting: Setting, table: StrategyTable) -> BoolArray:
    counts = num_experts(setting.model)
    found = table.ep == 1
    if counts:
        found = np.ones(len(table), dtype=np.bool_)
        for count in set(counts):
            found &= count % table.ep == 0
    answer: BoolArray = found
    return answer


def _cuts_experts(setting: Setting, table: StrategyTable) -> BoolArray:
    widths = expert_widths(setting.model)
    found = (table.etp == 1) | ((table.tp % table.etp == 0) & bool(widths))
    for width in set(widths):
        found &= width % table.etp == 0
    answer: BoolArray = found
    return answer


def _enough(setting: Setting, table: StrategyTable) -> BoolArray:
    """GPipe runs with fewer micro-batches than stages, and so does the 1F1B of some frameworks; stages wait."""
    needs = table.schedule == ZERO_BUBBLE
    if not setting.framework.few_micro_batches:
        needs |= table.schedule == ONE_F_ONE_B
    answer: BoolArray = ~needs | (table.num_micro_batches >= table.pp)
    return answer


def _samples(case: Case) -> str:
    s = case.strategy
    return f"{s.micro_batch} x {s.num_micro_batches} micro-batches x {s.data_ranks} data ranks = {s.global_batch}"


EXPERT_RULES: tuple[Rule, ...] = (
    rule(
        "experts-divide",
        RuleScope.DEGREES,
        "ep",
        holds=_spreads_experts,
        sentence=lambda c: f"ep {c.strategy.ep} must divide the experts of each layer ({listed(num_experts(c.model)) or 'none'})",
    ),
    rule(
        "expert-tensor-divides",
        RuleScope.DEGREES,
        "tp etp",
        holds=_cuts_experts,
        sentence=lambda c: (
            f"etp {c.strategy.etp} must divide tp {c.strategy.tp} and the width of an expert "
            f"({listed(expert_widths(c.model)) or 'there is none'})"
        ),
    ),
    rule(
        "experts-fill-ranks",
        RuleScope.DEGREES,
        "tp cp data_ranks ep etp",
        holds=lambda _, t: (t.data_ranks * t.cp * t.tp) % (t.ep * t.etp) == 0,
        sentence=lambda c: (
            f"ep {c.strategy.ep} x etp {c.strategy.etp} must divide the {c.strategy.data_ranks * c.strategy.cp * c.strategy.tp} "
            "ranks of a pipeline stage"
        ),
    ),
)

BATCH_RULES: tuple[Rule, ...] = (
    rule(
        "micro-batches-fill-global-batch",
        RuleScope.BATCH,
        "micro_batch num_micro_batches data_ranks",
        holds=lambda s, t: t.micro_batch * t.num_micro_batches * t.data_ranks == s.train.global_batch,
        sentence=lambda c: f"{_samples(c)}, but the global batch is {c.train.global_batch}",
    ),
    rule(
        "pipeline-has-micro-batches",
        RuleScope.BATCH,
        "pp schedule num_micro_batches",
        holds=_enough,
        sentence=lambda c: (
            f"{c.strategy.schedule} of {c.strategy.pp} stages needs as many micro-batches, found {c.strategy.num_micro_batches}"
        ),
        by_framework=True,
    ),
    rule(
        "interleaved-fills-rounds",
        RuleScope.BATCH,
        "pp schedule num_micro_batches",
        holds=lambda _, t: (t.schedule != INTERLEAVED) | (t.num_micro_batches % t.pp == 0),
        sentence=lambda c: (
            f"interleaved stages take micro-batches in rounds of {c.strategy.pp}, which {c.strategy.num_micro_batches} are not"
        ),
    ),
)

HOST_RULES: tuple[Rule, ...] = (
    rule(
        "offload-needs-host-memory",
        RuleScope.DEGREES,
        "offload",
        holds=lambda s, t: (t.offload == _KEPT) | (s.device_type.kind is not DeviceKind.CPU),
        sentence=lambda c: f"{c.device_type.name} computes in the host's memory already: there is nowhere to offload to",
    ),
)
