"""Strategies: what a trainer can run, the legality rules, the stage splits and the enumeration."""

from planner.strategies.frameworks import FRAMEWORKS, TRIMTAB, Framework, framework
from planner.strategies.rules import RULES, Case, Rule, RuleScope, all_broken, first_broken
from planner.strategies.space import Question, Refusal, Space, divisors, strategy_space
from planner.strategies.stages import stage_splits

__all__ = [
    "FRAMEWORKS",
    "RULES",
    "TRIMTAB",
    "Case",
    "Framework",
    "Question",
    "Refusal",
    "Rule",
    "RuleScope",
    "Space",
    "all_broken",
    "divisors",
    "first_broken",
    "framework",
    "stage_splits",
    "strategy_space",
]
