"""Strategies: what a trainer can run, the legality rules, the stage splits and the enumerations."""

from planner.strategies.frameworks import TRIMTAB, UNLIMITED, ExpertTensor, Framework
from planner.strategies.grid import Grid, Prune, device_key, enumerate_grid
from planner.strategies.legality import Case, Rule, RuleScope, Setting
from planner.strategies.profiles import ANY, FRAMEWORKS, framework
from planner.strategies.question import Question, Refusal, divisors
from planner.strategies.rules import RULES, all_broken, first_broken, legal
from planner.strategies.space import Space, strategy_space
from planner.strategies.stages import stage_splits
from planner.strategies.table import StrategyTable

__all__ = [
    "ANY",
    "FRAMEWORKS",
    "RULES",
    "TRIMTAB",
    "UNLIMITED",
    "Case",
    "ExpertTensor",
    "Framework",
    "Grid",
    "Prune",
    "Question",
    "Refusal",
    "Rule",
    "RuleScope",
    "Setting",
    "Space",
    "StrategyTable",
    "all_broken",
    "device_key",
    "divisors",
    "enumerate_grid",
    "first_broken",
    "framework",
    "legal",
    "stage_splits",
    "strategy_space",
]
