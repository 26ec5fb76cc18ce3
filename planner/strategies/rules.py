"""Legality: one table of named rules. A strategy is legal where every rule holds; each refusal names the rule that does not.

The rules say what the trainer (``profiles.py``) and the arithmetic allow, never what is sensible: slow strategies are legal and
lose on time, big ones are legal and lose on memory. Each rule is stated once, for a table of strategies; a single one is a table
of one row.
"""

from __future__ import annotations

import numpy as np

from planner.strategies.degree_rules import DEGREE_RULES
from planner.strategies.expert_rules import BATCH_RULES, EXPERT_RULES, HOST_RULES
from planner.strategies.job_rules import JOB_RULES
from planner.strategies.legality import Case, Part, Rule, RuleScope, Setting, conjunction
from planner.strategies.table import BoolArray, IntArray, StrategyTable


def _framework_parts() -> tuple[Part, ...]:
    return tuple(part for one in _STATED for part in one.parts if part.by_framework)


def _one_runs_all(setting: Setting, table: StrategyTable) -> BoolArray:
    """Where one framework passes every rule that looks at the framework; a named framework is judged by those rules alone."""
    found = np.full(len(table), not setting.framework.members, dtype=np.bool_)
    for member in setting.members() if setting.framework.members else ():
        found |= conjunction(_framework_parts(), member, table)
    return found


_STATED = (*JOB_RULES, *DEGREE_RULES, *EXPERT_RULES, *HOST_RULES, *BATCH_RULES)
ONE_FRAMEWORK = Rule(
    name="one-framework-runs-all",
    scope=RuleScope.DEGREES,
    parts=(Part(reads=frozenset(StrategyTable.__dataclass_fields__), holds=_one_runs_all),),
    sentence_of=lambda c: f"each part of {c.strategy.label()} is run by a framework, but no framework runs all of them",
)
RULES: tuple[Rule, ...] = (*_STATED, ONE_FRAMEWORK)
_BY_SCOPE = {scope: tuple(rule for rule in RULES if rule.scope is scope) for scope in RuleScope}


def legal(setting: Setting, table: StrategyTable) -> BoolArray:
    """Where every rule holds, shape [N]."""
    found = np.ones(len(table), dtype=np.bool_)
    for rule in RULES:
        found &= rule.holds(setting, table)
    return found


def first_refusals(setting: Setting, table: StrategyTable, scope: RuleScope) -> IntArray:
    """Position in ``RULES`` of the first rule of the scope that each strategy breaks, shape [N]; -1 where it breaks none."""
    first = np.full(len(table), -1, dtype=np.int64)
    for position, rule in enumerate(RULES):
        if rule.scope is scope:
            first[(first < 0) & ~rule.holds(setting, table)] = position
    return first


def first_broken(case: Case, scope: RuleScope) -> Rule | None:
    """The first rule of the scope, in the order of the table, that does not hold."""
    setting, table = case.setting, case.table
    return next((rule for rule in _BY_SCOPE[scope] if not rule.holds(setting, table)[0]), None)


def all_broken(case: Case) -> tuple[Rule, ...]:
    """Every rule of the table that does not hold."""
    setting, table = case.setting, case.table
    return tuple(rule for rule in RULES if not rule.holds(setting, table)[0])
